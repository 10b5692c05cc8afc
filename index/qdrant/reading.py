"""Reading many points of a store: in the order of storing, field by field, and the first of a ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmseek.index.qdrant.store import DOCUMENTS, Condition, Found, Store

_PAGE = 1000
_MARGIN = 1
_MOST_TIES = 10_000


def newest_row(store: Store) -> int:
    """The highest row there is, or 0."""
    found = store.page(DOCUMENTS, 1, ("row",), last_first=True)
    return int(found[0].payload["row"]) if found else 0


def all_found(
    store: Store, size: int, fields: Sequence[str], *, vectors: bool = False, where: Condition | None = None
) -> Iterator[list[Found]]:
    """Documents in pages of about this size, by row. What is stored after the beginning is not among them.

    Qdrant has no snapshots to read: what is deleted or replaced meanwhile is left out.
    """
    newest = newest_row(store)
    low, seen = 0, set[str]()
    while True:
        condition = {
            "must": [{"key": "row", "range": {"gte": low, "lte": newest}}, *([] if where is None else [where])]
        }
        # Writers on two machines may have stored at the same microsecond: the last row is read again.
        page = store.page(condition, size + len(seen), fields, vectors=vectors)
        fresh = [found for found in page if found.id not in seen]
        if fresh:
            yield fresh
        if len(page) < size + len(seen) or not fresh:
            return
        low = int(fresh[-1].payload["row"])
        seen = {found.id for found in page if found.payload["row"] == low}


def read_field(store: Store, where: Condition, field: str) -> Iterator[tuple[str, Any]]:
    """The points that a condition holds for, and their values of a field in a part of the payload: `strs.NAME`."""
    part, _, name = field.partition(".")
    for page in all_found(store, _PAGE, ("row", field), where=where):
        for found in page:
            yield found.id, found.payload[part][name]


def first_by_score(ask: Callable[[int], list[Found]], k: int) -> list[Found]:
    """The k best of a ranking, equal scores by row.

    Qdrant orders equal scores as it likes, so all that are equal to the k-th are asked for, up to 10,000.
    """
    limit = k + _MARGIN
    while True:
        found = ask(limit)
        whole = len(found) < limit or limit >= k + _MOST_TIES
        if whole or found[-1].score < found[k - 1].score:
            return sorted(found, key=lambda one: (-one.score, one.payload["row"]))[:k]
        limit = min(limit * 4, k + _MOST_TIES)
