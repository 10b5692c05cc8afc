"""Run in a process of its own, to be killed: builds, grows and replaces a stored index.

FOLDER [STEP]     kills itself before its STEP-th write, sync, rename, removal or file of FAISS
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import faiss
import numpy as np

from mmseek.index import open_collection

spec = importlib.util.spec_from_file_location("writer_program", Path(__file__).with_name("writer_program.py"))
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)

KINDS = ("hnsw", "int8")


def store(collection, numbers) -> None:
    collection.upsert(
        [program.document(n) for n in numbers],
        np.stack([program.vector(n) for n in numbers]),
        [f"h{n}" for n in numbers],
    )


def run(arguments: list[str]) -> None:
    folder, *step = arguments
    collection = open_collection(folder, mode="write", encoder=program.IDENTITY)
    if step:
        program.die_at(int(step[0]))
        plain = faiss.write_index

        def torn(index, path):
            plain(index, path)
            os.truncate(path, Path(path).stat().st_size // 2)
            os.write(1, b"")  # counted: the kill may find half of FAISS's file
            plain(index, path)

        faiss.write_index = torn
    for kind in KINDS:
        collection.ann.tune(kind, queries=np.stack([program.vector(n) for n in range(500, 520)]))
        print("tuned", kind, flush=True)
        store(collection, range(100, 110))
        collection.ann.fold()
        collection.delete(["d5"])
        collection.compact()
        print("folded", flush=True)
    collection.close()
