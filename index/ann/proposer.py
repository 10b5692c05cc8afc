"""What proposes rows: one of FAISS's indexes behind one small face. Positions 0 to n - 1 in, positions out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import faiss
import numpy as np

from mmseek.errors import CorruptCollection
from mmseek.index.ann import whole_bytes
from mmseek.index.ann.plan import Plan
from mmseek.index.exact import one_core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.index.ann.masks import Mask
    from mmseek.protocols import RowArray

_BUILD_EFFORT = 80  # efConstruction of HNSW
_ROUNDS = 12  # of k-means: more change little
_TRAINING_BYTES = 512 * 2**20
_LEAST = 64  # vectors to train on
_MOST_PARAMETERS = 1000
_LOOPS = 1 << 22  # what FAISS may believe of a count in a file


class Proposer(Protocol):
    """Rows in a form that is quick to look through. Searches may run in several threads."""

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Bytes of the file, and so of the memory, that it takes."""
        ...

    def add(self, vectors: FloatArray) -> None:
        """Add rows (n, dim) behind those there are."""
        ...

    def propose(self, queries: FloatArray, count: int, plan: Plan, mask: Mask | None) -> RowArray:
        """About the best `count` positions for each query, (n, count), padded with -1; only where the mask is set."""
        ...

    def cost(self, plan: Plan, share: float) -> float:
        """About as many full vectors could be scored in the time of one search, if a share of the rows may be found."""
        ...

    def save(self, path: Path) -> None:
        """Write it into one file."""
        ...


class FaissProposer:
    """An index of FAISS.

    Args:
        index: as its factory makes them, or of `whole_bytes`.
        scale: of a plan whose rows are bytes.
    """

    def __init__(self, index: Any, scale: float = 0.0) -> None:
        self._index = index
        self._scale = scale
        self._inner = _inner(index)
        self._transforms = isinstance(faiss.downcast_index(index), faiss.IndexPreTransform)
        self._unfiltered: dict[tuple[Plan, int], Any] = {}  # to make these anew takes as long as a small search

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def nbytes(self) -> int:
        writer = _CountingWriter()
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(writer, 1 << 22))
        return writer.written

    def add(self, vectors: FloatArray) -> None:
        rows = whole_bytes.rows_as_bytes(vectors, self._scale) if self._scale else vectors
        self._index.add(np.ascontiguousarray(rows, dtype=np.float32))

    def propose(self, queries: FloatArray, count: int, plan: Plan, mask: Mask | None) -> RowArray:
        if mask is not None:
            selector = faiss.IDSelectorBitmap(mask.bits)
            parameters = self._parameters(plan, count, selector, mask.share)
        elif (plan, count) in self._unfiltered:
            parameters = self._unfiltered[plan, count]
        else:
            parameters = self._parameters(plan, count, None, 1.0)
            if len(self._unfiltered) < _MOST_PARAMETERS:
                self._unfiltered[plan, count] = parameters
        if self._scale:
            queries = whole_bytes.queries_as_bytes(queries)
        if len(queries) > 1:
            return np.asarray(self._index.search(queries, count, params=parameters)[1])
        with one_core():
            return np.asarray(self._index.search(queries, count, params=parameters)[1])

    def _parameters(self, plan: Plan, count: int, selector: Any, share: float) -> Any:
        """How far to look: further where only a share of the rows may be found."""
        chosen = {} if selector is None else {"sel": selector}
        wider = 1 / max(share, 0.01)
        if isinstance(self._inner, faiss.IndexHNSW):
            found: Any = faiss.SearchParametersHNSW(efSearch=max(count, round(plan.effort * wider)), **chosen)
        elif isinstance(self._inner, faiss.IndexIVF):
            kind = faiss.SearchParametersIVF
            if isinstance(self._inner, faiss.IndexIVFRaBitQ | faiss.IndexIVFRaBitQFastScan):
                kind = faiss.IVFRaBitQSearchParameters
            found = kind(nprobe=min(self._inner.nlist, round(plan.effort * wider)), **chosen)
        else:
            found = faiss.SearchParameters(**chosen) if chosen else None
        return (
            faiss.SearchParametersPreTransform(index_params=found) if found is not None and self._transforms else found
        )

    def cost(self, plan: Plan, share: float) -> float:
        wider = 1 / max(share, 0.01)
        if isinstance(self._inner, faiss.IndexHNSW):
            return 8 * plan.effort * wider
        if isinstance(self._inner, faiss.IndexIVF):
            looked_at = len(self) * min(1.0, plan.effort * wider / int(self._inner.nlist))
            return looked_at / ((8 if plan.scale else 4) if plan.kind == "ivf-sq8" else 16)
        return len(self) / 8

    def save(self, path: Path) -> None:
        faiss.write_index(self._index, str(path))


class BinaryProposer:
    """The signs of rotated vectors, compared by how many differ; rotated, so that no dimension says more than others.

    Args:
        index: FAISS's, over bits.
        rotation: an orthogonal matrix (dim, dim).
        centre: what is subtracted first (dim,): without it most signs of most encoders' dimensions are the same.
    """

    def __init__(self, index: Any, rotation: FloatArray, centre: FloatArray) -> None:
        self._index = index
        self._rotation = rotation
        self._centre = centre

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def nbytes(self) -> int:
        return len(self) * int(self._index.code_size)

    def add(self, vectors: FloatArray) -> None:
        self._index.add(self._bits(vectors, self._centre))

    def propose(self, queries: FloatArray, count: int, plan: Plan, mask: Mask | None) -> RowArray:  # noqa: ARG002
        # A query is of another modality than the rows more often than not, and then the rows' centre is not its own.
        bits = self._bits(queries, np.zeros_like(self._centre))
        if mask is None:
            return np.asarray(self._index.search(bits, count)[1])
        selector = faiss.IDSelectorBitmap(mask.bits)
        return np.asarray(self._index.search(bits, count, params=faiss.SearchParameters(sel=selector))[1])

    def _bits(self, vectors: FloatArray, centre: FloatArray) -> NDArray[np.uint8]:
        bits = (np.asarray(vectors, dtype=np.float32) - centre) @ self._rotation > 0
        return np.packbits(bits, axis=1)

    def cost(self, plan: Plan, share: float) -> float:  # noqa: ARG002
        return len(self) / 32

    def save(self, path: Path) -> None:
        parts = [self._rotation.astype("<f4").tobytes(), self._centre.astype("<f4").tobytes()]
        body = faiss.serialize_index_binary(self._index)
        path.write_bytes(b"".join([*parts, body.tobytes()]))


def train(plan: Plan, dim: int, sample: FloatArray) -> Proposer:
    """An empty proposer of a plan, trained on a sample (n, dim) of the rows to come."""
    if plan.kind == "binary":
        rng = np.random.default_rng(0)
        rotation, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
        centre = sample.mean(axis=0) if len(sample) else np.zeros(dim)
        # FAISS wants whole bytes: the bits that are too many are always zero, in rows and in queries.
        index = faiss.IndexBinaryFlat(-(-dim // 8) * 8)
        return BinaryProposer(index, rotation.astype(np.float32), centre.astype(np.float32))
    if plan.scale:
        index = whole_bytes.empty_index(plan, dim, sample)
    else:
        index = faiss.index_factory(dim, plan.factory, faiss.METRIC_INNER_PRODUCT)
    inner = _inner(index)
    if isinstance(inner, faiss.IndexHNSW):
        inner.hnsw.efConstruction = _BUILD_EFFORT
    if plan.scale:
        return FaissProposer(index, plan.scale)
    if isinstance(inner, faiss.IndexIVF):
        inner.cp.niter = _ROUNDS
        inner.cp.max_points_per_centroid = 64
        inner.cp.min_points_per_centroid = 1  # how few there are is our choice: FAISS need not warn of it
    if len(sample) < _LEAST:  # FAISS wants as many as there are codes, and does not mind that they repeat
        sample = np.resize(sample, (_LEAST, dim))
    if plan.kind == "ivf-pq":
        inner.pq.cp.min_points_per_centroid = 1
    index.train(np.ascontiguousarray(sample, dtype=np.float32))
    return FaissProposer(index)


def build(
    plan: Plan,
    dim: int,
    sample: FloatArray,
    pieces: Iterable[FloatArray],
    check: Callable[[int], None] = lambda _: None,
) -> Proposer:
    """A proposer over all rows; `check` is told the number of rows after each piece, and may raise to stop."""
    made = train(plan, dim, sample)
    for piece in pieces:
        made.add(piece)
        check(len(made))
    return made


def sample_size(plan: Plan, dim: int, rows: int) -> int:
    """How many rows a plan is trained on."""
    wanted = max(plan.lists * 64, 65_536) if plan.lists else 65_536
    return min(rows, wanted, max(1, _TRAINING_BYTES // (4 * dim)))


def load(plan: Plan, dim: int, path: Path, *, mapped: bool = True) -> Proposer:
    """Read a proposer whose file's checksum has been compared; FAISS is not let read more than the file can hold.

    Args:
        plan: what it was built for.
        dim: columns of a vector.
        path: the file.
        mapped: leave the codes in the file; such a proposer takes no more rows.

    Raises:
        CorruptCollection: FAISS cannot read it, or it is of another kind or dimension.
    """
    try:
        # No vector in the file can be larger than the file; what a count promises beyond that is a lie. FAISS holds the
        # tables that it computes from PQ centroids to the same limit.
        tables = 4 * 16 * plan.lists * dim
        faiss.set_deserialization_vector_byte_limit(path.stat().st_size + tables + 4096)
        faiss.set_deserialization_loop_limit(_LOOPS)
        if plan.kind == "binary":
            return _load_binary(path, dim)
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except (RuntimeError, OSError, ValueError) as error:
        raise CorruptCollection(f"{path} cannot be read: run `mmseek tune`, which builds it anew") from error
    if index.d != dim:
        raise CorruptCollection(f"{path} has vectors of {index.d} dimensions, not {dim}: run `mmseek tune`")
    return FaissProposer(index, plan.scale)


def _load_binary(path: Path, dim: int) -> BinaryProposer:
    raw = np.fromfile(path, dtype=np.uint8)
    rotation = raw[: 4 * dim * dim].view("<f4").reshape(dim, dim)
    centre = raw[4 * dim * dim : 4 * dim * (dim + 1)].view("<f4")
    index = faiss.deserialize_index_binary(raw[4 * dim * (dim + 1) :])
    if index.d != -(-dim // 8) * 8:
        raise ValueError(index.d)
    return BinaryProposer(index, rotation, centre)


def _inner(index: Any) -> Any:
    """The index behind what transforms vectors, in its own class."""
    found = faiss.downcast_index(index)
    return faiss.downcast_index(found.index) if isinstance(found, faiss.IndexPreTransform) else found


class _CountingWriter:
    """Counts bytes and keeps none."""

    def __init__(self) -> None:
        self.written = 0

    def __call__(self, data: bytes) -> None:
        self.written += len(data)
