"""The point that says what a collection is: its format, whose vectors it holds, and how its words are weighted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from mmseek._types import EncoderIdentity
from mmseek.errors import CorruptCollection, FormatTooNew
from mmseek.index.ledger import now
from mmseek.index.qdrant.store import META_ID, Point, Store

FORMAT = "mmseek-qdrant"
FORMAT_VERSION = 2
"""What is read; written is 1, or 2 for a multi-vector collection."""


@dataclass(frozen=True, slots=True)
class Meta:
    """Times are ISO 8601 in UTC.

    Args:
        encoder: whose vectors.
        created_at: when it was made.
        updated_at: when it was changed last.
        mean0: the mean length, in words, that stored words are weighted under; None while no document had any.
    """

    encoder: EncoderIdentity
    created_at: str
    updated_at: str
    mean0: float | None = None

    @property
    def format_version(self) -> int:
        """Of payloads and points: the oldest that can say all of it."""
        return 2 if self.encoder.multi_vector else 1

    @classmethod
    def of(cls, store: Store) -> Self | None:
        """That of a store, or None where it has none.

        Raises:
            FormatTooNew: a newer mmseek wrote it.
            CorruptCollection: it cannot be read.
        """
        found = store.retrieve([META_ID])
        if not found:
            return None
        said = found[0].payload
        version = said.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise FormatTooNew(
                f"{store.place} has format version {version} and this mmseek reads up to {FORMAT_VERSION}: "
                "upgrade it (pip install -U mmseek)"
            )
        try:
            kind = (said["multi_vector"] is True, int(said["token_pooling"])) if said["format_version"] > 1 else ()
            identity = EncoderIdentity(str(said["spec"]), str(said["fingerprint"]), int(said["dim"]), *kind)
            mean0 = None if said["mean0"] is None else float(said["mean0"])
            return cls(identity, str(said["created_at"]), str(said["updated_at"]), mean0)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptCollection(
                f"{store.place}: what says whose vectors it holds is damaged ({type(error).__name__}): "
                "restore it from a snapshot, or index again into a new collection"
            ) from error

    def after(self, when: str, mean0: float | None) -> Self:
        """The same after a change."""
        return replace(self, updated_at=when, mean0=mean0)

    def point(self) -> Point:
        payload: dict[str, Any] = {
            "format": FORMAT,
            "format_version": self.format_version,
            "spec": self.encoder.spec,
            "fingerprint": self.encoder.fingerprint,
            "dim": self.encoder.dim,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "mean0": self.mean0,
        }
        if self.encoder.multi_vector:
            payload |= {"multi_vector": True, "token_pooling": self.encoder.token_pooling}
        return Point(META_ID, payload)


def write_meta(store: Store, meta: Meta) -> Meta:
    """Note that the collection has changed now."""
    changed = meta.after(now(), meta.mean0)
    store.upsert([changed.point()])
    return changed
