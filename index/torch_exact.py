"""Exact nearest neighbours by inner product with torch: for a GPU where FAISS has no GPU build, and for any CPU.

Torch proposes, in float32 on its device; the exact index's arithmetic decides, on the CPU. So it gives the rows, scores
and order of `FaissExactIndex` to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mmseek.errors import InputError
from mmseek.index.scoring import best_of, error_bound, exact_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray

_MARGIN = 16
_QUERIES = 64  # at a time: their scores of all rows are in memory together


class TorchExactIndex:
    """Vectors on a device, and once more in the host's memory. Add and remove need to be alone, searches do not.

    Args:
        dim: columns of a vector.
        capacity: taken for the sake of one call for all indexes; room grows by itself.
        device: as torch names it; by default the first CUDA device, or the CPU.
    """

    def __init__(self, dim: int, capacity: int = 0, device: str | None = None) -> None:  # noqa: ARG002
        self._dim = dim
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._rows: RowArray = np.empty(0, dtype=np.int64)  # ascending
        self._host: FloatArray = np.empty((0, dim), dtype=np.float32)
        self._matrix = torch.empty((0, dim), device=self._device)
        self._longest = 0.0

    @property
    def dim(self) -> int:
        return self._dim

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, rows: RowArray, vectors: FloatArray) -> None:
        rows = np.asarray(rows, dtype=np.int64)
        vectors = self._checked(vectors)
        if rows.shape != (len(vectors),):
            raise InputError(f"{len(vectors)} vectors need as many row numbers, not an array of shape {rows.shape}")
        if len(np.unique(rows)) < len(rows) or np.isin(rows, self._rows).any():
            raise InputError("a row number is already in the index: remove it before adding it again")
        every = np.concatenate([self._rows, rows])
        order = np.argsort(every)
        self._settle(every[order], np.concatenate([self._host, vectors])[order])

    def remove(self, rows: RowArray) -> None:
        kept = ~np.isin(self._rows, rows)
        if not kept.all():
            self._settle(self._rows[kept], self._host[kept])

    def _settle(self, rows: RowArray, host: FloatArray) -> None:
        self._rows, self._host = rows, host
        self._matrix = torch.from_numpy(host).to(self._device)
        self._longest = float(np.sqrt(np.einsum("ij,ij->i", host, host).max())) if len(host) else 0.0

    def search(
        self, queries: FloatArray, k: int, *, allowed: RowArray | None = None, excluded: RowArray | None = None
    ) -> tuple[RowArray, FloatArray]:
        queries = self._checked(queries)
        if k < 1:
            raise InputError(f"k is the number of hits and must be at least 1, not {k}")
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        mask = np.ones(len(self._rows), dtype=bool) if allowed is None else np.isin(self._rows, allowed)
        if excluded is not None:
            mask &= ~np.isin(self._rows, excluded)
        pool = np.flatnonzero(mask)
        for low in range(0, len(queries) if len(pool) else 0, _QUERIES):
            for number, positions in enumerate(self._propose(queries[low : low + _QUERIES], k, pool), start=low):
                exact = exact_scores(self._host[positions], queries[number])
                best, best_scores = best_of(self._rows[positions], exact, k)
                rows[number, : len(best)], scores[number, : len(best)] = best, best_scores
        return rows, scores

    def _propose(self, queries: FloatArray, k: int, pool: NDArray[np.int64]) -> list[RowArray]:
        """For each query, positions that hold its k best of the pool, ties at the end included."""
        asked = torch.from_numpy(queries).to(self._device)
        everything = len(pool) == len(self._rows)
        matrix = self._matrix if everything else self._matrix[torch.from_numpy(pool).to(self._device)]
        products = asked @ matrix.T
        wanted = min(k + _MARGIN, len(pool))
        values, places = products.topk(wanted, dim=1)
        # Tensor cores and other orders of adding differ by more than float32's own bound: leave twice the room.
        doubt = 2 * error_bound(self._dim, self._longest, queries)
        top, found = values.cpu().numpy(), places.cpu().numpy()
        proposed = []
        for number in range(len(queries)):
            bar = top[number, min(k, wanted) - 1] - doubt[number]
            if wanted < len(pool) and top[number, -1] >= bar:  # a row that was not listed may be as good
                whole = products[number].cpu().numpy()
                proposed.append(pool[np.flatnonzero(whole >= bar)])
            else:
                proposed.append(pool[found[number]])
        return proposed

    def _checked(self, vectors: FloatArray) -> FloatArray:
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self._dim:
            raise InputError(f"this index has vectors of shape (n, {self._dim}), not {vectors.shape}")
        return vectors
