"""Documents a page at a time, in the order in which they were stored.

Rows are numbered once and never again, also by a compaction: a list that goes on after a row misses nothing that was
there from its beginning to its end, however much is written meanwhile. What is replaced gets a new row, and is listed
again at its new place.
"""

from __future__ import annotations

from typing import Final

from mmseek.errors import InputError
from mmseek.index import codec
from mmseek.index.filter_sql import Condition, compile_filter
from mmseek.index.ledger import Snapshot
from mmseek.protocols import DocumentPage

MOST: Final = 10_000


def check_page(limit: int, after: int) -> None:
    """Refuse a page of no size, and a place that no document could have.

    Raises:
        InputError: says which.
    """
    if not 1 <= limit <= MOST:
        raise InputError(f"a page has 1 to {MOST} documents, not {limit}")
    if not 0 <= after < 2**63:
        raise InputError("no document stands at the place where the list is to go on: begin it anew")


def read_page(snapshot: Snapshot, assets: codec.Places, limit: int, after: int, text: str | None) -> DocumentPage:
    """A page of what a snapshot sees; see `Listing.page`."""
    check_page(limit, after)
    condition = Condition("1", []) if text is None else compile_filter(text)
    records = snapshot.records_after(after, limit + 1, condition)
    more = records[limit - 1].row if len(records) > limit else None
    return DocumentPage(tuple(codec.decode(record, assets) for record in records[:limit]), more)
