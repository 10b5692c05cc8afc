"""The pictures the `mini` image tower learns from, and which of them are held out.

Every set is read from one data folder in mmseek's BEIR-with-images layout (`corpus.jsonl`, `queries.jsonl`, `qrels/`):

- `tiny_imagenet`: 20,000 photos of 200 ImageNet classes (`images.tar`, `labels.jsonl`);
- `caltech101`: 9,144 photos of 101 classes and a background class;
- `textbook_figures`, `apparel_women`, `aerial_ucm`, `emoji`: only pictures that are relevant to a train query and to no
  dev or test query, with the English texts that describe them.

Nothing else is trained on: in particular no picture of `imagenet1k_sample`, which is for measuring only. The pictures
of dev and test queries are opened by `duplicates` alone, to leave out what is nearly the same.
"""

import io
import json
import random
import tarfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

PHOTO_SETS = ("tiny_imagenet", "caltech101")
CAPTION_SETS = ("textbook_figures", "apparel_women", "aerial_ucm", "emoji")
CAPTION_TASKS = frozenset({"text->image", "caption->image", "description->image"})
BACKGROUND = "background google"


@dataclass(frozen=True, slots=True)
class Picture:
    """One encoded picture with what is known about it.

    `label` is a class name of a photo set (empty where there is none), `texts` are captions in English.
    """

    source: str
    name: str
    data: bytes
    label: str = ""
    texts: tuple[str, ...] = ()

    def open(self) -> Image.Image:
        """Decode to RGB; transparent pictures are laid on white."""
        with Image.open(io.BytesIO(self.data)) as image:
            return on_white(image)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Training pictures, and photos kept out of training for choosing settings."""

    train: list[Picture]
    held_out: list[Picture]


def on_white(image: Image.Image) -> Image.Image:
    """An RGB copy, transparency laid on white."""
    if image.mode in {"RGBA", "LA", "P", "PA"}:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def read_jsonl(path: Path) -> list[dict[str, object]]:
    """The objects of a JSON-lines file, in order."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def read_qrels(path: Path) -> list[tuple[str, str]]:
    """`(query id, corpus id)` pairs of a BEIR qrels file."""
    rows = path.read_text(encoding="utf-8").splitlines()[1:]
    return [(query, doc) for query, doc, *_ in (row.split("\t") for row in rows if row)]


def tiny_imagenet(folder: Path) -> list[Picture]:
    """All photos of the archive, with their ImageNet class written as the teacher's label file writes it."""
    labels: dict[str, str] = {}
    for row in read_jsonl(folder / "labels.jsonl"):
        synonyms = row["synonyms"]
        if not isinstance(synonyms, list):
            raise TypeError(f"{folder / 'labels.jsonl'}: 'synonyms' must be a list, got {synonyms!r}")
        labels[str(row["name"])] = ", ".join(synonyms)
    found = []
    with tarfile.open(folder / "images.tar") as archive:
        for member in archive:
            name = Path(member.name).name
            stream = archive.extractfile(member)
            if stream is not None and name in labels:
                found.append(Picture("tiny_imagenet", name, stream.read(), labels[name]))
    return sorted(found, key=lambda picture: picture.name)


def caltech101(folder: Path) -> list[Picture]:
    """All photos; those of the background class carry no label."""
    found = []
    for row in read_jsonl(folder / "corpus.jsonl"):
        metadata = row["metadata"]
        label = str(metadata["label"]) if isinstance(metadata, dict) else ""
        data = (folder / str(row["image"])).read_bytes()
        found.append(Picture("caltech101", str(row["id"]), data, "" if label == BACKGROUND else label))
    return found


def captioned(folder: Path, splits: tuple[str, ...] = ("train",)) -> list[Picture]:
    """Pictures relevant to a query of `splits` and to none of the other splits, with those queries' English texts."""
    texts: dict[str, list[str]] = {}
    queries = {str(row["id"]): row for row in read_jsonl(folder / "queries.jsonl")}
    closed: set[str] = set()
    for split in ("train", "dev", "test"):
        pairs = read_qrels(folder / "qrels" / f"{split}.tsv")
        if split not in splits:
            closed |= {doc for _, doc in pairs}
            continue
        for query, doc in pairs:
            row = queries[query]
            metadata = row["metadata"]
            if isinstance(metadata, dict) and metadata["task"] in CAPTION_TASKS:
                texts.setdefault(doc, []).append(str(row["text"]))
    return [
        Picture(
            folder.name, str(row["id"]), (folder / str(row["image"])).read_bytes(), "", tuple(texts[str(row["id"])])
        )
        for row in read_jsonl(folder / "corpus.jsonl")
        if str(row["id"]) in texts and str(row["id"]) not in closed
    ]


def load_pictures(data: Path, seed: int, held_out: float = 0.03) -> Pictures:
    """Read every set; a share `held_out` of the labelled photos is drawn by `seed` and kept out of training."""
    photos = tiny_imagenet(data / "tiny_imagenet") + caltech101(data / "caltech101")
    labelled = [i for i, picture in enumerate(photos) if picture.label]
    kept_out = set(random.Random(seed).sample(labelled, round(held_out * len(labelled))))  # noqa: S311 - no secret
    train = [picture for i, picture in enumerate(photos) if i not in kept_out]
    for name in CAPTION_SETS:
        train += captioned(data / name)
    return Pictures(train, [photos[i] for i in sorted(kept_out)])
