"""How every kind of collection is asked: the same words, the same checks, and one query or many at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection as Container
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mmseek._types import Hit
from mmseek.index.checks import check_k, id_list
from mmseek.index.closing import Closing

if TYPE_CHECKING:
    from mmseek._types import FloatArray


class Limits(NamedTuple):
    """Which documents may be found: none of `exclude`, only `candidates` if they are given, only what a filter holds
    for.
    """

    exclude: list[str]
    candidates: list[str] | None
    filter: str | None

    @classmethod
    def of(cls, exclude: Container[str], candidates: Container[str] | None, text: str | None) -> Limits:
        """As the methods take them.

        Raises:
            InputError: a string stands where a list of ids should.
        """
        return cls(id_list(exclude) if exclude else [], None if candidates is None else id_list(candidates), text)


class Searching(Closing, ABC):
    """The searches of a collection; see `mmseek.protocols.Collection` for what they owe."""

    def search(
        self,
        vector: FloatArray,
        k: int,
        *,
        exclude: Container[str] = (),
        candidates: Container[str] | None = None,
        filter: str | None = None,  # noqa: A002  # the word that Query and the other surfaces use
    ) -> list[Hit]:
        """See `Collection.search`."""
        query = self._checked_query(vector)
        check_k(k)
        return self._nearest([query], k, Limits.of(exclude, candidates, filter))[0]

    def search_many(
        self,
        vectors: FloatArray | Sequence[FloatArray],
        k: int,
        *,
        exclude: Container[str] = (),
        candidates: Container[str] | None = None,
        filter: str | None = None,  # noqa: A002  # the word that Query and the other surfaces use
    ) -> list[list[Hit]]:
        """See `Collection.search_many`."""
        queries = [self._checked_query(vector) for vector in vectors]
        check_k(k)
        limits = Limits.of(exclude, candidates, filter)
        return self._nearest(queries, k, limits) if queries else []

    def search_text(
        self,
        text: str,
        k: int,
        *,
        exclude: Container[str] = (),
        candidates: Container[str] | None = None,
        filter: str | None = None,  # noqa: A002  # the word that Query and the other surfaces use
    ) -> list[Hit]:
        """See `Collection.search_text`."""
        check_k(k)
        return self._by_words(text, k, Limits.of(exclude, candidates, filter))

    @abstractmethod
    def _checked_query(self, vector: FloatArray) -> FloatArray:
        """A query's vector, or vectors, as they are compared.

        Raises:
            InputError: it is none of this collection's.
        """

    @abstractmethod
    def _nearest(self, queries: Sequence[FloatArray], k: int, limits: Limits) -> list[list[Hit]]:
        """The k nearest documents of each of some queries, at least one, best first."""

    @abstractmethod
    def _by_words(self, text: str, k: int, limits: Limits) -> list[Hit]:
        """The k best documents for the words of a text."""
