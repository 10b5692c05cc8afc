"""MaxSim of many queries and many documents (Khattab and Zaharia 2020, arXiv:2004.12832), with gradients.

Here it is the mean over a query's tokens and not the sum, as in the authors' trainer of ColPali, so that a temperature
means the same for short and long queries.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

__all__ = ["maxsim", "own_maxsim"]

# Numbers that are held at once: 256 MiB of them.
_BLOCK: Final = 2**26


def maxsim(queries: Tensor, documents: Tensor) -> Tensor:
    """Every query with every document: (n, m).

    Args:
        queries: (n, s, dim), rows of zeros for tokens that are not there.
        documents: (m, t, dim), as well; each has at least one token.
    """
    flat, absent = documents.flatten(0, 1), _absent(documents)
    block = max(1, _BLOCK // (queries.shape[1] * len(flat)))
    parts = []
    for some in torch.split(queries, block):
        # Of the products only the places of the largest are kept for the way back.
        found = (some @ flat.T).view(*some.shape[:2], *absent.shape)
        parts.append(found.masked_fill(absent, -torch.inf).max(dim=3).values.sum(dim=1))
    return torch.cat(parts) / _tokens(queries)


def own_maxsim(queries: Tensor, documents: Tensor) -> Tensor:
    """Every query with its own k documents: (n, k).

    Args:
        queries: (n, s, dim).
        documents: (n, k, t, dim).
    """
    found = torch.einsum("nsd,nktd->nkst", queries, documents)
    found = found.masked_fill(_absent(documents).unsqueeze(2), -torch.inf).max(dim=3).values
    return found.sum(dim=2) / _tokens(queries)


def _absent(vectors: Tensor) -> Tensor:
    """Where rows are zero: a vector of length 1 is not."""
    return vectors.detach().abs().amax(dim=-1) == 0


def _tokens(queries: Tensor) -> Tensor:
    """(n, 1): a missing token's products are 0 and so add nothing, but they must not count."""
    return (~_absent(queries)).sum(dim=1, keepdim=True)
