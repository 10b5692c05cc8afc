"""`mini` beside what needs no training of ours, on every set and split: hit@10 and recall@10 with 95 % intervals.

    python benchmarks/mini_compare.py [--data ../shared/data] [--teacher ../shared/teacher] [--splits dev test] [--json]

Text queries look for pictures in the whole pool, or among a query's own candidates, by

- `mini`: the shipped tower;
- `words`: all-MiniLM-L6-v2 over what is written about a picture, where the set has something that is not the query
  itself (a figure's other text, a product's description); no picture is looked at;
- `colours`: how colours are spread and a perceptual hash. Neither can be asked in words, so a query becomes the
  training picture whose text is nearest to it by MiniLM;
- `teacher`: the class probabilities of the network that the tower learned from, times MiniLM's vectors of the class
  names (ConSE, arXiv:1312.5650, the ten likeliest classes). It is a 224 px MobileNetV2, trained on 1.2 million photos.

Queries of a picture and text are asked of `mini` with its fusion (`mini`), with the plain sum (`sum`), of `words` by
the text alone (against the products' names), of `colours` by the picture alone, and of `teacher` by the sum. Intervals
are bootstraps over queries.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.embed.mini.colours import colours
from mmseek.embed.mini.tower import ImageTower, load_tower, preprocess
from mmseek.evaluation.metrics import bootstrap
from mmseek.training.mini.data import captioned, on_white, read_jsonl, read_qrels, tiny_imagenet
from mmseek.training.mini.duplicates import perceptual_hash
from mmseek.training.mini.targets import TextEncoder, minilm, name_vectors
from mmseek.training.mini.teacher import Teacher

SETS = (
    "imagenet1k_sample",
    "textbook_figures",
    "apparel_women",
    "aerial_ucm",
    "emoji",
    "nlvr_shapes",
    "xquad_pages",
)
ENGLISH = ("text->image", "caption->image", "description->image", "image+text->image")
OTHERS = ("text->image(hard negatives)", "text->document image:en")
# What else is written about a picture, by the task whose queries are something else.
WRITTEN = {
    ("textbook_figures", "text->image"): "caption",
    ("textbook_figures", "caption->image"): "alt",
    ("apparel_women", "text->image"): "description",
    ("apparel_women", "description->image"): "name",
    ("xquad_pages", "text->document image:en"): "ocr",
}
TEACHER_SIZE, LIKELIEST = 224, 10
# Of the score of `colours`, what the spread of colours counts; the hash counts the rest.
COLOUR_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Asked:
    """A task's queries: texts, the numbers of their pictures if any; relevant and candidate pictures `(q, n)`."""

    texts: list[str]
    pictures: list[int]
    relevant: Tensor
    allowed: Tensor


class Pool:
    """A set's pictures, and what each way sees of them; everything is looked at once, when it is first needed."""

    def __init__(self, folder: Path, teacher: Teacher, encode: TextEncoder, tower: ImageTower) -> None:
        self.folder, self._teacher, self._encode, self._tower = folder, teacher, encode, tower
        self.rows: list[dict[str, Any]] = read_jsonl(folder / "corpus.jsonl")

    def open(self, row: dict[str, Any]) -> Image.Image:
        with Image.open(self.folder / row["image"]) as image:
            return on_white(image)

    @lru_cache(maxsize=1)  # noqa: B019 - one pool is alive at a time
    def mini(self) -> Tensor:
        return embedded(self._tower, [self.open(row) for row in self.rows])

    @lru_cache(maxsize=1)  # noqa: B019
    def looks(self) -> Tensor:
        return torch.stack([plain_look(self.open(row)) for row in self.rows])

    @lru_cache(maxsize=1)  # noqa: B019
    def teacher(self) -> Tensor:
        size = (TEACHER_SIZE, TEACHER_SIZE)
        seen = []
        for start in range(0, len(self.rows), 32):
            shown = [self.open(row).resize(size, Image.Resampling.BICUBIC) for row in self.rows[start : start + 32]]
            seen.append(torch.from_numpy(self._teacher.features(np.stack([np.asarray(each) for each in shown]))))
        probabilities = F.linear(torch.cat(seen).float(), self._teacher.weight, self._teacher.bias).softmax(-1)
        best = probabilities.topk(LIKELIEST)
        kept = torch.zeros_like(probabilities).scatter(1, best.indices, best.values)
        return F.normalize(kept @ name_vectors(self._teacher.labels, self._encode), dim=1)

    def written(self, field: str) -> Tensor:
        texts = [str(row["metadata"].get(field) or "") for row in self.rows]
        vectors = self._encode(texts)
        vectors[[not text.strip() for text in texts]] = 0
        return vectors


@torch.no_grad()
def embedded(tower: ImageTower, images: list[Image.Image]) -> Tensor:
    """Vectors (n, 384)."""
    pixels = torch.from_numpy(np.stack([preprocess(image, tower.config.size) for image in images]))
    return torch.cat([tower(part) for part in pixels.split(16)])


def plain_look(image: Image.Image) -> Tensor:
    """Colours and a perceptual hash as one vector, whose dot product is the share of each that two have in common."""
    spread = colours(torch.from_numpy(preprocess(image)[None]))[0] * (COLOUR_SHARE / 2) ** 0.5
    signs = torch.from_numpy(np.where(perceptual_hash(image), 1.0, -1.0)).float()
    return torch.cat([spread, signs * ((1 - COLOUR_SHARE) / len(signs)) ** 0.5])


def read_asked(folder: Path, split: str, task: str, rows: list[dict[str, Any]]) -> Asked | None:
    """The queries of one task; None if the split has none."""
    number = {row["id"]: place for place, row in enumerate(rows)}
    by_file = {row["image"]: place for place, row in enumerate(rows)}
    queries = {row["id"]: row for row in read_jsonl(folder / "queries.jsonl") if row["metadata"]["task"] == task}  # type: ignore[index]
    path = folder / "qrels" / f"{split}.tsv"
    pairs = [pair for pair in read_qrels(path) if pair[0] in queries] if path.is_file() else []
    if not pairs:
        return None
    place = {query: row for row, query in enumerate(dict.fromkeys(query for query, _ in pairs))}
    relevant = torch.zeros(len(place), len(rows), dtype=torch.bool)
    relevant[[place[query] for query, _ in pairs], [number[document] for _, document in pairs]] = True
    allowed = torch.ones_like(relevant)
    chosen: list[dict[str, Any]] = [queries[query] for query in place]
    for row, query in enumerate(chosen):
        if query.get("candidates"):
            allowed[row] = False
            allowed[row, [number[each] for each in query["candidates"]]] = True
        allowed[row, [number[each] for each in query.get("exclude", [])]] = False
    pictures = [by_file[query["image"]] for query in chosen if "image" in query]
    return Asked([query["text"] for query in chosen], pictures, relevant, allowed)


def examples(data: Path, name: str, encode: TextEncoder) -> tuple[Tensor, Tensor]:
    """Texts of training pictures and these pictures' colours and hashes: of the same set, or of photos of things."""
    if name in {"textbook_figures", "apparel_women", "aerial_ucm", "emoji"}:
        known = [(text, picture) for picture in captioned(data / name) for text in picture.texts]
    else:
        known = [
            (f"a photo of a {one.label.split(',')[0]}", one) for one in tiny_imagenet(data / "tiny_imagenet")[::10]
        ]
    looks = {id(picture): plain_look(picture.open()) for _, picture in known}
    return encode([text for text, _ in known]), torch.stack([looks[id(picture)] for _, picture in known])


@torch.no_grad()
def rankings(
    pool: Pool, asked: Asked, name: str, task: str, known: tuple[Tensor, Tensor], encode: TextEncoder, tower: ImageTower
) -> dict[str, Tensor]:
    """Scores (q, n) by each way."""
    texts, scores = encode(asked.texts), {}
    if asked.pictures:
        shown = pool.mini()[asked.pictures]
        scores["mini"] = tower.compose(shown, texts) @ pool.mini().T
        scores["sum"] = F.normalize(shown + texts, dim=1) @ pool.mini().T
        scores["words"] = texts @ pool.written("name").T
        scores["colours"] = pool.looks()[asked.pictures] @ pool.looks().T
        scores["teacher"] = F.normalize(pool.teacher()[asked.pictures] + texts, dim=1) @ pool.teacher().T
        return scores
    scores["mini"] = texts @ pool.mini().T
    if (name, task) in WRITTEN:
        scores["words"] = texts @ pool.written(WRITTEN[name, task]).T
    nearest = (texts @ known[0].T).argmax(dim=1)
    scores["colours"] = known[1][nearest] @ pool.looks().T
    scores["teacher"] = texts @ pool.teacher().T
    return scores


def told(scores: Tensor, asked: Asked) -> dict[str, list[float]]:
    """hit@1, hit@10 and recall@10: mean, low, high."""
    order = scores.masked_fill(~asked.allowed, -9).argsort(dim=1, descending=True, stable=True)
    found = asked.relevant.gather(1, order).double()
    values = torch.stack(
        [found[:, 0], found[:, :10].amax(1), found[:, :10].sum(1) / asked.relevant.sum(1)], dim=1
    ).numpy()
    low, high = bootstrap(values)
    names = ("hit@1", "hit@10", "recall@10")
    return {
        metric: [round(float(each), 3) for each in (values[:, i].mean(), low[i], high[i])]
        for i, metric in enumerate(names)
    }


def measured(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each set, task and way."""
    torch.set_num_threads(args.threads)
    encode, teacher, tower = minilm(), Teacher(args.teacher), load_tower(args.weights)
    rows: list[dict[str, Any]] = []
    for name in args.sets:
        pool = Pool(args.data / name, teacher, encode, tower)
        known = None
        for split, task in itertools.product(args.splits, (*ENGLISH, *OTHERS)):
            asked = read_asked(args.data / name, split, task, pool.rows)
            if asked is None:
                continue
            known = known or examples(args.data, name, encode)
            about = {"set": name, "split": split, "task": task, "queries": len(asked.texts)}
            for way, scores in rankings(pool, asked, name, task, known, encode, tower).items():
                rows.append(about | {"way": way} | told(scores, asked))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: recall@10 with its interval, a row for each set and task, a column for each way."""
    ways = ("mini", "sum", "words", "colours", "teacher")
    lines = [f"| set, split, task | queries | {' | '.join(ways)} |", "|---" * (len(ways) + 2) + "|"]
    for key in dict.fromkeys((row["set"], row["task"], row["queries"], row["split"]) for row in rows):
        own = {row["way"]: row for row in rows if (row["set"], row["task"], row["queries"], row["split"]) == key}
        metric = "hit@1" if "image+" in key[1] or "hard" in key[1] else "recall@10"
        best = max(own[way][metric][0] for way in own)
        cells = [cell(own[way][metric], best) if way in own else "" for way in ways]
        told_by = " (hit@1)" if metric == "hit@1" else ""
        lines.append(f"| {key[0]}, {key[3]}, {key[1]}{told_by} | {key[2]:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(values: list[float], best: float) -> str:
    """A mean with its interval, the best of a row in bold."""
    mean, low, high = (f"{value:.3f}".removeprefix("0") for value in values)
    return f"{f'**{mean}**' if values[0] == best else mean} [{low}, {high}]"


def main() -> None:
    """Print the table, or the rows as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--teacher", type=Path, default=Path("../shared/teacher"))
    parser.add_argument("--weights", type=Path, help="weights file; the shipped one unless told")
    parser.add_argument("--splits", nargs="+", default=("dev",), choices=("dev", "test"))
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = measured(args)
    print(json.dumps({"rows": rows}) if args.json else table(rows))


if __name__ == "__main__":
    main()
