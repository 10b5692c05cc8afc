"""The pictures that rows are written over: read once, told apart by their bytes, and which of them are alike."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmseek._types import Content, Document, EncodeRequest, Image
from mmseek.errors import InputError, ItemError, MediaError, MmseekError
from mmseek.index.corpus import Deferred, read_corpus
from mmseek.media import MediaLimits, read_bytes

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import Encoder

__all__ = ["Pool", "read_pool"]


@dataclass(slots=True)
class Pool:
    """Pictures without doubles.

    Args:
        images: not decoded yet.
        digests: SHA-256, in hex, of each one's bytes.
        failures: what could not be read, and why.
        vectors: (n, dim), where pictures are compared; None where they are not.
    """

    images: list[Image]
    digests: list[str]
    failures: list[tuple[str, str]] = field(default_factory=list)
    vectors: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def compare(self, encoder: Encoder) -> None:
        """Encode the pictures; those that cannot be are taken out.

        Raises:
            InputError: none is left.
        """
        rows: list[FloatArray] = []
        kept: list[int] = []
        requests = (EncodeRequest(Content((image,))) for image in self.images)
        for place, outcome in enumerate(encoder.stream(requests)):
            if outcome.vector is None:
                self.failures.append((str(self.images[place]), str(outcome.error)))
            else:
                rows.append(outcome.vector)
                kept.append(place)
        self.images, self.digests = [self.images[n] for n in kept], [self.digests[n] for n in kept]
        self.vectors = np.stack(_some(rows, self.failures))

    def near(self, number: int, count: int = 10) -> list[int]:
        """The most alike of the other pictures, the nearest first."""
        if self.vectors is None:
            raise ValueError("the pictures were not compared")
        scores = self.vectors @ self.vectors[number]
        scores[number] = -np.inf
        best = np.argsort(-scores, kind="stable")[: min(count, len(scores) - 1)]
        return [int(place) for place in best]


def read_pool(sources: Sequence[Path], limits: MediaLimits) -> Pool:
    """The first picture of every document of files and folders, as `mmseek index` reads them, in its order.

    Raises:
        InputError: a source is missing, or there is no picture.
    """
    pool, seen = Pool([], []), set()
    for entry in read_corpus(list(sources), limits=limits):
        if isinstance(entry, ItemError):
            pool.failures.append((entry.item_id or "", str(entry)))
        if not isinstance(entry, Document | Deferred):
            continue
        try:
            document = entry.load() if isinstance(entry, Deferred) else entry
            if not document.content.images:
                continue
            image = document.content.images[0]
            digest = hashlib.sha256(read_bytes(image, limits)).hexdigest()
        except (MmseekError, MediaError) as error:
            pool.failures.append((entry.id, str(error)))
            continue
        if digest not in seen:
            seen.add(digest)
            pool.images.append(image)
            pool.digests.append(digest)
    _some(pool.images, pool.failures)
    return pool


def _some(found: list, failures: list[tuple[str, str]]) -> list:  # type: ignore[type-arg]
    if not found:
        reason = f": {failures[0][1]}" if failures else ""
        raise InputError(f"there is no picture to write rows over{reason}; give pictures, or folders of them")
    return found
