"""MaxSim, the score of late interaction (Khattab and Zaharia 2020, arXiv:2004.12832)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["maxsim"]


def maxsim(query: FloatArray, document: FloatArray) -> float:
    """For each vector of the query the largest inner product with one of the document, summed.

    Args:
        query: (m, dim).
        document: (n, dim), n at least 1.
    """
    return float(np.sum(np.max(query @ document.T, axis=1), dtype=np.float64))
