"""Vectors of a real distribution for the ANN benchmarks: `mini` over pictures, their crops and texts; text queries.

    python benchmarks/ann_vectors.py [--rows 20000] [--data ../shared/data] [--cache DIR]

Pictures and crops of them are two thirds of the rows, sentences one third; the queries are texts only, encoded as
queries, so that most of what they find lies across the gap between texts and pictures. What was embedded is kept in
the cache and grows: a larger run goes on from a smaller one.

`stretched` makes more rows than were embedded, for the largest runs: each further row is a point between two embedded
neighbours of one kind (two crops of one picture, two sentences of one text). It is said in every result.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmseek import Content, Image

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
CACHE = Path("/tmp/ann/vectors")
DIM = 384
_PIECE = 2000
_SETS = ("textbook_figures", "caltech101", "imagenet1k_sample", "aerial_ucm", "emoji", "nlvr_shapes", "apparel_women")
_QUERY_SETS = ("textbook_figures", "imagenet1k_sample", "aerial_ucm", "emoji", "scifact", "apparel_women")


def lines(path: Path) -> Iterator[dict[str, object]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def picture_bytes(data: Path) -> Iterator[bytes]:
    for name in _SETS:
        for item in lines(data / name / "corpus.jsonl"):
            yield (data / name / str(item["image"])).read_bytes()
    with tarfile.open(data / "tiny_imagenet" / "images.tar") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                yield file.read()


def crops(data: Path) -> Iterator[Content]:
    """Each picture whole, then again and again a random part of each."""
    import PIL.Image

    for turn in itertools.count():
        chance = np.random.default_rng(turn)
        for raw in picture_bytes(data):
            if turn == 0:
                yield Content((Image(data=raw),))
                continue
            with PIL.Image.open(io.BytesIO(raw)) as opened:
                picture = opened.convert("RGB")
            share = chance.uniform(0.3, 0.9)
            width, height = (max(16, int(side * share)) for side in picture.size)
            left = chance.integers(0, max(1, picture.width - width + 1))
            top = chance.integers(0, max(1, picture.height - height + 1))
            yield Content.of(picture.crop((left, top, left + width, top + height)).resize((128, 128)))


def sentences(data: Path) -> Iterator[Content]:
    """The sentences of the texts, then pairs, triples ... of neighbouring sentences."""
    for length in itertools.count(1):
        for name, key in (("scifact", None), ("textbook_figures", "context")):
            for item in lines(data / name / "corpus.jsonl"):
                text = item["text"] if key is None else item["metadata"].get(key)  # type: ignore[attr-defined]
                parts = [part.strip() for part in str(text or "").replace("\n", " ").split(". ") if part.strip()]
                for start in range(len(parts) - length + 1):
                    yield Content.of(". ".join(parts[start : start + length]))


def query_texts(data: Path) -> list[str]:
    texts = []
    for name in _QUERY_SETS:
        found = [str(item["text"]) for item in lines(data / name / "queries.jsonl") if item.get("text")]
        texts += [found[n] for n in np.random.default_rng(0).permutation(len(found))[:400]]
    return [texts[n] for n in np.random.default_rng(1).permutation(len(texts))]


def embedded(rows: int, data: Path = DATA, cache: Path = CACHE) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (rows, DIM) in a random order, two thirds of them pictures, and query vectors (n, DIM)."""
    from mmseek.embed import load_encoder

    encoder = load_encoder("mini")
    pictures = rows * 2 // 3
    cache.mkdir(parents=True, exist_ok=True)
    parts = []
    for kind, wanted, source in (("pictures", pictures, crops), ("texts", rows - pictures, sentences)):
        contents = source(data)
        for piece in range(-(-wanted // _PIECE)):
            path = cache / f"{kind}-{piece:04d}.npy"
            # The source has no places to jump to: it is read forward over what is there already.
            batch = list(itertools.islice(contents, _PIECE)) if _missing(cache, kind, piece, wanted) else []
            if not path.exists():
                np.save(path, encoder.encode_document(batch))
                print(path.name, flush=True)
        whole = np.concatenate([np.load(cache / f"{kind}-{n:04d}.npy") for n in range(-(-wanted // _PIECE))])
        parts.append(whole[:wanted])
    queries = cache / "queries.npy"
    if not queries.exists():
        np.save(queries, encoder.encode_query([Content.of(text) for text in query_texts(data)]))
    found = np.concatenate(parts)
    return found[np.random.default_rng(0).permutation(len(found))], np.load(queries)


def _missing(cache: Path, kind: str, piece: int, wanted: int) -> bool:
    """Whether this piece or a later one is missing."""
    return any(not (cache / f"{kind}-{n:04d}.npy").exists() for n in range(piece, -(-wanted // _PIECE)))


def stretched(vectors: np.ndarray, rows: int) -> np.ndarray:
    """`rows` vectors: those given, and points between each and one of its nearest, as many as are needed."""
    if rows <= len(vectors):
        return vectors[:rows]
    import faiss

    index = faiss.index_factory(vectors.shape[1], "IVF256,SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:20_000])
    index.add(vectors)
    index.nprobe = 8
    near = index.search(vectors, 9)[1]
    rng = np.random.default_rng(3)
    pieces, have = [vectors], len(vectors)
    while have < rows:
        number = min(rows - have, len(vectors))
        chosen = rng.permutation(len(vectors))[:number]
        other = vectors[near[chosen, rng.integers(1, 9, number)]]
        share = rng.uniform(0.2, 0.5, (number, 1)).astype(np.float32)
        mixed = vectors[chosen] * (1 - share) + other * share
        mixed += rng.standard_normal(mixed.shape).astype(np.float32) * (0.2 / np.sqrt(mixed.shape[1]))
        pieces.append((mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32))
        have += number
    return np.concatenate(pieces)


def load(rows: int, embed: int, data: Path = DATA, cache: Path = CACHE) -> tuple[np.ndarray, np.ndarray, str]:
    """Vectors (rows, DIM), queries (n, DIM), and where they come from, in words."""
    real = min(rows, embed)
    vectors, queries = embedded(real, data, cache)
    words = f"{real:,} embedded" + (f", {rows - real:,} between neighbours" if rows > real else "")
    return stretched(vectors, rows), queries, words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--cache", type=Path, default=CACHE)
    options = parser.parse_args()
    vectors, queries = embedded(options.rows, options.data, options.cache)
    print(vectors.shape, queries.shape)


if __name__ == "__main__":
    main()
