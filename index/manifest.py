"""The manifest of a collection, `mmseek.json`: what the folder is, in which format, and whose vectors it holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmseek._types import EncoderIdentity
from mmseek.errors import CorruptCollection, FormatTooNew, NotACollection, StorageError
from mmseek.index.durable import replace_file

FORMAT = "mmseek-collection"
FORMAT_VERSION = 2
"""What is read; written is the least that says all: 1, or 2 for a multi-vector collection, which 1 knew nothing of."""
NAME = "mmseek.json"
STORED_AS = "float16"


@dataclass(frozen=True, slots=True)
class Manifest:
    """Written once, when a collection is made; `created_at` is ISO 8601 in UTC."""

    encoder: EncoderIdentity
    created_at: str

    @property
    def format_version(self) -> int:
        """The oldest format that can say all of it."""
        return 2 if self.encoder.multi_vector else 1

    def to_bytes(self) -> bytes:
        """The file's content: one JSON object with a checksum over the rest of it."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "format_version": self.format_version,
            "encoder": {
                "spec": self.encoder.spec,
                "fingerprint": self.encoder.fingerprint,
                "dim": self.encoder.dim,
            },
            "created_at": self.created_at,
        }
        if self.encoder.multi_vector:
            body["multi_vector"] = {"storage": STORED_AS, "token_pooling": self.encoder.token_pooling}
        body["checksum"] = _checksum(body)
        return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the folder a collection; atomic and durable."""
    replace_file(folder / NAME, manifest.to_bytes())


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a folder.

    Raises:
        NotACollection: there is no such folder, or no manifest in it.
        FormatTooNew: a newer mmseek wrote it.
        CorruptCollection: the file is damaged.
        StorageError: it cannot be read.
    """
    path = folder / NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        missing = "is no mmseek collection (it has no mmseek.json)" if folder.exists() else "does not exist"
        raise NotACollection(
            f"{folder} {missing}: give the folder of a collection, or make one with `mmseek index`"
        ) from None
    except NotADirectoryError:
        raise NotACollection(f"{folder} is a file, not a collection: give the folder of a collection") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk") from error
    return parse_manifest(raw, folder)


def parse_manifest(raw: bytes, folder: Path) -> Manifest:
    """A manifest from its bytes; errors as in `read_manifest`."""
    path = folder / NAME
    try:
        return _parse(json.loads(raw.decode()), folder)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptCollection(
            f"{path} is damaged ({type(error).__name__}): restore it from a backup, or index again into a new folder"
        ) from error


def _parse(body: Any, folder: Path) -> Manifest:
    if body["format"] != FORMAT and "encoder" not in body:
        raise NotACollection(f"{folder / NAME} is of format {body['format']!r}, not {FORMAT!r}: give another folder")
    version = body["format_version"]
    if not isinstance(version, int) or version < 1:
        raise ValueError(version)
    if version > FORMAT_VERSION:
        raise FormatTooNew(
            f"{folder} has format version {version} and this mmseek reads up to {FORMAT_VERSION}: "
            "upgrade it (pip install -U mmseek)"
        )
    if body.pop("checksum") != _checksum(body) or body["format"] != FORMAT:
        raise ValueError
    encoder = body["encoder"]
    many = body["multi_vector"] if version > 1 else None
    if many is not None and many["storage"] != STORED_AS:
        raise ValueError(many["storage"])
    kind = (False, 1) if many is None else (True, int(many["token_pooling"]))
    identity = EncoderIdentity(str(encoder["spec"]), str(encoder["fingerprint"]), int(encoder["dim"]), *kind)
    return Manifest(identity, str(body["created_at"]))


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
