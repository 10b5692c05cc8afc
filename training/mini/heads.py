"""Train what follows the frozen image tower of `mini`: the correction of pictures, and the fusion of picture and text.

    python -m mmseek.training.mini.heads --data ../shared/data --teacher ../shared/teacher --work WORK \\
        --tower WORK/image_tower.safetensors --out embed/mini/image_tower.safetensors

The tower is looked at once, in a few views of every captioned picture, so that the heads see whole pools of pictures at
every step, in under a minute of training. Photos of single things teach the correction to leave such photos alone.
Pictures that a dev or test query is about, and their near-duplicates, are not used, not even as wrong answers.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.embed.mini.colours import colours
from mmseek.embed.mini.correction import Correction, Fusion
from mmseek.embed.mini.tower import ImageTower, load_tower, preprocess, read_header, save_tower
from mmseek.training.mini.data import CAPTION_SETS, PHOTO_SETS, Picture, load_pictures, read_jsonl, read_qrels
from mmseek.training.mini.duplicates import duplicates_kept
from mmseek.training.mini.reranker import COMPOSED_SET, COMPOSED_TASK, optimise, softmax_loss
from mmseek.training.mini.reranker import Plan as Optimising
from mmseek.training.mini.targets import TextEncoder, minilm, remembering

logger = logging.getLogger("mmseek.training.mini.heads")

VIEWS = 6
EVERY = 3  # of the larger set's photos a third is enough


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how strongly. `keep` holds photos where they are and sums as they are; `gate` teaches the gates.

    `shift` is added to the correction's gate in the end: in doubt a picture stays where the tower put it.
    """

    hidden: int = 512
    fusion_hidden: int = 256
    steps: int = 800
    fusion_steps: int = 600
    rate: float = 1e-3
    weight_decay: float = 0.3
    dropout: float = 0.5
    noise: float = 0.02
    photos: float = 0.5  # share of the steps
    keep: float = 60.0
    fusion_keep: float = 5.0
    gate: float = 2.0
    shift: float = -3.0
    pool: int = 500
    texts: int = 256


@dataclass(frozen=True, slots=True)
class Shown:
    """A set's pictures: what is seen of their views `(n, v, seen)`, the tower's vectors `(n, v, dim)`; and their texts.

    `texts` is `(t, dim)`, and `relevant` `(t, n)` says which pictures a text is about.
    """

    seen: Tensor
    vectors: Tensor
    texts: Tensor
    relevant: Tensor


def draw_views(image: Image.Image, size: int, rng: np.random.Generator) -> np.ndarray:
    """Views uint8 `(VIEWS, size, size, 3)`: whole, whole and flipped, cropped, and cropped and blurred.

    Blurred as a 64 px picture is, or the gate would tell small photos from large ones and not photos from drawings.
    """
    views = []
    for number in range(VIEWS):
        shown = image if number < 2 else _crop(image, rng)
        if number >= VIEWS - 2:
            shown = shown.resize((64, 64), Image.Resampling.BICUBIC)
        view = preprocess(shown, size)
        if number >= 2:
            view = np.clip(view * rng.uniform(0.9, 1.1) + rng.uniform(-12, 12), 0, 255).astype(np.uint8)
        views.append(view[:, ::-1] if number % 2 else view)
    return np.stack(views)


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    share, stretch = rng.uniform(0.7, 1), rng.uniform(0.9, 1)
    across, down = (share, share * stretch) if rng.random() < 0.5 else (share * stretch, share)
    width, height = max(1, round(image.width * across)), max(1, round(image.height * down))
    left, top = round(rng.uniform(0, image.width - width)), round(rng.uniform(0, image.height - height))
    return image.crop((left, top, left + width, top + height))


@torch.no_grad()
def look(tower: ImageTower, pictures: np.ndarray) -> tuple[Tensor, Tensor]:
    """Pictures `(n, S, S, 3)` -> features and colours `(n, seen)`, and the tower's vectors `(n, dim)`."""
    seen, vectors = [], []
    for start in range(0, len(pictures), 16):
        batch = torch.from_numpy(np.ascontiguousarray(pictures[start : start + 16]))
        out = tower.outputs(batch)
        seen.append(torch.cat([out.features, colours(batch)], dim=1))
        vectors.append(out.plain)
    return torch.cat(seen), torch.cat(vectors)


def more_texts(source: str, metadata: dict[str, object]) -> list[str]:
    """What else a set's metadata says of a picture: other captions, or a product's colour and kind."""
    if source == "aerial_ucm":
        captions = metadata["captions"]
        return [str(caption) for caption in captions] if isinstance(captions, list) else []
    if source == "textbook_figures":
        return [str(metadata["alt"])[:400]] if metadata.get("alt") else []
    if source == "apparel_women":
        colour, kind = str(metadata.get("color") or ""), str(metadata["name"]).split()[-1]
        shelf = str(metadata["category"]).rpartition("/")[2]
        return [f"{colour} {kind}", f"{colour} {shelf}", f"a {colour.lower()} {kind.lower()}", shelf]
    return []


def read_shown(
    data: Path, source: str, pictures: Sequence[Picture], tower: ImageTower, encode: TextEncoder, seed: int
) -> Shown:
    """Look at a captioned set's pictures and embed all that is said of them."""
    rng = np.random.default_rng(seed)
    views = np.concatenate([draw_views(picture.open(), tower.config.size, rng) for picture in pictures])
    seen, vectors = look(tower, views)
    said: dict[str, set[int]] = {}
    metadata = {str(row["id"]): row["metadata"] for row in read_jsonl(data / source / "corpus.jsonl")}
    for number, picture in enumerate(pictures):
        about = metadata[picture.name]
        for text in (*picture.texts, *more_texts(source, about if isinstance(about, dict) else {})):
            said.setdefault(text, set()).add(number)
    relevant = torch.zeros(len(said), len(pictures))
    for row, numbers in enumerate(said.values()):
        relevant[row, list(numbers)] = 1
    logger.info("%s", json.dumps({"set": source, "pictures": len(pictures), "texts": len(said)}))
    count = len(pictures)
    return Shown(seen.view(count, VIEWS, -1), vectors.view(count, VIEWS, -1), encode(list(said)), relevant)


def read_photos(pictures: Sequence[Picture], tower: ImageTower) -> tuple[Tensor, Tensor]:
    """Photos of single things: what is seen of them, and their vectors."""
    large, small = PHOTO_SETS
    chosen = [picture for picture in pictures if picture.source == large][::EVERY]
    chosen += [picture for picture in pictures if picture.source == small]
    return look(tower, np.stack([preprocess(picture.open(), tower.config.size) for picture in chosen]))


def any_view(rows: Tensor, rng: np.random.Generator) -> Tensor:
    """A view of each picture: the numbers `(n,)` of views for `(n, v, d)`."""
    return torch.from_numpy(rng.integers(rows.shape[1], size=rows.shape[0]))


def train_correction(sets: Sequence[Shown], photos: tuple[Tensor, Tensor], plan: Plan, seed: int) -> Correction:
    """Texts against whole pools of pictures, both ways; photos stay."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = Correction(photos[0].shape[1], plan.hidden, photos[1].shape[1], plan.dropout)
    everything = torch.cat([each.seen.flatten(0, 1) for each in sets] + [photos[0][::4]])
    head.mean, head.deviation = everything.mean(dim=0), everything.std(dim=0) + 1e-2
    share = np.array([len(each.texts) ** 0.5 for each in sets])

    def photo_loss() -> Tensor:
        rows = torch.from_numpy(rng.choice(len(photos[0]), min(384, len(photos[0])), replace=False))
        vectors, gate = head.gated(photos[1][rows], photos[0][rows])
        return plan.keep * (1 - (vectors * photos[1][rows]).sum(1)).mean() + plan.gate * F.softplus(gate).mean()

    def loss(scale: Tensor) -> Tensor:
        if rng.random() < plan.photos:
            return photo_loss()
        chosen = sets[int(rng.choice(len(sets), p=share / share.sum()))]
        count = len(chosen.seen)
        pool = torch.from_numpy(rng.choice(count, min(plan.pool, count), replace=False))
        view = any_view(chosen.seen, rng)[pool]
        vectors, gate = head.gated(chosen.vectors[pool, view], chosen.seen[pool, view])
        relevant = chosen.relevant[:, pool]
        some = torch.nonzero(relevant.sum(dim=1) > 0).flatten()
        some = some[torch.from_numpy(rng.permutation(len(some))[: plan.texts])]
        texts = chosen.texts[some] + plan.noise * torch.randn(len(some), chosen.texts.shape[1])
        scores, wanted = scale * texts @ vectors.T, relevant[some]
        told = wanted.sum(dim=0) > 0
        back = softmax_loss(scores.T[told], wanted.T[told])
        return softmax_loss(scores, wanted) + 0.5 * back + plan.gate * F.softplus(-gate).mean()

    optimise(head, plan.steps, plan.rate, Optimising(weight_decay=plan.weight_decay), loss)
    return head


def shift_gate(head: Correction, shift: float) -> None:
    """Move the gate of a trained correction."""
    last = head.gate[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.add_(shift)


@dataclass(frozen=True, slots=True)
class Requests:
    """Queries of picture and text: the pictures' numbers `(q,)`, texts `(q, dim)`, relevant and excluded `(q, n)`."""

    asked: Tensor
    texts: Tensor
    relevant: Tensor
    excluded: Tensor


def read_requests(folder: Path, pictures: Sequence[Picture], encode: TextEncoder) -> Requests:
    """The train split's requests whose own picture and at least one answer are among `pictures`."""
    number = {picture.name: row for row, picture in enumerate(pictures)}
    by_file = {str(row["image"]): str(row["id"]) for row in read_jsonl(folder / "corpus.jsonl")}
    queries = {str(row["id"]): row for row in read_jsonl(folder / "queries.jsonl")}
    answers: dict[str, list[int]] = {}
    for query, document in read_qrels(folder / "qrels" / "train.tsv"):
        row = queries[query]
        metadata = row["metadata"]
        composed = isinstance(metadata, dict) and metadata["task"] == COMPOSED_TASK
        if composed and by_file[str(row["image"])] in number and document in number:
            answers.setdefault(query, []).append(number[document])
    relevant = torch.zeros(len(answers), len(pictures))
    excluded = torch.zeros(len(answers), len(pictures), dtype=torch.bool)
    for place, (query, rows) in enumerate(answers.items()):
        relevant[place, rows] = 1
        hidden = queries[query].get("exclude", [])
        excluded[place, [number[each] for each in hidden if each in number]] = True  # type: ignore[attr-defined]
    asked = torch.tensor([number[by_file[str(queries[query]["image"])]] for query in answers])
    logger.info("%s", json.dumps({"set": folder.name, "requests": len(answers)}))
    return Requests(asked, encode([str(queries[query]["text"]) for query in answers]), relevant, excluded)


def train_fusion(requests: Requests, pool: Tensor, others: tuple[Tensor, Tensor], plan: Plan, seed: int) -> Fusion:
    """Requests against the pool's pictures `(n, v, dim)`; pictures beside other texts, `(m, dim)`, keep their sum."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = Fusion(pool.shape[2], plan.fusion_hidden, plan.dropout)
    everyone, batch = torch.arange(len(pool)), 128

    def loss(scale: Tensor) -> Tensor:
        rows = torch.from_numpy(rng.choice(len(requests.texts), min(batch, len(requests.texts)), replace=False))
        shown = pool[everyone, any_view(pool, rng)]
        asked = pool[requests.asked[rows], torch.from_numpy(rng.integers(pool.shape[1], size=len(rows)))]
        texts = requests.texts[rows] + plan.noise * torch.randn(len(rows), pool.shape[2])
        vectors, gate = head.gated(asked, texts)
        scores = (scale * vectors @ shown.T).masked_fill(requests.excluded[rows], -1e4)
        value = softmax_loss(scores, requests.relevant[rows]) + plan.gate * F.softplus(-gate).mean()
        # Half of them beside their own texts, half beside any text.
        first = torch.from_numpy(rng.choice(len(others[0]), min(batch, len(others[0])), replace=False))
        second = first if rng.random() < 0.5 else first[torch.from_numpy(rng.permutation(len(first)))]
        texts = others[1][second] + plan.noise * torch.randn(len(second), pool.shape[2])
        vectors, gate = head.gated(others[0][first], texts)
        plain = F.normalize(others[0][first] + texts, dim=-1)
        return value + plan.fusion_keep * (1 - (vectors * plain).sum(1)).mean() + plan.gate * F.softplus(gate).mean()

    optimise(head, plan.fusion_steps, plan.rate, Optimising(weight_decay=plan.weight_decay), loss)
    return head


@torch.no_grad()
def corrected(head: Correction, shown: Shown) -> Tensor:
    """The views' vectors after the correction, `(n, v, dim)`."""
    moved: Tensor = head(shown.vectors.flatten(0, 1), shown.seen.flatten(0, 1))
    return moved.view_as(shown.vectors)


def beside(sets: Sequence[Shown], vectors: Sequence[Tensor], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pictures and a text about each, at most 1,500 pairs of a set."""
    pictures, texts = [], []
    for shown, corrected_ in zip(sets, vectors, strict=True):
        pairs = torch.nonzero(shown.relevant)
        pairs = pairs[torch.from_numpy(rng.permutation(len(pairs))[:1500])]
        pictures.append(corrected_[pairs[:, 1], 0])
        texts.append(shown.texts[pairs[:, 0]])
    return torch.cat(pictures), torch.cat(texts)


def assemble(tower: ImageTower, correction: Correction, fusion: Fusion, plan: Plan) -> ImageTower:
    """The tower with both heads, in eval mode."""
    config = replace(tower.config, correction=plan.hidden, fusion=plan.fusion_hidden)
    made = ImageTower(config).eval()
    state = tower.state_dict()
    state |= {f"correction.{name}": value for name, value in correction.state_dict().items()}
    state |= {f"fusion.{name}": value for name, value in fusion.state_dict().items()}
    made.load_state_dict(state)
    return made


def bare(tower: ImageTower) -> ImageTower:
    """The tower without heads."""
    made = ImageTower(replace(tower.config, correction=0, fusion=0)).eval()
    made.load_state_dict(
        {k: v for k, v in tower.state_dict().items() if k.split(".")[0] not in {"correction", "fusion"}}
    )
    return made.to(memory_format=torch.channels_last)


def main(argv: list[str] | None = None) -> None:
    """Look at everything, train both heads, write the tower with them."""
    parser = argparse.ArgumentParser(prog="python -m mmseek.training.mini.heads")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--teacher", type=Path, required=True, help="folder of the teacher, to find near-duplicates")
    parser.add_argument("--work", type=Path, required=True, help="folder of the tower's run: its texts and duplicates")
    parser.add_argument("--tower", type=Path, required=True, help="weights of the trained tower")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plan, tower, encode = Plan(), bare(load_tower(args.tower)), remembering(minilm(), args.work / "texts.npz")
    pictures = load_pictures(args.data, args.seed).train
    left_out = set(duplicates_kept(args.work, args.data, args.teacher, pictures))
    kept = [picture for row, picture in enumerate(pictures) if row not in left_out]
    by_set = {name: [picture for picture in kept if picture.source == name] for name in CAPTION_SETS}
    sets = {
        name: read_shown(args.data, name, shown, tower, encode, args.seed) for name, shown in by_set.items() if shown
    }
    correction = train_correction(list(sets.values()), read_photos(kept, tower), plan, args.seed)
    vectors = {name: corrected(correction, shown) for name, shown in sets.items()}
    requests = read_requests(args.data / COMPOSED_SET, by_set[COMPOSED_SET], encode)
    others = beside(list(sets.values()), list(vectors.values()), np.random.default_rng(args.seed))
    fusion = train_fusion(requests, vectors[COMPOSED_SET], others, plan, args.seed)
    shift_gate(correction, plan.shift)
    about = {name: value for name, value in read_header(args.tower).items() if name not in {"version", "config"}}
    about["heads"] = json.dumps(asdict(plan) | {"seed": args.seed})
    save_tower(assemble(tower, correction, fusion, plan), args.out, about)
    logger.info("%s", json.dumps({"written": str(args.out), "bytes": args.out.stat().st_size}))


if __name__ == "__main__":
    main()
