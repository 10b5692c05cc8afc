"""`export_collection`: all of a collection into a folder of Parquet tables and pictures."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmseek._stored import StoredBatch
from mmseek.index import codec
from mmseek.index.assets import AssetStore, asset_name
from mmseek.index.drafts import draft_folder
from mmseek.index.durable import sync_folder, write_file
from mmseek.index.exchange.layout import MANIFEST, ExportManifest, part_name
from mmseek.index.ledger import now
from mmseek.protocols import Collection

if TYPE_CHECKING:
    from mmseek._types import FloatArray

_ROWS = 4096
_TOKENS = 64  # of a document, about as many as a table of documents with one vector has room for


def export_collection(collection: Collection, target: Path, *, rows: int = _ROWS) -> ExportManifest:
    """Write one state of a collection to a new folder, which appears whole or not at all.

    Args:
        collection: of any kind, open in any mode; others may write to it meanwhile.
        target: the folder, new or empty.
        rows: documents in one table, which are in memory at once.

    Raises:
        InputError: there is something at `target`.
        CorruptCollection: a document, a vector or a kept picture is damaged.
        StorageError: the disk is full, read-only or failing.
    """
    encoder = collection.info().encoder
    rows = max(1, rows // _TOKENS) if encoder.multi_vector else rows
    files: dict[str, str] = {}
    documents = 0
    with draft_folder(target, keep_lock=False) as draft:
        pictures = AssetStore(draft)
        for number, batch in enumerate(collection.export(rows)):
            files |= _write_part(draft, part_name(number), batch)
            files |= _write_pictures(pictures, batch)
            documents += len(batch)
        manifest = ExportManifest(encoder, documents, now(), files)
        write_file(draft / MANIFEST, manifest.to_bytes())
        sync_folder(draft)
    return manifest


def _write_part(folder: Path, name: str, batch: StoredBatch) -> dict[str, str]:
    records = [
        codec.encode(row, document, digest)
        for row, (document, digest) in enumerate(zip(batch.documents, batch.digests, strict=True))
    ]
    columns: dict[str, Any] = {
        "id": pa.array([record.id for record in records], pa.string()),
        "item": pa.array([record.item for record in records], pa.string()),
        "parent_id": pa.array([record.parent_id for record in records], pa.string()),
        "digest": pa.array([record.digest for record in records], pa.string()),
        "vector": _vectors(batch.vectors),
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    data = buffer.getvalue()
    write_file(folder / name, data)
    return {name: hashlib.sha256(data).hexdigest()}


def _vectors(vectors: FloatArray | Sequence[FloatArray]) -> Any:
    """A vector a row, or a list of them."""
    if isinstance(vectors, np.ndarray):
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
    rows = np.concatenate(vectors)
    inner = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel(), pa.float32()), rows.shape[1])
    ends = np.cumsum([0, *map(len, vectors)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), inner)


def _write_pictures(store: AssetStore, batch: StoredBatch) -> dict[str, str]:
    images = (image.data for document in batch.documents for image in document.content.images)
    pictures = [data for data in images if data is not None]
    store.put(pictures)
    # A kept picture is named by its hash.
    return {name: PurePosixPath(name).stem for name in map(asset_name, pictures)}
