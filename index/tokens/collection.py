"""A folder of documents with a vector for each token.

It is a collection like any other, whose vectors are the means of documents' tokens, and beside them

tokens/            append-only float16 rows, those of a document one after the other
ann/tokens.json    how many candidates the means propose, if a search is not to compare every token

A search is exact unless `tune` has found that fewer will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseek._stored import StoredBatch
from mmseek._types import Document, Hit
from mmseek.index.beside import Beside
from mmseek.index.checks import check_digests, id_list
from mmseek.index.collection import LocalCollection
from mmseek.index.filter_sql import Condition, restrict
from mmseek.index.ledger import Snapshot, State
from mmseek.index.lock import WriterLock
from mmseek.index.manifest import Manifest
from mmseek.index.searching import Limits
from mmseek.index.segments import SEGMENT_BYTES, TOKENS, Segments
from mmseek.index.stream import found_of, hits_of
from mmseek.index.tokens.arrays import TokenBatch, check_token_query, check_tokens, mean_of
from mmseek.index.tokens.compaction import copy_living_tokens
from mmseek.index.tokens.ledger import count_tokens, insert_tokens, replace_tokens, used_tokens
from mmseek.index.tokens.stream import token_batches, tokens_of
from mmseek.index.tokens.tuning import Candidates, TokenTuner
from mmseek.index.tokens.view import TokenView
from mmseek.index.verify import Parts
from mmseek.protocols import CollectionInfo

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Proposed:
    """Rows of candidates, and the state that they are of."""

    rows: RowArray
    state: State


class TokenCollection(LocalCollection):
    """A `LocalCollection` whose documents have a vector for each token; arguments and threads as there.

    `upsert` takes an array (tokens, dim) a document and `search` one for the query; scores are MaxSim.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, lock: WriterLock | None = None, *, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        # Before all else: a writer looks through its files while it is made.
        self._tokens = Segments(folder, manifest.encoder.dim, segment_bytes, TOKENS)
        self._token_tail = (1, 0)
        super().__init__(folder, manifest, lock, segment_bytes=segment_bytes)
        self._token_view = TokenView(self._connections, self._tokens)
        self._tuner = TokenTuner(folder, self._candidates_of, self._exactly)

    def info(self) -> CollectionInfo:
        with self._connections.snapshot() as snapshot:
            count = count_tokens(snapshot.sql)
        found = super().info()
        assert found.index is not None
        bytes_each = found.index.bytes_per_vector + 2 * self.encoder.dim * count / max(1, found.documents)
        index = self._tuner.describe(replace(found.index, bytes_per_vector=bytes_each))
        return replace(found, index=index, tokens=count)

    def upsert(
        self,
        documents: Sequence[Document],
        vectors: FloatArray | Sequence[FloatArray],
        digests: Sequence[str | None] | None = None,
    ) -> None:
        most = max(1, self._tokens.limit // (2 * self.encoder.dim))
        batch = check_tokens(documents, vectors, self.encoder.dim, most)
        check_digests(documents, digests)
        self._upsert(documents, batch.means, digests, batch)

    def export(self, batch: int = 256) -> Iterator[StoredBatch]:
        """As of any collection; `vectors` of a batch are an array (tokens, dim) a document."""
        with self.pinned_files() as (snapshot, (_, tokens)):
            yield from token_batches(snapshot, tokens, self._assets, batch)

    def vectors(self, ids: Sequence[str]) -> dict[str, FloatArray]:
        """The stored vectors (tokens, dim) of these ids; unknown ids are left out."""
        with self.pinned_files() as (snapshot, (_, tokens)):
            return tokens_of(snapshot, tokens, id_list(ids))

    def _checked_query(self, vector: FloatArray) -> FloatArray:
        return check_token_query(vector, self.encoder.dim)

    def _nearest(self, queries: Sequence[FloatArray], k: int, limits: Limits) -> list[list[Hit]]:
        return [self._best(query, k, limits) for query in queries]

    def _best(self, query: FloatArray, k: int, limits: Limits) -> list[Hit]:
        """The k best documents for a query's vectors (tokens, dim), by MaxSim."""
        condition = restrict(limits.candidates, (), limits.filter)
        depth = self._tuner.depth(k)
        for last in (False,) * (_ATTEMPTS - 1) + (True,):
            proposed = None if depth is None else self._proposed(query, depth, condition, limits)
            with self._token_view.current() as (index, snapshot):
                if proposed is not None:
                    if not last and snapshot.state() != proposed.state:
                        continue  # a change came between the two
                    rows, scores = index.search(query, k, allowed=proposed.rows)
                else:
                    allowed, excluded = self._allowed(snapshot, condition, limits)
                    rows, scores = index.search(query, k, allowed=allowed, excluded=excluded)
                records = snapshot.records_of_rows(rows.tolist())
            break
        return hits_of(found_of(rows, scores), records, self._assets, "dense")

    def _proposed(self, query: FloatArray, depth: int, condition: Condition | None, limits: Limits) -> _Proposed:
        with self._view.current() as (means, snapshot):
            allowed, excluded = self._allowed(snapshot, condition, limits)
            most = min(depth, len(means)) or 1
            found = means.search(mean_of(query)[None], most, allowed=allowed, excluded=excluded)[0][0]
            return _Proposed(found[found >= 0], snapshot.state())

    def tune_tokens(self, queries: Sequence[FloatArray], recall: float = 0.95) -> Candidates | None:
        """Find how many candidates by their means hold the ten best; None, and exact searches, where too many do.

        Args:
            queries: vectors (tokens, dim) each.
            recall: the recall@10 to reach.

        Raises:
            CollectionError: the collection is open for reading only, or closed.
        """
        self._check_writer()
        checked = [check_token_query(query, self.encoder.dim) for query in queries]
        return self._tuner.tune(checked, recall)

    def search_exactly(self) -> None:
        """Compare every token of every document from now on."""
        self._check_writer()
        self._tuner.drop()

    @property
    def parts(self) -> Parts:
        return replace(super().parts, tokens=self._tokens)

    def _candidates_of(self, query: FloatArray, depth: int) -> RowArray:
        return self._proposed(query, depth, None, Limits([], None, None)).rows

    def _exactly(self, query: FloatArray, k: int) -> RowArray:
        with self._token_view.current() as (index, _):
            return index.search(query, k)[0]

    def _write_beside(self, rows: range, extra: Any) -> Beside:
        batch: TokenBatch = extra
        segment, start = self._token_tail
        if self._tokens.is_full(start, len(batch.rows)):
            segment, start = segment + 1, 0
        block = self._tokens.append(segment, start, batch.rows)

        def settled() -> None:
            self._token_tail = (block.segment, block.start + block.rows)

        return Beside(lambda transaction: insert_tokens(transaction.sql, rows, batch.counts, block), settled)

    def _copy_beside(self, snapshot: Snapshot) -> Beside:
        first = max(self._tokens.existing(), default=0) + 1
        blocks, places = copy_living_tokens(snapshot, self._tokens, first)
        old = used_tokens(snapshot.sql)

        def settled() -> None:
            self._token_tail = (blocks[-1].segment, blocks[-1].start + blocks[-1].rows) if blocks else (first, 0)
            self._tokens.remove(old)

        return Beside(lambda transaction: replace_tokens(transaction.sql, blocks, places), settled)

    def _write_elsewhere(self) -> None:
        super()._write_elsewhere()
        self._token_tail = (max(self._tokens.existing(), default=0) + 1, 0)

    def _find_tails(self, snapshot: Snapshot) -> None:
        super()._find_tails(snapshot)
        self._token_tail = max(used_tokens(snapshot.sql).items(), default=self._token_tail)

    def files(self, snapshot: Snapshot) -> list[tuple[Segments, dict[int, int]]]:
        return [*super().files(snapshot), (self._tokens, used_tokens(snapshot.sql))]
