"""Fewer vectors an item: those that are alike become their mean (Clavié et al. 2024, arXiv:2409.14683).

Ward's clustering over the rows of `1 - similarity`, as the code of ColPali does it, into n // factor groups; the vector
of a group is its normalised mean. It costs a known amount at most: MaxSim with a query of m vectors of length 1 changes
by no more than m times the Hausdorff distance of the vectors before and after, the largest distance from one of either
to the nearest of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmseek.errors import ConfigError

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["check_factor", "pool_tokens"]


def check_factor(factor: int) -> int:
    """How many vectors become one, on average.

    Raises:
        ConfigError: it is below 1.
    """
    if factor < 1:
        raise ConfigError(f"the token pooling factor is how many vectors become one, at least 1, not {factor}")
    return factor


def pool_tokens(vectors: FloatArray, factor: int) -> FloatArray:
    """From (n, dim) to (at most max(n // factor, 1), dim), float32, rows of length 1; a factor of 1 changes nothing.

    Raises:
        ConfigError: the factor is below 1.
    """
    if check_factor(factor) == 1 or len(vectors) < 2:
        return vectors
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    # The distances are written out, for scipy warns where rows look like distances themselves.
    tree = linkage(pdist(1 - vectors @ vectors.T), method="ward")
    groups = fcluster(tree, t=max(len(vectors) // factor, 1), criterion="maxclust")
    means = np.stack([vectors[groups == group].mean(axis=0) for group in np.unique(groups)])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)
