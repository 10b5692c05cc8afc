"""Views of the training pictures with the teacher's answer to each, kept on disk.

A view is what both networks see: the student is asked for the teacher's answer to this very crop ("a good teacher is
patient and consistent", Beyer et al. 2022, arXiv:2106.05237). A quarter of the views mixes two pictures (mixup or
cutmix), which takes the student further from the few classes that the training photos show; the teacher judges the
mixture itself. Set `k` holds one view of every picture:

- `crops_k.npy` uint8 `(pictures, CROP, CROP, 3)`, `features_k.npy` float16 `(pictures, features)`,
  `mixed_k.npy` bool `(pictures,)`, and `done_k.json`, written last, by which a finished set is known.
"""

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmseek.training.mini.data import Picture
from mmseek.training.mini.teacher import TEACHER_SIZE, Teacher

CROP = 112
WHOLE_SHARE = 0.25
MIXED_SHARE = 0.25
CHUNK = 256
FILES = ("crops", "features", "mixed")

Box = tuple[float, float, float, float]
Featuriser = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class CropSet:
    """One view of every training picture: crops `(n, CROP, CROP, 3)`, features `(n, d)`, mixed `(n,)`."""

    crops: np.ndarray
    features: np.ndarray
    mixed: np.ndarray


def draw_box(width: int, height: int, rng: np.random.Generator) -> Box:
    """A random part of the picture: the whole of it, or 30 to 100 % of its area at an aspect of 3:4 to 4:3."""
    if rng.random() < WHOLE_SHARE:
        return (0.0, 0.0, float(width), float(height))
    area = width * height * rng.uniform(0.3, 1.0)
    aspect = float(np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3))))
    w, h = min(float(width), (area * aspect) ** 0.5), min(float(height), (area / aspect) ** 0.5)
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return (x, y, x + w, y + h)


def draw_pair(picture: Picture, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same random part at the student's and at the teacher's size, uint8 `(S, S, 3)` each."""
    image = picture.open()
    box = draw_box(*image.size, rng)
    flip = rng.random() < 0.5
    both = []
    for size in (CROP, TEACHER_SIZE):
        view = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
        both.append(view[:, ::-1] if flip else view)
    return both[0], both[1]


def mix(first: np.ndarray, second: np.ndarray, how: float, where: tuple[float, float], share: float) -> np.ndarray:
    """Blend (`how` < 0.5) or paste a rectangle of `share` of each side at `where` (fractions of the free room)."""
    if how < 0.5:
        return np.rint(first * (1 - share) + second * share).astype(np.uint8)
    size = len(first)
    side = round(size * (0.4 + share / 2))
    y, x = (round(part * (size - side)) for part in where)
    out = first.copy()
    out[y : y + side, x : x + side] = second[y : y + side, x : x + side]
    return out


def draw_view(pictures: list[Picture], index: int, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, bool]:
    """The view of picture `index` for a seed: student's crop, teacher's crop, and whether two pictures are mixed."""
    rng = np.random.default_rng((*seed, index))
    small, large = draw_pair(pictures[index], rng)
    if rng.random() >= MIXED_SHARE:
        return small, large, False
    small2, large2 = draw_pair(pictures[int(rng.integers(len(pictures)))], rng)
    how, where, share = rng.random(), (rng.random(), rng.random()), rng.uniform(0.25, 0.5)
    return mix(small, small2, how, where, share), mix(large, large2, how, where, share), True


def fill(pictures: list[Picture], span: range, seed: tuple[int, ...], featurise: Featuriser, folder: Path) -> int:
    """Write the rows `span` of set `seed[-1]`; returns how many."""
    arrays = {name: np.load(folder / f"{name}_{seed[-1]}.npy", mmap_mode="r+") for name in FILES}
    for start in range(span.start, span.stop, CHUNK):
        rows = range(start, min(start + CHUNK, span.stop))
        views = [draw_view(pictures, i, seed) for i in rows]
        part = slice(rows.start, rows.stop)
        arrays["crops"][part] = np.stack([view[0] for view in views])
        arrays["features"][part] = featurise(np.stack([view[1] for view in views]))
        arrays["mixed"][part] = [view[2] for view in views]
    return len(span)


def _fill_with_teacher(pictures: list[Picture], span: range, seed: tuple[int, ...], teacher: Path, folder: Path) -> int:
    torch.set_num_threads(1)
    return fill(pictures, span, seed, Teacher(teacher).features, folder)


def allocate(folder: Path, number: int, pictures: int, features: int) -> None:
    """Make the empty files of a set."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "crops": ((pictures, CROP, CROP, 3), np.uint8),
        "features": ((pictures, features), np.float16),
        "mixed": ((pictures,), np.bool_),
    }
    for name, (shape, kind) in shapes.items():
        np.lib.format.open_memmap(folder / f"{name}_{number}.npy", mode="w+", dtype=kind, shape=shape)


def finish(folder: Path, number: int, about: dict[str, int]) -> None:
    """Mark a set as complete."""
    (folder / f"done_{number}.json").write_text(json.dumps(about), encoding="utf-8")


def build_set(pictures: list[Picture], teacher: Path, folder: Path, number: int, seed: int, workers: int) -> None:
    """Draw and judge one view of every picture, `workers` processes side by side; a finished set is left as it is."""
    about = {"pictures": len(pictures), "seed": seed, "crop": CROP, "teacher_size": TEACHER_SIZE}
    done = folder / f"done_{number}.json"
    if done.is_file():
        if json.loads(done.read_text(encoding="utf-8")) != about:
            raise ValueError(
                f"{folder} holds views of other pictures or of another seed: give another folder with --work"
            )
        return
    allocate(folder, number, len(pictures), Teacher(teacher).weight.shape[1])
    if workers == 1:
        _fill_with_teacher(pictures, range(len(pictures)), (seed, number), teacher, folder)
        finish(folder, number, about)
        return
    cuts = np.linspace(0, len(pictures), workers + 1).astype(int).tolist()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(_fill_with_teacher, pictures, range(a, b), (seed, number), teacher, folder)
            for a, b in itertools.pairwise(cuts)
        ]
        for job in jobs:
            job.result()
    finish(folder, number, about)


def open_set(folder: Path, number: int) -> CropSet:
    """A finished set, its files mapped and not read."""
    return CropSet(*(np.load(folder / f"{name}_{number}.npy", mmap_mode="r") for name in FILES))
