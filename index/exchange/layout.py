"""What an export is made of.

manifest.json        what it is, whose vectors, how many documents, and the SHA-256 of every other file; written last
part-00000.parquet   one row a document: id, item, parent_id, digest, vector
assets/ab/HASH.png   pictures that the collection keeps, under the hash of their content

`item` is JSON as the collection stores it: `content`, a list of parts, and `metadata`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmseek._types import EncoderIdentity
from mmseek.errors import CorruptCollection, FormatTooNew, InputError
from mmseek.index.assets import is_asset_name

FORMAT = "mmseek-export"
FORMAT_VERSION = 2
"""What is read; written is 1, or 2 for a multi-vector collection, whose `vector` is a list of vectors."""
MANIFEST = "manifest.json"
_PART = re.compile(r"part-[0-9]{5,}\.parquet")


@dataclass(frozen=True, slots=True)
class ExportManifest:
    """What an export says of itself; `files` are the SHA-256 of its files by their name, with forward slashes."""

    encoder: EncoderIdentity
    documents: int
    created_at: str
    files: Mapping[str, str]

    @property
    def parts(self) -> list[str]:
        """The tables, in the order of the documents."""
        return sorted(name for name in self.files if _PART.fullmatch(name))

    def to_bytes(self) -> bytes:
        """The file's content: one JSON object with a checksum over the rest of it."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "format_version": 2 if self.encoder.multi_vector else 1,
            "encoder": described(self.encoder),
            "documents": self.documents,
            "created_at": self.created_at,
            "files": dict(sorted(self.files.items())),
        }
        body["checksum"] = _checksum(body)
        return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()


def described(encoder: EncoderIdentity) -> dict[str, Any]:
    """An encoder as a manifest names it, as the first format did where that says all."""
    said: dict[str, Any] = {"spec": encoder.spec, "fingerprint": encoder.fingerprint, "dim": encoder.dim}
    if encoder.multi_vector:
        said |= {"multi_vector": True, "token_pooling": encoder.token_pooling}
    return said


def part_name(number: int) -> str:
    """The name of a table, counted from 0."""
    return f"part-{number:05d}.parquet"


def read_export(folder: Path) -> ExportManifest:
    """Read and check the manifest of an export.

    Raises:
        InputError: the folder is none, or its manifest names a file outside of it.
        FormatTooNew: a newer mmseek wrote it.
        CorruptCollection: the manifest is damaged.
    """
    path = folder / MANIFEST
    try:
        body = json.loads(path.read_bytes())
        if body["format"] != FORMAT:
            raise InputError(f"{path} is of format {body['format']!r}, not {FORMAT!r}: give what `mmseek export` wrote")
        if body["format_version"] > FORMAT_VERSION:
            raise FormatTooNew(f"{folder} was exported by a newer mmseek: upgrade it (pip install -U mmseek)")
        if body.pop("checksum") != _checksum(body):
            raise ValueError("checksum")
        encoder = EncoderIdentity(**body["encoder"])
        found = ExportManifest(encoder, body["documents"], body["created_at"], body["files"])
        names = list(found.files)
    except OSError:
        raise InputError(f"{folder} is no export (it has no {MANIFEST}): give what `mmseek export` wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptCollection(f"{path} is damaged: export again, or copy the folder again") from error
    for name in names:
        if not (_PART.fullmatch(name) or is_asset_name(name)):
            raise InputError(f"{path} names {name!r}, which no export has: it was not written by `mmseek export`")
    return found


def checked_file(folder: Path, name: str, manifest: ExportManifest) -> bytes:
    """The content of a file of an export.

    Raises:
        CorruptCollection: it is missing, or not what was exported.
    """
    path = folder / PurePosixPath(name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptCollection(f"{path} cannot be read ({error.strerror}): copy the export again") from error
    if hashlib.sha256(data).hexdigest() != manifest.files.get(name):
        raise CorruptCollection(f"{path} is not the file that was exported: copy the export again")
    return data


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
