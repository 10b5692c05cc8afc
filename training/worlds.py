"""A world of coloured shapes, in which only the instruction says what to look for.

Each picture shows one shape in one colour. Asked for the same colour, a picture of another shape in that colour is
right; asked for the same shape, one of another colour. Nothing in the picture says which, so that an encoder that does
not read the instruction is right half the time at most. Some combinations are never trained on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import PIL.Image
import PIL.ImageDraw

__all__ = ["COLOURS", "INSTRUCTIONS", "SHAPES", "WORDS", "World", "draw"]

COLOURS: Final[Mapping[str, tuple[int, int, int]]] = MappingProxyType(
    {
        "red": (215, 40, 40),
        "green": (40, 160, 60),
        "blue": (45, 80, 210),
        "yellow": (235, 205, 40),
        "purple": (145, 60, 175),
        "black": (25, 25, 25),
    }
)
SHAPES: Final = ("circle", "square", "triangle", "cross", "ring", "bar")
INSTRUCTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {"colour": "Find a picture of the same colour", "shape": "Find a picture of the same shape"}
)
WORDS: Final = tuple(dict.fromkeys(" ".join((*INSTRUCTIONS.values(), "Represent the given image .")).split()))
"""All words that are ever read, for `tiny_qwen_vl`."""

_SIDE: Final = 56


def draw(colour: str, shape: str, rng: np.random.Generator) -> PIL.Image.Image:
    """A picture of 56 x 56 pixels: the shape somewhere near the middle, in about its colour, on a light ground."""
    ground = tuple(int(each) for each in rng.integers(215, 256, 3))
    picture = PIL.Image.new("RGB", (_SIDE, _SIDE), ground)
    ink = tuple(int(np.clip(each + rng.integers(-15, 16), 0, 255)) for each in COLOURS[colour])
    radius, (x, y) = int(rng.integers(17, 24)), rng.integers(24, 33, 2).tolist()
    pen = PIL.ImageDraw.Draw(picture)
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pen.ellipse(box, fill=ink)
    elif shape == "square":
        pen.rectangle(box, fill=ink)
    elif shape == "triangle":
        corners = [(x + radius * math.sin(angle), y - radius * math.cos(angle)) for angle in (0, 2.094, 4.189)]
        pen.polygon(corners, fill=ink)
    elif shape == "cross":
        pen.line((x - radius, y - radius, x + radius, y + radius), fill=ink, width=9)
        pen.line((x - radius, y + radius, x + radius, y - radius), fill=ink, width=9)
    elif shape == "ring":
        pen.ellipse(box, outline=ink, width=7)
    else:
        pen.rectangle((x - radius, y - 5, x + radius, y + 5), fill=ink)
    return picture


@dataclass(frozen=True, slots=True)
class World:
    """Pictures of every combination, and what to train and test on.

    Args:
        folder: made if it is not there.
        copies: pictures of each combination for training; a quarter as many again for the test.
        seed: of the drawings.
    """

    folder: Path
    copies: int = 8
    seed: int = 0

    def held_out(self, colour: str, shape: str) -> bool:
        """Whether a combination is for the test alone: one shape of each colour."""
        return list(COLOURS).index(colour) == SHAPES.index(shape)

    def write(self) -> tuple[Path, Path]:
        """Draw everything. Returns the file of triples and the folder of the test, both for `mmseek`."""
        (self.folder / "test" / "images").mkdir(parents=True, exist_ok=True)
        (self.folder / "train").mkdir(exist_ok=True)
        rng = np.random.default_rng(self.seed)
        train = list(self._pictures("train", self.copies, rng, held_out=False))
        rows = [self._row(number, what, train) for number in range(len(train)) for what in INSTRUCTIONS]
        triples = self.folder / "triples.jsonl"
        triples.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        self._test(rng)
        return triples, self.folder / "test"

    def _pictures(
        self, name: str, copies: int, rng: np.random.Generator, *, held_out: bool | None
    ) -> Iterator[tuple[str, str, str]]:
        """Path, colour and shape of each, drawn on the way; `held_out` None is for all combinations."""
        for colour in COLOURS:
            for shape in SHAPES:
                if held_out is not None and self.held_out(colour, shape) != held_out:
                    continue
                for copy in range(copies):
                    path = f"{name}/{colour}-{shape}-{copy}.png"
                    draw(colour, shape, rng).save(self.folder / path)
                    yield path, colour, shape

    def _row(self, number: int, what: str, pictures: list[tuple[str, str, str]]) -> dict[str, object]:
        path, colour, shape = pictures[number]
        right = [
            {"image": other}
            for other, its_colour, its_shape in pictures
            if (its_colour == colour) != (its_shape == shape) and (its_colour == colour) == (what == "colour")
        ]
        return {"query": {"image": path}, "positives": right, "instruction": INSTRUCTIONS[what]}

    def _test(self, rng: np.random.Generator) -> None:
        test = self.folder / "test"
        copies = max(1, self.copies // 4)
        pool = list(self._pictures("test/images", copies, rng, held_out=None))
        names = [Path(path).stem for path, _, _ in pool]
        corpus = [
            {"id": name, "image": f"images/{name}.png", "metadata": {"colour": colour, "shape": shape}}
            for name, (_, colour, shape) in zip(names, pool, strict=True)
        ]
        queries, qrels = [], ["query-id\tcorpus-id\tscore"]
        for name, (_, colour, shape) in zip(names, pool, strict=True):
            if not self.held_out(colour, shape):
                continue
            # A picture of the same combination would be right either way.
            same = [other for other, (_, c, s) in zip(names, pool, strict=True) if (c, s) == (colour, shape)]
            for what, instruction in INSTRUCTIONS.items():
                asked = {"id": f"{what}:{name}", "image": f"images/{name}.png", "exclude": same}
                queries.append({**asked, "instruction": instruction, "metadata": {"task": what}})
                for other, (_, its_colour, its_shape) in zip(names, pool, strict=True):
                    if other not in same and (its_colour == colour if what == "colour" else its_shape == shape):
                        qrels.append(f"{what}:{name}\t{other}\t1")
        (test / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in corpus))
        (test / "queries.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in queries))
        (test / "qrels").mkdir(exist_ok=True)
        (test / "qrels" / "test.tsv").write_text("\n".join(qrels) + "\n")
