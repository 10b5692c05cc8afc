"""Training rows that a multimodal language model writes over real pictures, after mmE5 (Chen et al. 2025).

arXiv:2502.08468, the section on data synthesis: task, modalities and language are drawn first; then, in a single call,
the model describes the pictures from several sides, drafts a row, judges it and writes it again.
"""

from mmseek.training.synthesis.kinds import KINDS, Kind, chosen_kinds
from mmseek.training.synthesis.pool import Pool, read_pool
from mmseek.training.synthesis.run import SynthesisOptions, SynthesisReport, synthesize

__all__ = ["KINDS", "Kind", "Pool", "SynthesisOptions", "SynthesisReport", "chosen_kinds", "read_pool", "synthesize"]
