"""Everything a collection says about itself, compared with everything else it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmseek.errors import CollectionError
from mmseek.index import codec
from mmseek.index.assets import AssetStore
from mmseek.index.connections import Connections
from mmseek.index.head import Head, read_head
from mmseek.index.ledger import Snapshot
from mmseek.index.manifest import Manifest, read_manifest
from mmseek.index.rawfile import hash_file
from mmseek.index.segments import Block, Segments
from mmseek.index.tokens.verify import token_problems
from mmseek.protocols import VerifyReport

if TYPE_CHECKING:
    from mmseek.protocols import RowArray

_MOST = 100  # problems of one kind that are listed
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Parts:
    """Of what a collection consists."""

    folder: Path
    manifest: Manifest
    connections: Connections
    segments: Segments
    assets: AssetStore
    tokens: Segments | None = None  # of a multi-vector collection


def verify(parts: Parts) -> VerifyReport:
    """Read everything and compare; changes nothing. Beside a writer it checks one state of the collection."""
    report = VerifyReport(0, 0)
    for _ in range(_ATTEMPTS):
        epoch, report = _verify_once(parts)
        # A compaction meanwhile takes away the files of the state that was being checked.
        if report.ok or epoch is None or epoch == _epoch(parts):
            break
    return report


def _epoch(parts: Parts) -> int | None:
    try:
        with parts.connections.snapshot() as snapshot:
            return snapshot.state().epoch
    except CollectionError:
        return None


def _verify_once(parts: Parts) -> tuple[int | None, VerifyReport]:
    problems: list[str] = []
    documents = vectors = 0
    epoch = None
    problems += _manifest_problems(parts)
    head, found = _head(parts)  # before the snapshot, so that it is not ahead of it
    problems += found
    try:
        with parts.connections.snapshot() as snapshot:
            problems += [f"{parts.connections.path}: {found}" for found in snapshot.integrity_problems()]
            epoch = snapshot.state().epoch
            documents, vectors = snapshot.count(), snapshot.count_vectors()
            problems += _ledger_problems(parts, snapshot, head)
            for check in (*_CONTENT, _word_problems):
                problems += _first(check(parts, snapshot))
    except (CollectionError, ValueError, TypeError, KeyError, IndexError) as error:
        # In a damaged database a value may be of any type, and its absence looks like anything.
        sentence = str(error) if isinstance(error, CollectionError) else f"cannot be read ({error!r})"
        problems.append(sentence if isinstance(error, CollectionError) else f"{parts.connections.path}: {sentence}")
    return epoch, VerifyReport(documents, vectors, tuple(problems))


def has_content_problems(parts: Parts) -> bool:
    """Whether more is wrong than what can be derived anew: the head and the index of words."""
    try:
        with parts.connections.snapshot() as snapshot:
            if snapshot.integrity_problems():
                return True
            return any(next(check(parts, snapshot), None) is not None for check in _CONTENT)
    except (CollectionError, ValueError, TypeError, KeyError, IndexError):
        return True


def _first(problems: Iterator[str]) -> list[str]:
    listed: list[str] = []
    for problem in problems:
        if len(listed) == _MOST:
            listed.append("there are more problems of this kind")
            break
        listed.append(problem)
    return listed


def _manifest_problems(parts: Parts) -> list[str]:
    try:
        same = read_manifest(parts.folder) == parts.manifest
    except CollectionError as error:
        return [str(error)]
    return [] if same else [f"{parts.folder}: the manifest has changed since the collection was opened"]


def _head(parts: Parts) -> tuple[Head | None, list[str]]:
    try:
        return read_head(parts.folder), []
    except CollectionError as error:
        return None, [str(error)]


def _ledger_problems(parts: Parts, snapshot: Snapshot, head: Head | None) -> Iterator[str]:
    if head is None:
        return
    path, generation = parts.connections.path, snapshot.state().generation
    if head.generation > generation:
        yield (
            f"{path}: {head.generation - generation} acknowledged changes are missing "
            "(its log was damaged or lost): index again what was written last"
        )
    if head.generation == generation and head.seal is not None:
        found = hash_file(path)
        # A writer breaks the seal before it changes the file, so a seal that still holds spoke of what was read.
        if found != head.seal and _head(parts)[0] == head:
            yield f"{path}: it is not, byte for byte, the file that was closed: restore it, or index again"


def _document_problems(parts: Parts, snapshot: Snapshot) -> Iterator[str]:
    # A draft is what a killed writer leaves behind; nothing refers to it.
    names = {name for name in parts.assets.names() if not name.endswith(".tmp")}
    for record in snapshot.all_records():
        if codec.checksum(*record[:-1]) != record.checksum:
            yield f"document {record.id!r}: what is stored does not have its checksum: index it again"
            continue
        codec.decode(record, parts.assets)
        names.update(codec.asset_names(record.item))
    for name in sorted(names):
        problem = parts.assets.problem(parts.assets.path(name))
        if problem is not None:
            yield f"{parts.assets.path(name)} {problem}: index its document again"


def _vector_problems(parts: Parts, snapshot: Snapshot) -> Iterator[str]:
    path, state = parts.connections.path, snapshot.state()
    for identifier in snapshot.documents_without_vector():
        yield f"{path}: document {identifier!r} has no vector: index it again"
    for row in snapshot.vectors_without_document():
        yield f"{path}: the vector of row {row} belongs to no document"
    last_row, last_death = snapshot.newest()
    if last_row >= state.next_row or last_death > state.generation:
        yield f"{path}: its counters are behind its content"
    taken = snapshot.all_places()
    blocks = snapshot.blocks()
    if sum(block.rows for block in blocks) != len(taken) or not np.array_equal(taken, _expand(blocks)):
        yield f"{path}: the places of its vectors are not those of its blocks, once each"


def _word_problems(parts: Parts, snapshot: Snapshot) -> Iterator[str]:
    for row in snapshot.words_without_document() if snapshot.has_words() else ():
        yield f"{parts.connections.path}: row {row} is only in one of the documents and their index of words"


def _expand(blocks: list[Block]) -> RowArray:
    """All places (n, 2) of segment and position in these blocks."""
    pieces = [np.empty((0, 2), dtype=np.int64)]
    for block in blocks:
        positions = np.arange(block.start, block.start + block.rows)
        pieces.append(np.stack([np.full(block.rows, block.segment), positions], axis=1))
    return np.concatenate(pieces)


def _block_problems(parts: Parts, snapshot: Snapshot) -> Iterator[str]:
    for block in snapshot.blocks():
        try:
            if not parts.segments.is_sound(block):
                yield (
                    f"{parts.segments.path(block.segment)}: rows {block.start} to {block.start + block.rows - 1} "
                    "do not have their checksum: index their documents again"
                )
        except CollectionError as error:
            yield str(error)


def _token_problems(parts: Parts, snapshot: Snapshot) -> Iterator[str]:
    return iter(()) if parts.tokens is None else token_problems(parts.connections.path, parts.tokens, snapshot)


_CONTENT = (_document_problems, _vector_problems, _block_problems, _token_problems)
