"""How many documents the means of tokens have to propose, so that MaxSim over those finds what it finds over all.

The mean of a document's vectors is one vector, which any vector index finds quickly; the mean of the query's asks for
it. Candidates are scored by MaxSim exactly, so what is lost is what the means do not propose; it is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmseek.errors import InputError
from mmseek.index.ann.files import AnnFolder
from mmseek.index.ann.plan import EXACT
from mmseek.index.durable import storage_errors
from mmseek.protocols import IndexInfo

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray

NAME = "tokens.json"
AT = 10  # recall is measured at so many hits
_FIRST = 20
_MOST_SHARE = 0.5  # of the documents; above it a search of all is no slower


@dataclass(frozen=True, slots=True)
class Candidates:
    """What was found.

    Args:
        depth: documents that are proposed for ten hits.
        recall: recall@10, beside MaxSim over all documents.
        queries: it was measured with so many.
        documents: that there were then.
    """

    depth: int
    recall: float
    queries: int
    documents: int


class TokenTuner:
    """Measures, and remembers in the collection's `ann/`.

    Args:
        root: the collection's folder.
        propose: rows of the candidates of a query (tokens, dim), the best `n` by their means.
        exactly: rows of the best k of a query over all.
    """

    def __init__(
        self,
        root: Path,
        propose: Callable[[FloatArray, int], RowArray],
        exactly: Callable[[FloatArray, int], RowArray],
    ) -> None:
        self._folder = AnnFolder(root)
        self._propose = propose
        self._exactly = exactly
        self._seen: tuple[object, Candidates | None] = (None, None)

    def depth(self, k: int) -> int | None:
        """How many candidates are asked for k hits; None to compare all documents."""
        found = self.found()
        return None if found is None else found.depth * -(-k // AT)

    def found(self) -> Candidates | None:
        """What was measured last; None where nothing was, or its file is damaged."""
        key = self._folder.key(NAME)
        if key is None:
            return None
        if self._seen[0] != key:
            self._seen = (key, self._read())
        return self._seen[1]

    def tune(self, queries: Sequence[FloatArray], recall: float) -> Candidates | None:
        """Find the least depth that reaches a recall, and use it from now on; None where half of all is too little.

        Raises:
            InputError: there are no queries, or the recall is out of range.
            StorageError: the disk is full or failing.
        """
        if not 0 < recall <= 1:
            raise InputError(f"recall is over 0 and up to 1, not {recall}")
        if not queries:
            raise InputError("the candidates of a multi-vector collection are tuned with sample queries: give some")
        best = [self._exactly(query, AT) for query in queries]
        documents = len(self._propose(queries[0], np.iinfo(np.int32).max))
        depth = _FIRST
        while depth <= _MOST_SHARE * documents:
            measured = float(
                np.mean([self._share(query, rows, depth) for query, rows in zip(queries, best, strict=True)])
            )
            if measured >= recall:
                found = Candidates(depth, measured, len(queries), documents)
                with storage_errors(self._folder.path):
                    self._folder.write_sealed(NAME, asdict(found))
                return found
            depth *= 2
        self.drop()
        return None

    def drop(self) -> None:
        """Compare all documents from now on."""
        (self._folder.path / NAME).unlink(missing_ok=True)

    def describe(self, means: IndexInfo) -> IndexInfo:
        """The index of a collection, of whose means one is given."""
        found = self.found()
        if found is None:
            return replace(means, kind=EXACT, wanted=EXACT, settings="MaxSim", recall=1.0, measured_on="", waiting=0)
        by = means.kind if means.kind == EXACT else means.settings
        return replace(
            means,
            kind="candidates",
            settings=f"MaxSim over {found.depth} candidates by the mean of tokens ({by})",
            recall=found.recall,
            measured_on="queries",
        )

    def _share(self, query: FloatArray, best: RowArray, depth: int) -> float:
        """How many of the best are among the candidates."""
        return float(np.isin(best, self._propose(query, depth)).mean()) if len(best) else 1.0

    def _read(self) -> Candidates | None:
        try:
            return Candidates(**(self._folder.read_sealed(NAME) or {}))
        except TypeError:
            return None
