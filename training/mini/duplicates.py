"""Training pictures that are nearly the same as a picture of a dev or test query, so that they can be left out.

Two looks must agree, since each alone errs: a perceptual hash (64 bits of a DCT of the grey picture, Zauner 2010),
which takes any two flat drawings for the same, and the cosine of the teacher's features, high for two of a kind.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn

from mmseek.training.mini.data import Picture, on_white, read_jsonl, read_qrels
from mmseek.training.mini.teacher import TEACHER_SIZE, Teacher

logger = logging.getLogger(__name__)

# A training picture is left out if its hash differs in so few bits and the teacher finds the two so near.
SAME_BITS, SAME_COSINE = 10, 0.95

EVALUATION_SETS = (
    "imagenet1k_sample",
    "textbook_figures",
    "apparel_women",
    "aerial_ucm",
    "emoji",
    "xquad_pages",
    "nlvr_shapes",
)

Featuriser = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows of training pictures to leave out, and how many of them each evaluation set caused, by training set."""

    rows: tuple[int, ...]
    counts: dict[str, dict[str, int]]


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """The signs of the 64 lowest frequencies of a grey 32 x 32 copy about their median: bool (64,)."""
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BICUBIC), dtype=np.float64)
    low = dctn(grey, norm="ortho")[:8, :8].ravel()
    found: np.ndarray = low > np.median(low[1:])
    return found


def differing_bits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Hamming distances (n, m) of hashes (n, 64) and (m, 64)."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    differing: np.ndarray = a.sum(1)[:, None] + b.sum(1)[None] - 2 * (a @ b.T)
    return differing


def whole(image: Image.Image) -> np.ndarray:
    """A picture as the teacher sees it whole, uint8 (S, S, 3)."""
    return np.asarray(image.resize((TEACHER_SIZE, TEACHER_SIZE), Image.Resampling.BICUBIC), dtype=np.uint8)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32."""
    rows = rows.astype(np.float32)
    scaled: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)
    return scaled


def evaluation_pictures(folder: Path) -> list[Path]:
    """The pictures that a dev or test query of a set is about."""
    closed: set[str] = set()
    for split in ("dev", "test"):
        if (folder / "qrels" / f"{split}.tsv").is_file():
            closed |= {document for _, document in read_qrels(folder / "qrels" / f"{split}.tsv")}
    rows = read_jsonl(folder / "corpus.jsonl")
    return [folder / str(row["image"]) for row in rows if str(row["id"]) in closed and "image" in row]


def open_whole(path: Path) -> Image.Image:
    """A picture file in RGB."""
    with Image.open(path) as image:
        return on_white(image)


def find_duplicates(pictures: Sequence[Picture], folders: Sequence[Path], featurise: Featuriser) -> Duplicates:
    """Compare the training pictures with the evaluation pictures of `folders`."""
    hashes = np.stack([perceptual_hash(picture.open()) for picture in pictures])
    rows: set[int] = set()
    counts: dict[str, dict[str, int]] = {}
    for folder in folders:
        images = [open_whole(path) for path in evaluation_pictures(folder)]
        if not images:
            continue
        features = unit(featurise(np.stack([whole(image) for image in images])))
        near = differing_bits(hashes, np.stack([perceptual_hash(image) for image in images])) <= SAME_BITS
        close = np.flatnonzero(near.any(axis=1))
        found = []
        if len(close):
            seen = unit(featurise(np.stack([whole(pictures[row].open()) for row in close.tolist()])))
            same = (near[close] & (seen @ features.T >= SAME_COSINE)).any(axis=1)
            found = close[same].tolist()
        sources = [pictures[row].source for row in found]
        counts[folder.name] = {source: sources.count(source) for source in sorted(set(sources))}
        logger.info("%s", json.dumps({"duplicates_of": folder.name, "pictures": len(images)} | counts[folder.name]))
        rows |= set(found)
    return Duplicates(tuple(sorted(rows)), counts)


def duplicates_kept(work: Path, data: Path, teacher: Path, pictures: Sequence[Picture]) -> tuple[int, ...]:
    """The rows to leave out; kept in the work folder, since the teacher takes minutes to look."""
    kept = work / "duplicates.json"
    if not kept.is_file():
        folders = [data / name for name in EVALUATION_SETS if (data / name).is_dir()]
        found = find_duplicates(pictures, folders, Teacher(teacher).features)
        kept.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return tuple(json.loads(kept.read_text(encoding="utf-8"))["rows"])
