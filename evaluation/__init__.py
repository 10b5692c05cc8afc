"""Measuring retrieval: benchmark folders, metrics with their uncertainty, and the run that joins them.

`ranx`, which computes the metrics, is loaded at the first evaluation and not before: it brings a compiler (numba).
"""

from mmseek.evaluation.dataset import Dataset, EvalQuery, load_dataset
from mmseek.evaluation.report import EvalReport, GroupResult, Problem, RerankedResult
from mmseek.evaluation.runner import evaluate

__all__ = [
    "Dataset",
    "EvalQuery",
    "EvalReport",
    "GroupResult",
    "Problem",
    "RerankedResult",
    "evaluate",
    "load_dataset",
]
