"""A training row: a query, what it should find and what it should not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mmseek._types import EncodeRequest
from mmseek.errors import ItemError

__all__ = ["Source", "TrainingRow"]


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A query with its documents, each with its instruction if it has one. Pictures are paths until they are needed.

    Args:
        query: on the query side of the encoder.
        positives: at least one; one of them is drawn each time the row is.
        negatives: hard negatives, possibly none.
        scores: a teacher's scores of positives and then negatives, if there was one.
        id: for messages.
    """

    query: EncodeRequest
    positives: tuple[EncodeRequest, ...]
    negatives: tuple[EncodeRequest, ...] = ()
    scores: tuple[float, ...] | None = None
    id: str | None = None


class Source(Protocol):
    """Rows by number, in bounded memory. Safe to read from several threads."""

    @property
    def name(self) -> str: ...

    @property
    def bad(self) -> tuple[ItemError, ...]:
        """The rows that cannot be used; `len` and `row` do not know them."""
        ...

    def __len__(self) -> int: ...

    def row(self, number: int) -> TrainingRow:
        """The usable row of this number, from 0.

        Raises:
            ItemError: the file has changed since it was opened.
        """
        ...
