"""One queue for each model: requests of all routes wait in it, and one worker takes them in batches cut by cost."""

from mmseek.api.server.batching.batcher import Batcher, BatcherOptions
from mmseek.api.server.batching.cache import VectorCache
from mmseek.api.server.batching.facades import (
    BatchedEncoder,
    PairQueue,
    batched_encoder,
    batched_reranker,
    batcher_of_encoder,
    batcher_of_reranker,
)
from mmseek.api.server.batching.scope import RequestScope, current_scope

__all__ = [
    "BatchedEncoder",
    "Batcher",
    "BatcherOptions",
    "PairQueue",
    "RequestScope",
    "VectorCache",
    "batched_encoder",
    "batched_reranker",
    "batcher_of_encoder",
    "batcher_of_reranker",
    "current_scope",
]
