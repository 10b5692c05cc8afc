"""Measuring answers: what was retrieved for them, what they say against what is right, and what a judge thinks."""

from mmseek.evaluation.rag.judging import Judge
from mmseek.evaluation.rag.report import RagReport
from mmseek.evaluation.rag.rows import QARow, RagData, Relevant, load_rag
from mmseek.evaluation.rag.run import RagSetup, evaluate_rag

__all__ = ["Judge", "QARow", "RagData", "RagReport", "RagSetup", "Relevant", "evaluate_rag", "load_rag"]
