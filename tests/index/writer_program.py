"""Run in a process of its own, to be killed: indexes a corpus, and says what was acknowledged.

PLACE           indexes what is missing, in batches, with replacements, deletions, compactions
PLACE STEP     the same, and kills itself before its STEP-th write, sync, rename or truncation

A place whose name ends with `-tokens` holds a vector for each token.
"""

from __future__ import annotations

import os
import pathlib
import signal

import numpy as np

from mmseek import Content, Document, EncoderIdentity, Image
from mmseek.index import open_collection

DIM = 16
DOCUMENTS = 120
BATCH = 7
IDENTITY = EncoderIdentity("mini", "f" * 64, DIM)
TOKENS = EncoderIdentity("colqwen2:x", "f" * 64, DIM, multi_vector=True)


def vector(n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal(DIM).astype(np.float32)


def tokens(n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((1 + n % 5, DIM)).astype(np.float16).astype(np.float32)


def document(n: int) -> Document:
    parts = (Image(data=b"picture %d" % n),) if n % 10 == 0 else ()
    return Document(f"d{n}", Content.of(f"text {n}", *parts), {"n": n})


def die_at(step: int) -> None:
    left = [step]

    def wrap(function):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapped

    for name in ("write", "fsync", "truncate", "ftruncate"):
        setattr(os, name, wrap(getattr(os, name)))
    for name in ("replace", "unlink", "mkdir"):
        setattr(pathlib.Path, name, wrap(getattr(pathlib.Path, name)))


def say(*words: object) -> None:
    print(*words, flush=True)


def run(arguments: list[str]) -> None:
    folder, *step = arguments
    if step:
        die_at(int(step[0]))
    many = folder.endswith("-tokens")
    collection = open_collection(folder, mode="write", encoder=TOKENS if many else IDENTITY)

    def vectors(batch: list[int], sign: int = 1) -> object:
        return [sign * tokens(n) for n in batch] if many else np.stack([sign * vector(n) for n in batch])

    names = [f"d{n}" for n in range(DOCUMENTS)]
    known = collection.digests(names)
    missing = [n for n in range(DOCUMENTS) if known.get(f"d{n}") != f"h{n}"]
    say("ready")
    for round_, start in enumerate(range(0, len(missing), BATCH)):
        batch = missing[start : start + BATCH]
        collection.upsert([document(n) for n in batch], vectors(batch, -1), ["draft"] * len(batch))
        collection.upsert([document(n) for n in batch], vectors(batch), [f"h{n}" for n in batch])
        say("stored", *batch)
        collection.delete([names[batch[0]]])
        collection.upsert([document(batch[0])], vectors(batch[:1]), [f"h{batch[0]}"])
        if round_ % 4 == 3:
            collection.compact()
    say("done")
    collection.close()
