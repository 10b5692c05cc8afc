"""Documents of a Qdrant a page at a time, by row; see `mmseek.index.listing`."""

from __future__ import annotations

from mmseek.index.listing import check_page
from mmseek.index.qdrant import records
from mmseek.index.qdrant.pictures import Pictures
from mmseek.index.qdrant.store import Condition, Found, Store
from mmseek.protocols import DocumentPage

_TIES = 1000


def read_page(store: Store, pictures: Pictures, limit: int, after: int, where: Condition | None) -> DocumentPage:
    """A page; writers on several machines may store at the same microsecond, and what shares a row stays together."""
    check_page(limit, after)
    found = _between(store, after + 1, None, limit + 1, where)
    more = None
    if len(found) > limit:
        more = int(found[limit - 1].payload["row"])
        page = found[:limit]
        if int(found[limit].payload["row"]) == more:
            seen = {one.id for one in page}
            page += [one for one in _between(store, more, more, _TIES, where) if one.id not in seen]
        found = page
    return DocumentPage(tuple(records.to_document(one.payload, pictures) for one in found), more)


def _between(store: Store, low: int, high: int | None, limit: int, where: Condition | None) -> list[Found]:
    rows = {"gte": low} if high is None else {"gte": low, "lte": high}
    must = [{"key": "row", "range": rows}, *([] if where is None else [where])]
    return list(store.page({"must": must}, limit, ("row", *records.SHOWN)))
