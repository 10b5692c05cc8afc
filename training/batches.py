"""From picks to prepared batches: rows are read, decoded and tokenised in threads while the model trains."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mmseek._types import EncodeRequest, Text
from mmseek.embed.batching import Budget, cut_by_cost
from mmseek.training.ahead import RowsAhead
from mmseek.training.data.rows import Source, TrainingRow
from mmseek.training.families.base import Prepared
from mmseek.training.loss import Layout
from mmseek.training.sampling import BatchPlan, Pick
from mmseek.training.settings import BatchConfig

__all__ = ["Batch", "Loader", "chunks_by_cost", "make_chunks"]


@dataclass(frozen=True, slots=True)
class Batch:
    """One process's share of a step. Equal requests stand in `items` once; `places` is where each vector is.

    Args:
        items: prepared requests.
        places: (2 n + n k,) int64, of queries, positives and negatives.
        layout: what the loss needs to know.
        sources: of each row, for the log.
    """

    items: tuple[Prepared, ...]
    places: Tensor
    layout: Layout
    sources: tuple[int, ...]


@dataclass(slots=True)
class _Drawn:
    """A row with the documents that were drawn from it."""

    query: EncodeRequest
    positive: EncodeRequest
    negatives: list[EncodeRequest]
    known: list[int]
    teacher: list[float]
    source: int
    items: dict[EncodeRequest, Prepared] = field(default_factory=dict)


class Loader(RowsAhead[_Drawn]):
    """Batches of a run from some step on. Safe to iterate once at a time.

    Args:
        plan: which rows.
        sources: where they are.
        prepare: a request -> what the model takes.
        negatives: hard negatives a query.
        steps: how many batches the whole run has.
        workers: threads.
        skip_bad_rows: take the next row in place of one that cannot be used.
    """

    def __init__(
        self,
        plan: BatchPlan,
        sources: Sequence[Source],
        prepare: Callable[[EncodeRequest], Prepared],
        *,
        negatives: int,
        steps: int,
        workers: int = 2,
        skip_bad_rows: bool = False,
    ) -> None:
        super().__init__(plan, sources, steps=steps, workers=workers, skip_bad_rows=skip_bad_rows)
        self._prepare, self._negatives = prepare, negatives

    def __iter__(self) -> Iterator[Batch]:
        """The batches of steps `start` to the last.

        Raises:
            DatasetError: a row cannot be used, and rows are not to be skipped.
        """
        return map(self._batch, self.drawn_ahead())

    def drawn(self, row: TrainingRow, pick: Pick) -> _Drawn:
        """A row's query, a positive and negatives, all prepared."""
        rng = np.random.default_rng(pick.draw)
        positive = int(rng.integers(len(row.positives)))
        chosen = rng.permutation(len(row.negatives))[: self._negatives].tolist()
        negatives = [row.negatives[place] for place in chosen]
        teacher: list[float] = []
        if row.scores is not None:
            teacher = [row.scores[positive], *(row.scores[len(row.positives) + place] for place in chosen)]
        known = [_content_key(each) for each in row.positives]
        drawn = _Drawn(row.query, row.positives[positive], negatives, known, teacher, pick.source)
        for request in (drawn.query, drawn.positive, *negatives):
            drawn.items[request] = self._prepare(request)
        return drawn

    def _batch(self, rows: list[_Drawn]) -> Batch:
        numbers: dict[EncodeRequest, int] = {}
        items: list[Prepared] = []
        for row in rows:
            for request, prepared in row.items.items():
                if request not in numbers:
                    numbers[request] = len(items)
                    items.append(prepared)
        k = self._negatives
        negatives = [(row.negatives + [row.positive] * k)[:k] for row in rows]
        requests = [row.query for row in rows] + [row.positive for row in rows]
        requests += [each for several in negatives for each in several]
        return Batch(
            tuple(items),
            torch.tensor([numbers[request] for request in requests]),
            Layout(
                queries=len(rows),
                negatives=k,
                present=torch.tensor(
                    [[place < len(row.negatives) for place in range(k)] for row in rows], dtype=torch.bool
                ),
                keys=torch.tensor([_content_key(request) for request in requests]),
                known=_padded([row.known for row in rows]),
                teacher=torch.tensor([(row.teacher + [float("nan")] * (1 + k))[: 1 + k] for row in rows]),
            ),
            tuple(row.source for row in rows),
        )


def _padded(rows: list[list[int]]) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([(row + [row[0]] * longest)[:longest] for row in rows])


def _content_key(request: EncodeRequest) -> int:
    """63 bits that equal content shares. A picture counts by where it is, for its bytes are not read here."""
    state = hashlib.sha256()
    for part in request.content.parts:
        if isinstance(part, Text):
            state.update(b"T" + part.text.encode("utf-8", "surrogatepass") + b"\0")
        else:
            place = (
                part.data if part.data is not None else str(part.path or part.url).encode("utf-8", "surrogateescape")
            )
            state.update(b"I" + place + b"\0")
    return int.from_bytes(state.digest()[:8], "big") >> 1


def make_chunks(items: Sequence[Prepared], config: BatchConfig) -> list[list[int]]:
    """Places of items that go through the model together, the longest first; each item is in one chunk."""
    return chunks_by_cost([sum(unit.cost for unit in item) for item in items], config)


def chunks_by_cost(costs: Sequence[int], config: BatchConfig) -> list[list[int]]:
    """The same, of what costs so much each."""
    order = sorted(range(len(costs)), key=lambda place: -costs[place])
    if config.chunk:
        return [order[start : start + config.chunk] for start in range(0, len(order), config.chunk)]
    if not config.chunk_tokens:
        return [order]
    chunks = []
    while order:
        count = cut_by_cost([costs[place] for place in order], Budget(config.chunk_tokens))
        chunks.append(order[:count])
        order = order[count:]
    return chunks
