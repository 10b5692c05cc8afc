"""What the tests of the index room share. A new backend joins the contract by a line in one of the two tables."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mmseek import Content, Document, EncoderIdentity
from mmseek.index import open_collection
from mmseek.index.ann.layered import Base, LayeredIndex
from mmseek.index.ann.plan import plan_for
from mmseek.index.ann.proposer import build
from mmseek.index.ann.sources import ArraySource
from mmseek.index.exact import FaissExactIndex
from mmseek.index.torch_exact import TorchExactIndex
from mmseek.protocols import Collection, VectorIndex

DIM = 8
# For example qdrant://127.0.0.1:6333; the tests make collections there and leave them.
REAL_SERVER = os.environ.get("MMSEEK_TEST_QDRANT_URL", "").rstrip("/")
MEMORY_DISK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@functools.cache
def beside(name: str) -> ModuleType:
    """A module that stands beside this file."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@functools.cache
def fake_server() -> Any:
    """One server for all tests of the contract; it ends with the process."""
    return beside("fake_qdrant").FakeQdrant()


def _name_for(folder: Path) -> str:
    return "mmseek-test-" + hashlib.sha256(f"{os.getpid()} {folder}".encode()).hexdigest()[:24]


class FoldingIndex:
    """A layered index that builds its base anew when its delta is large, as a collection's does on disk."""

    def __init__(self, kind: str, dim: int, recall: float, most: int = 40) -> None:
        self.recall = recall
        self._kind = kind
        self._most = most
        self._stored: dict[int, np.ndarray] = {}
        self._index = LayeredIndex(dim)

    @property
    def dim(self) -> int:
        return self._index.dim

    def __len__(self) -> int:
        return len(self._index)

    def add(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        self._index.add(rows, vectors)
        self._stored |= dict(zip(rows.tolist(), np.asarray(vectors, dtype=np.float32), strict=True))
        if self._index.delta_rows > self._most:
            self._fold()

    def remove(self, rows: np.ndarray) -> None:
        self._index.remove(rows)
        for row in rows.tolist():
            self._stored.pop(row, None)

    def search(self, queries: np.ndarray, k: int, **filters: Any) -> tuple[np.ndarray, np.ndarray]:
        return self._index.search(queries, k, **filters)

    def _fold(self) -> None:
        rows = np.array(sorted(self._stored), dtype=np.int64)
        vectors = np.stack([self._stored[row] for row in rows.tolist()])
        plan = plan_for(self._kind, self.dim, len(rows))
        longest = float(np.linalg.norm(vectors, axis=1).max())
        made = build(plan, self.dim, vectors, [vectors])
        base = Base(rows, made, ArraySource(vectors), plan, longest)
        self._index = LayeredIndex(self.dim, base, few=8)


# What each kind finds of the ten best of 3,000 random vectors of eight dimensions, far from any real distribution.
RECALL = {"hnsw": 0.99, "ivf-sq8": 0.99, "ivf-pq": 0.95, "rabitq": 0.9, "float16": 0.99, "int8": 0.99, "binary": 0.7}
EXACT_INDEXES: dict[str, Callable[[int], VectorIndex]] = {
    "faiss-exact": FaissExactIndex,
    "faiss-exact-with-room": lambda dim: FaissExactIndex(dim, 1000),
    "torch-exact": TorchExactIndex,
}
VECTOR_INDEXES: dict[str, Callable[[int], VectorIndex]] = EXACT_INDEXES | {
    kind: partial(FoldingIndex, kind, recall=recall) for kind, recall in RECALL.items()
}
COLLECTIONS: dict[str, Callable[[Path], str | Path]] = {
    "folder": lambda folder: folder / "collection",
    "qdrant-edge": lambda folder: f"qdrant-edge:{folder / 'edge'}",
    "qdrant-memory": lambda folder: f"qdrant-local::memory:{folder}",
    "qdrant-server": lambda folder: fake_server().location(_name_for(folder)),
}
if REAL_SERVER:
    COLLECTIONS["qdrant-real"] = lambda folder: f"{REAL_SERVER}/{_name_for(folder)}"


@pytest.fixture(params=sorted(VECTOR_INDEXES))
def make_index(request: pytest.FixtureRequest) -> Callable[[int], VectorIndex]:
    return VECTOR_INDEXES[request.param]


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that are read from a server are kept with the test's own files."""
    monkeypatch.setenv("MMSEEK_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(params=sorted(COLLECTIONS))
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | Path]:
    if request.param != "qdrant-edge":
        yield COLLECTIONS[request.param](tmp_path)
        return
    # The engine waits for the disk several times in every change: in memory these tests take a tenth of the time.
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK) as folder:
        yield COLLECTIONS[request.param](Path(folder))


@pytest.fixture
def fake_qdrant() -> Iterator[Any]:
    """A server of this test's own, to fail as it is told."""
    with beside("fake_qdrant").FakeQdrant() as fake:
        yield fake


@pytest.fixture(scope="module")
def forks() -> Iterator[Callable[[str], Any]]:
    """Starts what forks the runs of a program beside this file; see `forking.py`."""
    started: dict[str, Any] = {}

    def start(name: str) -> Any:
        if name not in started:
            started[name] = beside("forking").Forks(Path(__file__).with_name(f"{name}.py"))
        return started[name]

    yield start
    for each in started.values():
        each.close()


@pytest.fixture
def identity() -> EncoderIdentity:
    return EncoderIdentity("mini", hashlib.sha256(b"weights").hexdigest(), DIM)


@pytest.fixture
def collection(location: str | Path, identity: EncoderIdentity) -> Iterator[Collection]:
    made = open_collection(location, mode="create", encoder=identity)
    yield made
    made.close()


@pytest.fixture
def documents() -> Callable[..., list[Document]]:
    def make(numbers: Sequence[int], **metadata: Any) -> list[Document]:
        return [Document(f"d{n}", Content.of(f"text {n}"), {"n": n, **metadata}) for n in numbers]

    return make


@pytest.fixture
def vectors() -> Callable[..., np.ndarray]:
    def make(n: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
        values = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    return make


@pytest.fixture
def oracle() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Exact search in float64, equal scores by row number: the plain path that every index is compared with."""

    def search(
        stored: dict[int, np.ndarray],
        query: np.ndarray,
        k: int,
        allowed: Sequence[int] | None = None,
        excluded: Sequence[int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = sorted(set(stored) if allowed is None else set(stored) & set(allowed))
        rows = [row for row in rows if row not in set(excluded or ())]
        exact = [float(stored[row].astype(np.float64) @ query.astype(np.float64)) for row in rows]
        scores = np.array(exact, dtype=np.float32)
        best = np.lexsort((rows, -scores))[:k]
        padding = k - len(best)
        return (
            np.append(np.array(rows, dtype=np.int64)[best], np.full(padding, -1, dtype=np.int64)),
            np.append(scores[best], np.full(padding, -np.inf, dtype=np.float32)),
        )

    return search
