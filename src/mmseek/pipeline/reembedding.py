"""A collection with another encoder: made beside the old one, and put in its place when it has all documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mmseek._types import Document
from mmseek.errors import InputError
from mmseek.index import folder_of, is_alias, open_collection, set_alias
from mmseek.pipeline.encoders import AnyEncoder, stored_identity
from mmseek.pipeline.indexing import index_corpus
from mmseek.pipeline.report import IndexReport, Progress
from mmseek.protocols import Collection

_BATCH = 64


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """What became of it.

    Args:
        source: the collection that was read; it is kept.
        target: the new collection.
        switched: whether the alias stands for the new collection now.
        report: of the indexing into the new collection.
        removed: documents of the new collection that the old one no longer has.
    """

    source: Path
    target: Path
    switched: bool
    report: IndexReport
    removed: int


def reembed_collection(
    location: str | Path,
    encoder: AnyEncoder,
    target: str | Path | None = None,
    *,
    switch: bool = True,
    force: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> ReembedReport:
    """Encode all documents of a collection anew, into a collection of their own, and let an alias stand for that one.

    The old collection is searched and written meanwhile, and is kept. A run that ends early is resumed by running it
    again: what the new collection has is not encoded again. What was written to the old one meanwhile is caught up
    with, for the last step with its writer locked out, so nothing is missed.

    Args:
        location: the collection, or an alias of it.
        encoder: the new one.
        target: where the new collection is; by default beside the old one, named for the encoder's fingerprint.
        switch: turn the alias to the new collection, if `location` is one.
        force: switch although some documents could not be encoded.
        on_progress: called as in `index_corpus`.

    Raises:
        InputError: the collection is this encoder's already.
        EncoderMismatch: at `target` is a collection of a third encoder.
        CollectionLocked: somebody writes to the old collection at the last step, or to the new one.
    """
    source = folder_of(location)
    with closing(open_collection(source)) as reader:
        info = reader.info()
        if info.encoder.same_vectors(stored_identity(encoder)):
            raise InputError(f"{source} has the vectors of {encoder.identity} already: name another encoder")
        name = f"{source.name}.{encoder.identity.fingerprint[:8]}"
        place = source.with_name(name) if target is None else Path(target).absolute()
        with closing(open_collection(place, mode="write", encoder=stored_identity(encoder))) as writer:
            first = index_corpus(_documents(reader), encoder, writer, total=info.documents, on_progress=on_progress)
            # With the right to write to it in our hands, the source does not change any more.
            with closing(open_collection(source, mode="write")) as settled:
                last = index_corpus(_documents(settled), encoder, writer)
                removed = writer.delete(_gone(settled, writer))
                whole = not last.failed
                switched = switch and is_alias(Path(location).absolute()) and (whole or force)
                if switched:
                    set_alias(Path(location), place)
    return ReembedReport(source, place, switched, _both(first, last), removed)


def _documents(collection: Collection) -> Iterator[Document]:
    for batch in collection.export(_BATCH):
        yield from batch.documents


def _gone(source: Collection, target: Collection) -> list[str]:
    """Ids that only the target has."""
    return list({document.id for document in target.documents()} - {document.id for document in source.documents()})


def _both(first: IndexReport, last: IndexReport) -> IndexReport:
    """One report of both passes; what failed is what failed in the second, which saw everything."""
    indexed = first.indexed + last.indexed
    return IndexReport(
        indexed=indexed,
        unchanged=max(0, last.unchanged + last.indexed - indexed),
        failed=last.failed,
        skipped=last.skipped,
        seconds=first.seconds + last.seconds,
    )
