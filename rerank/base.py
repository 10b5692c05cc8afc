"""The `Reranker` protocol over a family's `prepare` and `forward`: cost-cut batches, input order, a bad pair alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek._types import Content, Pair, RerankerIdentity, Scored
from mmseek.errors import EncodeError, MmseekError
from mmseek.models.device import free_cached_memory, is_out_of_memory

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["BatchedReranker", "Prepared", "cut_batches", "placed"]

_WINDOW: Final = 128


@dataclass(frozen=True, slots=True)
class Prepared:
    """A pair ready for the model. `cost` is about the number of its tokens, visual ones included."""

    payload: Any
    cost: int


class BatchedReranker(ABC):
    """A reranker of one score a pair. Subclasses give `identity`, `budget`, `prepare` and `forward`."""

    @property
    @abstractmethod
    def identity(self) -> RerankerIdentity:
        """Spec and fingerprint."""

    @property
    @abstractmethod
    def budget(self) -> int:
        """The cost of the largest batch: its number of pairs times the cost of the longest."""

    @abstractmethod
    def prepare(self, pair: Pair) -> Prepared:
        """Tokens and pixels of one pair.

        Raises:
            MmseekError: this pair cannot be scored.
        """

    def prepare_all(self, pairs: Sequence[Pair]) -> Iterable[Prepared | MmseekError]:
        """Prepare the pairs of a window, in their order; what a pair fails with takes its place."""
        return map(self._prepared, pairs)

    def _prepared(self, pair: Pair) -> Prepared | MmseekError:
        try:
            return self.prepare(pair)
        except MmseekError as error:
            return error

    def plan(self, prepared: Mapping[int, Prepared]) -> Mapping[int, Prepared]:
        """Look at all pairs of a window, by their places, before they are cut into batches; costs may change."""
        return prepared

    @abstractmethod
    def forward(self, payloads: Sequence[Any]) -> FloatArray:
        """Scores (n,) of prepared pairs."""

    def score(self, query: Content, documents: Sequence[Content], instruction: str | None = None) -> FloatArray:
        """Scores (n,), float32, one a document in their order, higher is better.

        Raises:
            MmseekError: the first document that cannot be scored; of several, its position (from 0) is named.
        """
        scores = np.empty(len(documents), dtype=np.float32)
        pairs = (Pair(query, document, instruction) for document in documents)
        for position, scored in enumerate(self.stream(pairs)):
            if scored.score is None:
                raise placed(scored.error, position if len(documents) > 1 else None)
            scores[position] = scored.score
        return scores

    def stream(self, pairs: Iterable[Pair]) -> Iterator[Scored]:
        """Score any number of pairs in bounded memory: one outcome each, in input order; a bad one fails alone."""
        waiting = iter(pairs)
        while window := list(islice(waiting, _WINDOW)):
            yield from self._score_window(window)

    def _score_window(self, pairs: Sequence[Pair]) -> list[Scored]:
        outcomes: dict[int, Scored] = {}
        found: dict[int, Prepared] = {}
        for place, prepared_pair in enumerate(self.prepare_all(pairs)):
            if isinstance(prepared_pair, Prepared):
                found[place] = prepared_pair
            else:
                outcomes[place] = Scored(error=prepared_pair)
        prepared = self.plan(found)
        # The costliest first: if memory runs out it does so at once, and padding is least among equals.
        places = sorted(prepared, key=lambda place: -prepared[place].cost)
        for batch in cut_batches(places, [prepared[place].cost for place in places], self.budget):
            outcomes.update(zip(batch, self._forward([prepared[place].payload for place in batch]), strict=True))
        return [outcomes[place] for place in range(len(pairs))]

    def _forward(self, payloads: Sequence[Any]) -> list[Scored]:
        """Run a batch; one that fails is halved until only the pair that is to blame fails."""
        failure: Exception
        try:
            return [_scored(float(score)) for score in self.forward(payloads)]
        except Exception as error:  # noqa: BLE001 - looked at below, where its traceback no longer holds the batch
            failure = error.with_traceback(None)
        short_of_memory = is_out_of_memory(failure)
        if short_of_memory:
            free_cached_memory()
        if half := len(payloads) // 2:
            return self._forward(payloads[:half]) + self._forward(payloads[half:])
        if isinstance(failure, MmseekError):
            return [Scored(error=failure)]
        what = "does not fit into memory" if short_of_memory else "made the reranker fail"
        reason = " ".join(str(failure).split())[:300]
        return [Scored(error=EncodeError(f"this pair {what} ({type(failure).__name__}: {reason}): leave it out"))]


def cut_batches(places: Sequence[int], costs: Sequence[int], budget: int) -> list[list[int]]:
    """Cut places into consecutive batches of at least one, each within the budget when padded to its costliest."""
    batches: list[list[int]] = []
    longest = 0
    for place, cost in zip(places, costs, strict=True):
        if batches and (len(batches[-1]) + 1) * max(longest, cost) <= budget:
            batches[-1].append(place)
            longest = max(longest, cost)
        else:
            batches.append([place])
            longest = cost
    return batches


def _scored(score: float) -> Scored:
    if not np.isfinite(score):
        return Scored(error=EncodeError("the reranker gave no usable score (NaN or infinite): check its weights"))
    return Scored(score=score)


def placed(error: MmseekError | None, position: int | None) -> MmseekError:
    """The error, naming the document's position if one is given."""
    if error is None:
        error = MmseekError("a reranker gave neither a score nor an error: report this as a bug")
    if position is not None:
        # The error is this call's alone, so its sentence may be completed in place, whatever class it is.
        error.args = (f"document {position}: {error}", *error.args[1:])
    return error
