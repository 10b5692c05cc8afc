"""How well pictures are found by text: on held-out photos while training, on the evaluation sets afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmseek.embed.mini.tower import ImageTower, preprocess, preprocess_batch
from mmseek.training.mini.data import Picture, on_white, read_jsonl, read_qrels
from mmseek.training.mini.targets import TextEncoder


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out photos `(n, S, S, 3)`, a query vector for each of their class names, and which photos it should find."""

    pictures: np.ndarray
    queries: Tensor
    relevant: Tensor


def held_out(pictures: Sequence[Picture], encode: TextEncoder, size: int) -> HeldOut:
    """Prepare the held-out photos and one "a photo of a ..." for each of their classes."""
    names = sorted({picture.label.split(",")[0] for picture in pictures})
    relevant = torch.tensor([[picture.label.split(",")[0] == name for picture in pictures] for name in names])
    images = preprocess_batch([picture.open() for picture in pictures], size)
    return HeldOut(images, encode([f"a photo of a {name}" for name in names]), relevant)


@torch.inference_mode()
def embed(tower: ImageTower, pictures: np.ndarray, batch: int = 16) -> Tensor:
    """uint8 `(n, S, S, 3)` -> `(n, dim)`."""
    parts = [tower(torch.from_numpy(pictures[i : i + batch])) for i in range(0, len(pictures), batch)]
    return torch.cat(parts) if parts else torch.zeros(0, tower.config.dim)


def mean_average_precision(scores: Tensor, relevant: Tensor) -> float:
    """Mean over queries of average precision; `scores` and `relevant` are `(queries, pictures)`."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    found = relevant.gather(1, order).float()
    precision = found.cumsum(1) / torch.arange(1, found.shape[1] + 1)
    return float(((precision * found).sum(1) / found.sum(1)).mean())


def recall_at(scores: Tensor, relevant: Tensor, k: int) -> float:
    """Mean over queries of the share of relevant pictures among the first `k`."""
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return float((relevant.gather(1, order).float().sum(1) / relevant.float().sum(1)).mean())


def score_held_out(tower: ImageTower, held: HeldOut) -> float:
    """Mean average precision of the class names on held-out photos."""
    return mean_average_precision(held.queries @ embed(tower, held.pictures).T, held.relevant)


def score_set(
    tower: ImageTower,
    folder: Path,
    split: str,
    encode: TextEncoder,
    tasks: tuple[str, ...] = ("text->image",),
    ks: tuple[int, ...] = (1, 10),
) -> dict[str, float]:
    """Recall of a split's text queries of some tasks against all pictures of the set."""
    corpus = read_jsonl(folder / "corpus.jsonl")
    column = {str(row["id"]): i for i, row in enumerate(corpus)}
    queries = {}
    for row in read_jsonl(folder / "queries.jsonl"):
        metadata = row["metadata"]
        if isinstance(metadata, dict) and metadata["task"] in tasks:
            queries[str(row["id"])] = str(row["text"])
    pairs = [(query, doc) for query, doc in read_qrels(folder / "qrels" / f"{split}.tsv") if query in queries]
    order = {query: i for i, query in enumerate(dict.fromkeys(query for query, _ in pairs))}
    relevant = torch.zeros(len(order), len(corpus), dtype=torch.bool)
    for query, doc in pairs:
        relevant[order[query], column[doc]] = True
    images = []
    for row in corpus:
        with Image.open(folder / str(row["image"])) as image:
            images.append(preprocess(image if image.mode == "RGB" else on_white(image), tower.config.size))
    scores = encode([queries[query] for query in order]) @ embed(tower, np.stack(images)).T
    return {f"recall@{k}": recall_at(scores, relevant, k) for k in ks} | {"queries": float(len(order))}
