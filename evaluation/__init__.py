"""Measuring retrieval: benchmark folders, metrics with their uncertainty, and the run that joins them.

`ranx`, which computes the metrics, is loaded at the first evaluation and not before: it brings a compiler (numba).
"""

from mmseek.evaluation.comparing import Comparison, Difference, Side, compare, read_side
from mmseek.evaluation.dataset import Dataset, EvalQuery
from mmseek.evaluation.formats import load_dataset
from mmseek.evaluation.report import EvalReport, GroupResult, Problem, RerankedResult
from mmseek.evaluation.runner import evaluate
from mmseek.evaluation.searching import evaluate_retriever, index_dataset

__all__ = [
    "Comparison",
    "Dataset",
    "Difference",
    "EvalQuery",
    "EvalReport",
    "GroupResult",
    "Problem",
    "RerankedResult",
    "Side",
    "compare",
    "evaluate",
    "evaluate_retriever",
    "index_dataset",
    "load_dataset",
    "read_side",
]
