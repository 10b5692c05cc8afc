"""`import_collection`: the documents and vectors of an export into a collection."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmseek._types import Content, Document, EncoderIdentity, Image, Part, Text
from mmseek.errors import CorruptCollection, EncoderMismatch, InputError
from mmseek.index.assets import is_asset_name
from mmseek.index.exchange.layout import ExportManifest, checked_file, read_export
from mmseek.protocols import Collection

if TYPE_CHECKING:
    from mmseek._types import FloatArray

_ROWS = 256


@dataclass(frozen=True, slots=True)
class ImportReport:
    """`imported` documents were stored by this run; `unchanged` were there already, with an equal digest."""

    imported: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class _Row:
    document: Document
    vector: FloatArray
    digest: str | None


def import_collection(source: Path, collection: Collection) -> ImportReport:
    """Store what `export_collection` wrote, replacing documents of equal id.

    Every file is compared with its checksum before anything of it is stored. A run that ends early is resumed by
    running it again: documents that are there with an equal digest are left alone.

    Args:
        source: the folder of the export.
        collection: open for writing, with the encoder of the export.

    Raises:
        InputError: `source` is no export, or names a path that leads out of it.
        EncoderMismatch: the vectors are another encoder's.
        CorruptCollection: a file is not the one that was exported; the tables before it are stored.
    """
    manifest = read_export(source)
    info = collection.info()
    mine, theirs = info.encoder, manifest.encoder
    if not mine.same_vectors(theirs):
        raise EncoderMismatch(wanted=str(theirs), stored=str(mine), place=info.location)
    imported = unchanged = 0
    for name in manifest.parts:
        rows = _rows(source, name, manifest)
        while chunk := list(itertools.islice(rows, _ROWS)):
            known = collection.digests([row.document.id for row in chunk])
            new = [row for row in chunk if row.digest is None or known.get(row.document.id) != row.digest]
            _store(new, collection)
            imported += len(new)
            unchanged += len(chunk) - len(new)
    return ImportReport(imported, unchanged)


def _store(rows: list[_Row], collection: Collection) -> None:
    """In their order, those with a digest and those without in calls of their own."""
    for without, run in itertools.groupby(rows, key=lambda row: row.digest is None):
        group = list(run)
        digests = None if without else [row.digest or "" for row in group]
        vectors = [row.vector for row in group]
        stored = vectors if vectors[0].ndim == 2 else np.stack(vectors)
        collection.upsert([row.document for row in group], stored, digests)


def _rows(folder: Path, name: str, manifest: ExportManifest) -> Iterator[_Row]:
    path = folder / name
    try:
        table = pq.read_table(io.BytesIO(checked_file(folder, name, manifest)))
        vectors = _vectors(table, manifest.encoder)
        columns = [table.column(column).to_pylist() for column in ("id", "item", "parent_id", "digest")]
    except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise CorruptCollection(f"{path} is no table of an export ({error}): export again") from error
    for number, (identifier, item, parent, digest) in enumerate(zip(*columns, strict=True)):
        try:
            stored = json.loads(item)
            parts = tuple(_part(part, folder, manifest) for part in stored["content"])
            document = Document(identifier, Content(parts), stored["metadata"], parent)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptCollection(f"{path}: row {number} is no document ({error}): export again") from error
        yield _Row(document, vectors[number], digest)


def _vectors(table: pa.Table, encoder: EncoderIdentity) -> Sequence[FloatArray]:
    """The vector (dim,) or the vectors (tokens, dim) of each row."""
    column = table.column("vector").combine_chunks()
    if not len(column):
        return []
    if encoder.multi_vector:
        rows = np.asarray(column.flatten().flatten(), dtype=np.float32).reshape(-1, encoder.dim)
        return np.split(rows, np.cumsum(np.asarray(column.value_lengths()))[:-1])
    flat = np.asarray(column.flatten(), dtype=np.float32)
    return list(flat.reshape(len(table), encoder.dim))


def _part(part: Mapping[str, Any], folder: Path, manifest: ExportManifest) -> Part:
    if "text" in part:
        return Text(_string(part["text"]))
    frame = None
    if "frame" in part:
        number, count = part["frame"]
        frame = (int(number), int(count))
    if "asset" in part:
        name = part["asset"]
        if not is_asset_name(name):
            raise InputError(f"{folder} names the picture {name!r}, which is outside of it: it was tampered with")
        return Image(data=checked_file(folder, name, manifest), frame=frame)
    if "url" in part:
        return Image(url=_string(part["url"]))
    return Image(path=Path(_outside(_string(part["path"]), folder)), frame=frame)


def _outside(path: str, folder: Path) -> str:
    """The place of a picture that was left where it was: absolute, as a collection writes it, and without `..`."""
    kinds: tuple[PurePath, ...] = (PurePosixPath(path), PureWindowsPath(path))
    if not any(kind.is_absolute() for kind in kinds) or any(".." in kind.parts for kind in kinds):
        raise InputError(f"{folder} names the picture {path!r}, which is no absolute path: it was tampered with")
    return path


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no string")
    return value
