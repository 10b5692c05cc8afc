"""What stands at addresses of the web: whole documents, and the pictures that documents name."""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from mmseek._types import Content, Image, Part, Text
from mmseek.errors import FetchError, InputError, ItemError
from mmseek.fetching import shown
from mmseek.index.corpus.entries import Entry, Located, Skipped, SourceFile
from mmseek.index.corpus.folder import name_problem
from mmseek.media import recognise

if TYPE_CHECKING:
    from mmseek.fetching import Fetched, Fetcher
    from mmseek.index.corpus.entries import ReadOptions

__all__ = ["read_url", "with_pictures"]

Read = Callable[[SourceFile, "ReadOptions"], Iterator[Entry]]

_WORKERS: Final = 8
_AHEAD: Final = 16  # documents whose pictures are on their way
_SUFFIXES: Final = {
    "text/html": ".html",
    "application/xhtml+xml": ".xhtml",
    "application/pdf": ".pdf",
    "text/markdown": ".md",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/epub+zip": ".epub",
}
_PLAIN: Final = ".txt"


def read_url(url: str, options: ReadOptions, read: Read) -> Iterator[Entry]:
    """The documents of one URL, as those of a file; its id is the URL."""
    assert options.fetcher is not None
    name = shown(url)
    if problem := name_problem(url):
        yield ItemError(problem, source=name)
        return
    try:
        found = options.fetcher.fetch(url)
    except InputError as error:
        # With its id: what an earlier run stored of it is kept.
        yield ItemError(str(error).removeprefix(f"{name} "), source=name, item_id=url, kind=error.code)
        return
    path = Path("/", _file_name(found))
    file = SourceFile(path=path, shown=name, id=url, root=path.parent, data=found.data, base=found.url)
    yield from read(file, options)


def _file_name(found: Fetched) -> str:
    """A name with the suffix that its bytes are to be read by: the server's word for it, else the address's own."""
    own = PurePosixPath(unquote(posixpath.basename(urlsplit(found.url).path)) or "page").name
    own = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in own)[-100:]
    suffix = _SUFFIXES.get(found.content_type)
    if suffix is None and found.content_type.startswith("text/") and not PurePosixPath(own).suffix:
        suffix = _PLAIN
    return own if suffix is None or own.lower().endswith(suffix) else f"{own}{suffix}"


def with_pictures(entries: Iterable[Entry], fetcher: Fetcher) -> Iterator[Entry]:
    """The same entries with the bytes of the pictures that were URLs, some documents ahead, in the same order.

    An item whose picture cannot be had fails; a page is read without it, its alternative text in its place, and that is
    told.
    """
    waiting: deque[Future[list[Entry]] | Entry] = deque()

    def due(entry: Future[list[Entry]] | Entry) -> Iterator[Entry]:
        if isinstance(entry, Future):
            yield from entry.result()
        else:
            yield entry

    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="fetch")
    try:
        for entry in entries:
            waiting.append(pool.submit(_filled, entry, fetcher) if _is_remote(entry) else entry)
            while waiting and (len(waiting) >= _AHEAD or not isinstance(waiting[0], Future)):
                yield from due(waiting.popleft())
        while waiting:
            yield from due(waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _is_remote(entry: Entry) -> bool:
    return isinstance(entry, Located) and any(image.url is not None for image in entry.content.images)


def _filled(entry: Entry, fetcher: Fetcher) -> list[Entry]:
    """A document with its pictures, and notices of those that it is without."""
    assert isinstance(entry, Located)
    parts: list[Part] = []
    told: list[Entry] = []
    for part in entry.content.parts:
        if not isinstance(part, Image) or part.url is None:
            before = parts[-1] if parts else None
            if isinstance(part, Text) and isinstance(before, Text):  # what was between them could not be had
                parts[-1] = Text(f"{before.text}\n\n{part.text}")
            else:
                parts.append(part)
            continue
        try:
            parts.append(Image(data=fetcher.fetch(part.url, _check_picture).data))
        except InputError as error:
            if entry.line is not None:
                place = {"source": entry.source, "line": entry.line, "item_id": entry.id}
                return [ItemError(f"its picture {error}", kind=error.code, **place)]  # type: ignore[arg-type]
            told.append(Skipped(entry.source, f"its picture {error}; the page is indexed without it"))
    content = Content(tuple(parts))
    if content.is_empty:
        return [*told, ItemError("has no text, and none of its pictures", source=entry.source, item_id=entry.id)]
    return [*told, replace(entry, content=content)]


def _check_picture(head: bytes) -> None:
    if recognise(head) is None:
        raise FetchError("is at an address that gives no picture of a known format: save it and give its path")
