"""What every engine of indexing does to a document: check it, see whether it changed, store it, tell what failed."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmseek._types import Document
from mmseek.errors import InputError, ItemError, MmseekError
from mmseek.index.corpus import Deferred, Located, held_bytes

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import Collection

__all__ = [
    "Ids",
    "Job",
    "all_loaded",
    "bare",
    "chunks",
    "failure",
    "loaded",
    "picture_paths",
    "store",
    "unchanged_ids",
]

_AT_ONCE = 8  # documents that wait for somebody else
_AHEAD = 16  # documents that are looked at for such


@dataclass(frozen=True, slots=True)
class Job:
    """A document that may have to be encoded, and its digest."""

    document: Document | Deferred
    digest: str


class Ids:
    """The ids of one run, about 80 bytes each."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._seen

    def check(self, document: Document | Deferred) -> None:
        """Take a document's id.

        Raises:
            ItemError: the document is empty, or its id came before or is no text.
        """
        try:
            key = _key(document.id)
        except UnicodeEncodeError as error:
            raise ItemError("its id is not valid Unicode: give it another one") from error
        if key in self._seen:
            raise ItemError(f"its id {document.id!r} was used before in this run: give this one another id")
        self._seen.add(key)
        if isinstance(document, Document) and document.content.is_empty:
            raise ItemError("has neither text nor picture: fill it or take it out")


def chunks(jobs: Iterable[Job], count: int, most_bytes: int) -> Iterator[list[Job]]:
    """Lists of at most `count` jobs, each ended before that where its documents hold `most_bytes`."""
    chunk: list[Job] = []
    held = 0
    for job in jobs:
        chunk.append(job)
        document = job.document
        held += document.held if isinstance(document, Deferred) else held_bytes(document.content)
        if len(chunk) >= count or held >= most_bytes:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def loaded(document: Document | Deferred) -> Document:
    """The document itself, made now if it was deferred; it keeps its place.

    Raises:
        MmseekError: it cannot be made.
    """
    if isinstance(document, Document):
        return document
    made = document.load()
    return Located(made.id, made.content, made.metadata, made.parent_id, document.source, document.line)


def all_loaded(jobs: Iterable[Job]) -> Generator[tuple[Job, Document | MmseekError], None, None]:
    """Jobs with their documents, or what is wrong with them, in the same order; those that wait are made ahead."""
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="load")  # without a thread until one is needed
    waiting: deque[tuple[Job, Future[Document] | None]] = deque()
    try:
        for job in jobs:
            early = isinstance(job.document, Deferred) and job.document.waits
            waiting.append((job, pool.submit(loaded, job.document) if early else None))
            if len(waiting) > _AHEAD:
                yield _outcome(*waiting.popleft())
        while waiting:
            yield _outcome(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _outcome(job: Job, future: Future[Document] | None) -> tuple[Job, Document | MmseekError]:
    try:
        return job, loaded(job.document) if future is None else future.result()
    except MmseekError as error:
        return job, error


def unchanged_ids(jobs: Sequence[Job], collection: Collection) -> set[str]:
    """Those that the collection holds with equal digest, and with their pictures at the same places."""
    stored = collection.digests([job.document.id for job in jobs])
    equal = {job.document.id: job.document for job in jobs if stored.get(job.document.id) == job.digest}
    with_files = {
        name: document
        for name, document in equal.items()
        if isinstance(document, Document) and any(picture_paths(document))
    }
    held = collection.get(list(with_files))
    moved = {name for name, document in held.items() if not _same_places(with_files[name], document)}
    return equal.keys() - moved


def store(
    collection: Collection, jobs: Sequence[Job], vectors: Sequence[FloatArray]
) -> Iterator[tuple[int, ItemError | None]]:
    """Store documents with their vectors; for each, once it is durable or refused, its position and what was wrong.

    Errors other than InputError pass through: they are not a document's own.
    """
    if not jobs:
        return
    try:
        _upsert(collection, jobs, vectors)
    except InputError:  # one of them cannot be stored: it alone is to fail
        for position, (job, vector) in enumerate(zip(jobs, vectors, strict=True)):
            try:
                _upsert(collection, [job], [vector])
            except InputError as error:
                yield position, failure(job.document, error)
            else:
                yield position, None
    else:
        yield from ((position, None) for position in range(len(jobs)))


def picture_paths(document: Document) -> Iterator[Path]:
    """The files among a document's pictures."""
    return (image.path for image in document.content.images if image.path is not None)


def failure(document: Document | Deferred, error: MmseekError) -> ItemError:
    """The error of one document, with its place."""
    reason = error.reason if isinstance(error, ItemError) else str(error)
    source, line = (document.source, document.line) if isinstance(document, Located | Deferred) else (None, None)
    kind = error.kind if isinstance(error, ItemError) else error.code
    return ItemError(reason, source=source, line=line, item_id=document.id, kind=kind)


def bare(error: ItemError) -> ItemError:
    """The same error without its traceback, whose frames would keep whole documents alive."""
    return ItemError(error.reason, source=error.source, line=error.line, item_id=error.item_id, kind=error.kind)


def _key(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest()


def _upsert(collection: Collection, jobs: Sequence[Job], vectors: Sequence[FloatArray]) -> None:
    documents = [_plain(job.document) for job in jobs if isinstance(job.document, Document)]
    stored = vectors if vectors[0].ndim == 2 else np.stack(vectors)
    collection.upsert(documents, stored, [job.digest for job in jobs])


def _same_places(document: Document, held: Document) -> bool:
    """Whether the pictures that are files are the files that the collection knows. A digest knows their bytes only."""
    new = [image.path and image.path.absolute() for image in document.content.images]
    old = [image.path for image in held.content.images]
    return len(new) == len(old) and all(path is None or path == was for path, was in zip(new, old, strict=True))


def _plain(document: Document) -> Document:
    """A document without its place, which is not stored."""
    if type(document) is Document:
        return document
    return Document(document.id, document.content, document.metadata, document.parent_id)
