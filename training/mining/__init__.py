"""Hard negatives from a dataset's own pool, chosen with an eye to their modality (MM-Embed, arXiv:2411.02571)."""

from mmseek.training.mining.choosing import MiningOptions
from mmseek.training.mining.run import Example, MiningReport, mine

__all__ = ["Example", "MiningOptions", "MiningReport", "mine"]
