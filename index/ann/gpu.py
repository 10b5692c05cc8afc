"""Building on a GPU, where FAISS was built for one: the graph of HNSW through CAGRA.

Only the build moves to the GPU; what comes back is a CPU index that is saved, mapped and searched as any other. The
calls are FAISS's documented ones (`GpuIndexCagra.copyTo(IndexHNSWCagra)`). For want of the device this file is tested
with a stand-in for them, and has not been run on a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from mmseek.index.ann.plan import Plan

if TYPE_CHECKING:
    from mmseek.index.ann.proposer import FaissProposer
    from mmseek.index.ann.sources import VectorSource

_MOST_ON_DEVICE = 8 * 2**30  # bytes of vectors that are brought to the device at once


def gpu_count(library: Any = faiss) -> int:
    """How many GPUs FAISS can use; 0 where it was built without."""
    return int(library.get_num_gpus()) if hasattr(library, "StandardGpuResources") else 0


def build(plan: Plan, dim: int, source: VectorSource, rows: int, library: Any = faiss) -> FaissProposer | None:
    """A CPU index of a plan, built on the GPU; None where that is not possible, and the CPU is to do it."""
    usable = plan.kind == "hnsw" and hasattr(library, "GpuIndexCagra") and hasattr(library, "IndexHNSWCagra")
    if not rows or not usable or not gpu_count(library) or 4 * rows * dim > _MOST_ON_DEVICE:
        return None
    from mmseek.index.ann.proposer import FaissProposer

    config = library.GpuIndexCagraConfig()
    config.graph_degree = 48
    config.intermediate_graph_degree = 96
    device = library.GpuIndexCagra(library.StandardGpuResources(), dim, library.METRIC_INNER_PRODUCT, config)
    device.train(np.ascontiguousarray(source.take(np.arange(rows)), dtype=np.float32))
    graph = library.IndexHNSWCagra()
    graph.base_level_only = False  # so that more rows may be added on the CPU
    device.copyTo(graph)
    return FaissProposer(graph)
