"""Training of rerankers that answer Yes or No (RagVL, arXiv:2407.21439): a low-rank adapter from mined negatives."""

from mmseek.training.reranker.run import RerankerRun, load_reranker_config
from mmseek.training.reranker.settings import RerankerConfig

__all__ = ["RerankerConfig", "RerankerRun", "load_reranker_config"]
