"""The pictures that lines of a job name by URL: fetched in the job's own thread, some documents at a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mmseek.api.server.fetched import fetched, filled, urls_of_contents
from mmseek.api.server.jobs.batches import BYTES, Batch, failure
from mmseek.api.server.jobs.store import JobFailure
from mmseek.errors import InputError
from mmseek.index.corpus import Located

if TYPE_CHECKING:
    from mmseek.api.server.limits import ServerLimits

_DOCUMENTS: Final = 8  # whose pictures are on their way at once


def with_fetched(batch: Batch, limits: ServerLimits) -> Batch:
    """The batch with the pictures in place of their URLs; a document whose picture cannot be had is a failure.

    Once what was fetched is as large as the lines of a batch may be, the rest is left for the next batch. Blocks; call
    it in a thread without an event loop.

    Raises:
        ClientGone: the job was interrupted; fetching ends at once.
    """
    if limits.fetcher is None or not any(urls_of_contents(document.content for document in batch.documents)):
        return batch
    return asyncio.run(_with_fetched(batch, limits))


async def _with_fetched(batch: Batch, limits: ServerLimits) -> Batch:
    made = replace(batch, documents=[], ends=[], failures=list(batch.failures))
    size = 0
    for start in range(0, len(batch.documents), _DOCUMENTS):
        if size >= BYTES:
            return _cut(made, batch.ends[start - 1])
        group = batch.documents[start : start + _DOCUMENTS]
        for outcome in await asyncio.gather(*(_one(document, limits) for document in group)):
            if isinstance(outcome, JobFailure):
                made.failures.append(outcome)
            else:
                made.documents.append(outcome)
                size += sum(len(image.data) for image in outcome.content.images if image.data is not None)
    return made


def _cut(batch: Batch, end: tuple[int, int]) -> Batch:
    """The batch up to the end of a document."""
    place, lines = end
    kept = [each for each in batch.failures if each.line <= lines]
    return replace(batch, place=place, lines=lines, failures=kept, ended=False)


async def _one(document: Located, limits: ServerLimits) -> Located | JobFailure:
    try:
        found = await fetched(urls_of_contents([document.content]), limits)
        return replace(document, content=filled(document.content, found))
    except InputError as error:
        return failure(document.line or 0, document.id, error)
