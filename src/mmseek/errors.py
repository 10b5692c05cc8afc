"""Every error mmseek raises on purpose. One tree; each message says what is wrong, where, and what to do.

MmseekError
├── InputError                 the caller's data or words are wrong
│   ├── ItemError              one item of a corpus or JSONL file: says file, line and reason
│   ├── MediaError             a picture that cannot be used: unknown format, truncated, empty
│   │   ├── MediaTooLarge      over the limit of bytes or pixels, seen before decoding
│   │   └── MediaNotFound      the file is not there
│   ├── UrlRefused             URLs are not allowed here, or this address is never fetched
│   ├── FetchError             a URL that may be fetched gives nothing usable
│   ├── SpecError              an encoder, reranker or collection name that nothing answers to
│   └── DatasetError           an evaluation folder that does not have the layout
├── ConfigError                a setting has a value that cannot be used
├── EndpointError              a chat endpoint refuses, fails, or cannot be reached
├── EngineError                workers could not be started, or died again and again
├── MissingExtra               an optional part is not installed: names the command
├── ModelError                 weights missing, of another hash, or not loadable
│   └── EncodeError            the model gave no usable vector (NaN, infinite, zero) for an item
└── CollectionError            an index that cannot do what was asked
    ├── NotACollection         the folder is no collection
    ├── CollectionExists       there is one already, and it is not to be overwritten
    ├── FormatTooNew           written by a newer mmseek
    ├── CollectionLocked       another process is writing
    ├── EncoderMismatch        vectors of two encoders are never mixed: names both
    ├── CorruptCollection      checksums or the ledger disagree with the files
    └── StorageError           the disk is full, read-only or failing
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

__all__ = [
    "CollectionError",
    "CollectionExists",
    "CollectionLocked",
    "ConfigError",
    "CorruptCollection",
    "DatasetError",
    "EncodeError",
    "EncoderMismatch",
    "EndpointError",
    "EngineError",
    "FetchError",
    "FormatTooNew",
    "InputError",
    "ItemError",
    "MediaError",
    "MediaNotFound",
    "MediaTooLarge",
    "MissingExtra",
    "MmseekError",
    "ModelError",
    "NotACollection",
    "SpecError",
    "StorageError",
    "UrlRefused",
]


class MmseekError(Exception):
    """Base of all errors that mmseek raises on purpose.

    `code` is stable: clients of the REST service and of `--json` may compare with it.
    """

    code: ClassVar[str] = "error"


class InputError(MmseekError):
    """The caller's data or words are wrong; the same call will fail again."""

    code = "bad_input"


class ItemError(InputError):
    """One item of a corpus cannot be used.

    Args:
        reason: one clause without the place, for example `"has neither text nor image"`.
        source: the file it stands in, if any.
        line: 1-based line in that file, if it has lines.
        item_id: the item's own id, if it could be read.
        kind: the code of the error that this one gives a place to, if it stands for another.
    """

    code = "bad_item"

    def __init__(
        self,
        reason: str,
        *,
        source: str | Path | None = None,
        line: int | None = None,
        item_id: str | None = None,
        kind: str | None = None,
    ) -> None:
        self.reason = reason
        self.kind = kind or self.code
        self.source = None if source is None else str(source)
        self.line = line
        self.item_id = item_id
        super().__init__(self.place + reason)

    @property
    def place(self) -> str:
        """`"corpus.jsonl:7: "` or as much of it as is known."""
        where = "" if self.source is None else self.source
        if self.line is not None:
            where += f":{self.line}"
        if not where and self.item_id is not None:
            where = f"item {self.item_id!r}"
        return f"{where}: " if where else ""


class MediaError(InputError):
    """A picture that cannot be used."""

    code = "bad_media"


class MediaTooLarge(MediaError):
    """Over the limit of bytes or pixels; found before anything was decoded."""

    code = "media_too_large"


class MediaNotFound(MediaError):
    """The picture's file is not there or cannot be read."""

    code = "media_not_found"


class UrlRefused(InputError):
    """URLs are not allowed here, or this address is never fetched."""

    code = "url_refused"


class FetchError(InputError):
    """A URL that may be fetched cannot be: its server is away, refuses, or sends too much, too slowly or nothing."""

    code = "fetch_failed"


class SpecError(InputError):
    """An encoder, reranker or collection name that nothing answers to."""

    code = "unknown_spec"


class DatasetError(InputError):
    """An evaluation folder that does not have the layout."""

    code = "bad_dataset"


class ConfigError(MmseekError):
    """A setting has a value that cannot be used."""

    code = "bad_config"


class EndpointError(MmseekError):
    """A chat endpoint refuses, fails, or cannot be reached."""

    code = "endpoint_failed"


class EngineError(MmseekError):
    """The workers that were to do the work could not be started, or died again and again; what was stored is safe."""

    code = "engine_failed"


class MissingExtra(MmseekError):
    """An optional part is not installed.

    Args:
        feature: what the caller wanted, as the subject of a sentence: `"the clip family"`.
        extra: the extra of the package that brings it: `"clip"`.
    """

    code = "missing_extra"

    def __init__(self, feature: str, extra: str) -> None:
        self.feature = feature
        self.extra = extra
        super().__init__(f"{feature} needs an optional part that is not installed: pip install 'mmseek[{extra}]'")


class ModelError(MmseekError):
    """Weights are missing, have another hash than expected, or cannot be loaded."""

    code = "model_unusable"


class EncodeError(ModelError):
    """The model gave no usable vector for an item."""

    code = "not_encodable"


class CollectionError(MmseekError):
    """An index that cannot do what was asked."""

    code = "collection_error"


class NotACollection(CollectionError):
    """There is no collection at this place."""

    code = "not_a_collection"


class CollectionExists(CollectionError):
    """There is a collection already, and it is not to be overwritten."""

    code = "collection_exists"


class FormatTooNew(CollectionError):
    """The collection was written by a newer mmseek."""

    code = "format_too_new"


class CollectionLocked(CollectionError):
    """Another process is writing to this collection."""

    code = "collection_locked"


class EncoderMismatch(CollectionError):
    """A collection holds the vectors of one encoder only.

    Args:
        wanted: spec and fingerprint of the encoder that was offered.
        stored: spec and fingerprint of the encoder that made the collection.
    """

    code = "encoder_mismatch"

    def __init__(self, *, wanted: str, stored: str, place: str) -> None:
        self.wanted = wanted
        self.stored = stored
        super().__init__(
            f"{place} holds vectors of encoder {stored}, not of {wanted}: "
            "use the encoder it was made with, or index into a new collection"
        )


class CorruptCollection(CollectionError):
    """Checksums or the ledger disagree with the files."""

    code = "corrupt_collection"


class StorageError(CollectionError):
    """The disk is full, read-only or failing; nothing that was acknowledged is lost."""

    code = "storage_error"
