"""Rows as bytes that are compared in whole numbers, in half the time of FAISS's SQ8, which makes floats of all bytes.

FAISS compares bytes so where they stand for themselves (`QT_8bit_direct`): numbers from 0 to 255, no sign. Distances do
not change when 128 is added to both sides, inner products do. So rows are compared by distance, which among rows of one
length puts the same first as their inner product with a query does; encoders give rows of length 1. Other rows are
stored as SQ8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.index.ann.plan import Plan

KINDS = ("hnsw", "ivf-sq8", "int8")
_ONE_LENGTH = 0.002  # by which lengths may differ, a part of the longest
_SHARE = 0.99999  # of all components are not cut off
_SAMPLED = 4_000_000  # components that are looked at
_ROUNDS, _ROWS_A_LIST = 6, 32  # of k-means: ten and 64 take three times as long and gain 0.002 of recall
_MOST = 127.0
_MIDDLE = 128.5  # FAISS cuts the fraction off, which rounds with this


def are_of_one_length(shortest: float, longest: float) -> bool:
    """Whether rows of these lengths may be compared by distance."""
    return longest > 0 and longest - shortest <= _ONE_LENGTH * longest


def scale_for(sample: FloatArray) -> float:
    """What components are multiplied by, so that nearly all of a sample (n, dim) are from -127 to 127."""
    step = max(1, sample.size // _SAMPLED)
    largest = float(np.quantile(np.abs(sample[::step]), _SHARE)) if sample.size else 0.0
    return _MOST / largest if largest > 0 else 0.0


def rows_as_bytes(vectors: FloatArray, scale: float) -> FloatArray:
    """Rows (n, dim) as numbers from 0 to 255, still as float32, which is how FAISS takes them."""
    found: FloatArray = np.clip(vectors * np.float32(scale) + np.float32(_MIDDLE), 0, 255)
    return found


def queries_as_bytes(queries: FloatArray) -> FloatArray:
    """Queries (n, dim) likewise, each as long as bytes let it be: their length does not change an order."""
    largest = np.maximum(np.abs(queries).max(axis=1, keepdims=True), np.float32(1e-30))
    found: FloatArray = queries * (np.float32(_MOST) / largest) + np.float32(_MIDDLE)
    return found


def empty_index(plan: Plan, dim: int, sample: FloatArray) -> Any:
    """FAISS's index of a plan that has a scale, without rows.

    Args:
        plan: of one of `KINDS`.
        dim: columns of a row.
        sample: rows (n, dim) to find the lists with.
    """
    code = faiss.ScalarQuantizer.QT_8bit_direct
    if plan.kind == "hnsw":
        made = faiss.IndexHNSWSQ(dim, code, plan.links, faiss.METRIC_L2)
    elif plan.kind == "int8":
        made = faiss.IndexScalarQuantizer(dim, code, faiss.METRIC_L2)
    else:
        middles = _middles(plan.lists, dim, sample)
        quantizer = faiss.IndexFlatL2(dim)
        quantizer.add(middles * np.float32(plan.scale) + np.float32(_MIDDLE))
        made = faiss.IndexIVFScalarQuantizer(quantizer, dim, plan.lists, code, faiss.METRIC_L2, False)
    made.is_trained = True  # bytes that stand for themselves are not trained
    return made


def _middles(lists: int, dim: int, sample: FloatArray) -> FloatArray:
    """The middles (lists, dim) of lists by inner product, all of length 1: a long one would draw every query."""
    settings = faiss.ClusteringParameters()
    settings.niter = _ROUNDS
    settings.spherical = True
    settings.max_points_per_centroid = _ROWS_A_LIST
    settings.min_points_per_centroid = 1
    clustering = faiss.Clustering(dim, lists, settings)
    clustering.train(np.ascontiguousarray(sample, dtype=np.float32), faiss.IndexFlatIP(dim))
    middles: FloatArray = faiss.vector_to_array(clustering.centroids).reshape(lists, dim)
    return middles
