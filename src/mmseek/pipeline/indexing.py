"""`index_corpus`: documents through the encoder into a collection, in bounded memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmseek._types import Document, Encoded, EncodeRequest
from mmseek.config import settings
from mmseek.digest import digest
from mmseek.errors import InputError, ItemError, MmseekError, StorageError
from mmseek.index.corpus import Deferred, Ended, Entry, Skipped, held_bytes
from mmseek.media import MediaLimits
from mmseek.pipeline.encoders import AnyEncoder, check_encoder, outcomes
from mmseek.pipeline.jobs import Ids, Job, all_loaded, bare, chunks, failure, store, unchanged_ids
from mmseek.pipeline.pruning import drop_outdated, drop_unseen, why_not_prune
from mmseek.pipeline.report import IndexingInterrupted, IndexingStopped, IndexReport, Progress
from mmseek.protocols import Collection

if TYPE_CHECKING:
    from mmseek._types import FloatArray

_PROGRESS_SECONDS = 0.1
BATCH_BYTES = 16 * 2**20  # of texts and pictures in memory: a batch that holds so much is stored before it is full


def index_corpus(
    documents: Iterable[Entry],
    encoder: AnyEncoder,
    collection: Collection,
    *,
    batch_size: int = 256,
    batch_seconds: float = 30.0,
    limits: MediaLimits | None = None,
    total: int | None = None,
    prune: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> IndexReport:
    """Encode documents and store them; those that the collection holds unchanged are not encoded again.

    Every batch is durable when it is stored, so a run that ends early, by whatever cause, is resumed by running it
    again. Unchanged means: equal content, pictures and metadata, and the pictures at the same places. An item that
    fails leaves the rest alone, and the document of that id as it was before; an id that comes twice in one run fails
    the second time. When all is stored, pages and passages that a file no longer has are taken out. Memory depends on
    `batch_size`, whose documents hold 16 MiB at most, and on the encoder's window; it takes about 80 bytes for each id
    and a few hundred for each failure.

    Args:
        documents: what to index; errors and notices of reading among them go into the report.
        encoder: the one that made the collection, of one vector an item or of one for each token.
        collection: open for writing.
        batch_size: documents stored in one step.
        batch_seconds: a batch that took longer than this is stored before it is full.
        limits: of the pictures that are hashed, by default those of the settings; the encoder has its own.
        total: number of documents, if known; only shown.
        prune: at the end take out what is in the collection and not among the documents, so that a removed file leaves
            it; documents of files that failed stay. Nothing is taken out if it is unclear what was removed: there was
            no document at all, or something failed that has no id. The report then says so.
        on_progress: called at most every 0.1 s, and at the end.

    Raises:
        EncoderMismatch: the collection holds vectors of another encoder.
        InputError: it holds one vector a document and the encoder gives many, or the other way round.
        IndexingStopped: the disk is full or failing; carries the report so far.
        IndexingInterrupted: Ctrl-C; carries the report so far. It is a KeyboardInterrupt.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    info = collection.info()
    check_encoder(encoder, info)
    limits = limits or MediaLimits.from_settings(settings())
    options = _Options(batch_size, batch_seconds, limits, total, prune, on_progress)
    run = _Run(encoder, info.encoder.token_pooling, collection, options)
    try:
        run.go(documents)
    except KeyboardInterrupt:
        raise IndexingInterrupted(run.report()) from None
    except StorageError as error:
        raise IndexingStopped(error, run.report()) from error
    return run.report()


@dataclass(frozen=True, slots=True)
class _Options:
    batch_size: int
    batch_seconds: float
    limits: MediaLimits
    total: int | None
    prune: bool
    on_progress: Callable[[Progress], None] | None


@dataclass(slots=True)
class _Batch:
    """Encoded documents that are not stored yet."""

    jobs: list[Job] = field(default_factory=list)
    vectors: list[FloatArray] = field(default_factory=list)
    held: int = 0
    began: float = field(default_factory=time.monotonic)


class _Run:
    """The state of one run: read -> digest -> changed? -> encode -> store."""

    def __init__(self, encoder: AnyEncoder, token_pooling: int, collection: Collection, options: _Options) -> None:
        self._encoder = encoder
        self._token_pooling = token_pooling
        self._collection = collection
        self._options = options
        self._began = time.monotonic()
        self._told = self._began
        self._ids = Ids()
        self._waiting: deque[Job] = deque()  # handed to the encoder, outcome not back yet
        self._encoded = 0
        self._indexed = 0
        self._unchanged = 0
        self._failed: list[ItemError] = []
        self._skipped: list[Skipped] = []
        self._ended: list[Ended] = []
        self._removed = 0
        self._not_pruned: str | None = None

    def go(self, documents: Iterable[Entry]) -> None:
        batch = _Batch()
        found = outcomes(self._encoder, self._requests(documents), self._token_pooling)
        with ExitStack() as ending:
            ending.callback(found.close)  # the encoder's threads end here, not when it is collected
            for outcome in found:
                self._take(outcome, batch)
                if self._is_due(batch):
                    self._store(batch)
                    batch = _Batch()
                self._tell()
            self._store(batch)
        self._remove()
        self._tell(last=True)

    def report(self) -> IndexReport:
        return IndexReport(
            indexed=self._indexed,
            unchanged=self._unchanged,
            failed=tuple(self._failed),
            skipped=tuple(self._skipped),
            removed=self._removed,
            not_pruned=self._not_pruned,
            seconds=time.monotonic() - self._began,
        )

    def _requests(self, documents: Iterable[Entry]) -> Iterator[EncodeRequest]:
        """What the encoder has to do. It pulls from here, so reading never runs ahead of encoding."""
        for chunk in chunks(self._jobs(documents), self._options.batch_size, BATCH_BYTES):
            unchanged = unchanged_ids(chunk, self._collection)
            for job in chunk:
                if job.document.id in unchanged:
                    self._unchanged += 1
                    self._tell()
            changed = (job for job in chunk if job.document.id not in unchanged)
            with closing(all_loaded(changed)) as documents_of_jobs:
                for job, document in documents_of_jobs:
                    if isinstance(document, MmseekError):
                        self._failed.append(failure(job.document, document))
                    else:
                        self._waiting.append(Job(document, job.digest))
                        yield EncodeRequest(document.content)

    def _remove(self) -> None:
        """Take out what the files no longer have."""
        self._removed += drop_outdated(self._collection, self._ended, self._ids.__contains__)
        if self._options.prune:
            self._not_pruned = why_not_prune(len(self._ids), self._failed)
            if self._not_pruned is None:
                self._removed += drop_unseen(self._collection, self._ids.__contains__, self._failed)

    def _jobs(self, documents: Iterable[Entry]) -> Iterator[Job]:
        for entry in documents:
            if isinstance(entry, Skipped):
                self._skipped.append(entry)
            elif isinstance(entry, ItemError):
                self._failed.append(bare(entry))
            elif isinstance(entry, Ended):
                self._ended.append(entry)
            else:
                try:
                    yield Job(entry, self._digest(entry))
                except MmseekError as error:
                    self._failed.append(failure(entry, error))

    def _digest(self, document: Document | Deferred) -> str:
        """The digest of a document; reads its pictures, unless it is deferred and brings its digest.

        Raises:
            MmseekError: the document is empty, its id came before, or a picture cannot be read.
        """
        self._ids.check(document)
        if isinstance(document, Deferred):
            return document.digest
        return digest(document.content, document.metadata, document.parent_id, limits=self._options.limits)

    def _take(self, outcome: Encoded, batch: _Batch) -> None:
        job = self._waiting.popleft()
        if outcome.vector is None:
            error = outcome.error or ItemError("the encoder gave no vector")
            self._failed.append(failure(job.document, error))
            return
        self._encoded += 1
        batch.jobs.append(job)
        batch.vectors.append(outcome.vector)
        if isinstance(job.document, Document):
            batch.held += held_bytes(job.document.content)

    def _is_due(self, batch: _Batch) -> bool:
        old = time.monotonic() - batch.began >= self._options.batch_seconds
        return old or len(batch.jobs) >= self._options.batch_size or batch.held >= BATCH_BYTES

    def _store(self, batch: _Batch) -> None:
        for _, error in store(self._collection, batch.jobs, batch.vectors):
            if error is None:
                self._indexed += 1
            else:
                self._failed.append(error)

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self._options.on_progress is None or (not last and now - self._told < _PROGRESS_SECONDS):
            return
        self._told = now
        self._options.on_progress(
            Progress(
                done=self._encoded + self._unchanged + len(self._failed),
                total=self._options.total,
                indexed=self._indexed,
                unchanged=self._unchanged,
                failed=len(self._failed),
                seconds=now - self._began,
            )
        )
