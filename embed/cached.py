"""An encoder that remembers its vectors on disk: what was encoded once, by any process, is not encoded again."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmseek._types import Content, Encoded, EncodeRequest, EncoderIdentity
from mmseek.digest import content_key
from mmseek.embed.base import encode_all
from mmseek.embed.instructions import resolve_instruction
from mmseek.errors import MmseekError
from mmseek.media import MediaLimits

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.embed.cache_file import CacheFile
    from mmseek.protocols import Encoder

__all__ = ["CACHE_NAME", "CachedEncoder"]

CACHE_NAME: Final = Path("embeddings", "v1.sqlite")
# Requests that are looked up at once.
_READ: Final = 256
# A run of this many hits is handed out before more is read.
_HELD: Final = 4096


@dataclass(slots=True)
class _Slot:
    """A request on its way: its key, None where it has none, and its vector if that was found."""

    request: EncodeRequest
    key: bytes | None
    vector: FloatArray | None = None


@dataclass(slots=True)
class _Run:
    """Requests read and not answered, in order, and whether the source has ended."""

    waiting: deque[_Slot] = field(default_factory=deque)
    ended: bool = False
    error: Exception | None = None


class CachedEncoder:
    """The same vectors as the encoder's own, bit for bit those that it gave the first time.

    The key is a hash of the texts and the pictures' bytes, in order, of the side, the instruction, the encoder's
    fingerprint and dimension, and the variant. Errors are not remembered. Safe for several threads if the encoder is.

    Args:
        encoder: what is asked for vectors that are not there.
        file: where they are kept.
        variant: what besides the fingerprint decides the last bits: device and precision.
        limits: of pictures; one above them is not looked up, and the encoder says why.
    """

    def __init__(
        self, encoder: Encoder, file: CacheFile, *, variant: str = "", limits: MediaLimits | None = None
    ) -> None:
        self._encoder = encoder
        self._file = file
        self._variant = variant
        self._limits = limits or MediaLimits()
        self.hits = self.misses = 0

    @property
    def identity(self) -> EncoderIdentity:
        return self._encoder.identity

    def encode_query(self, contents: Sequence[Content], instruction: str | None = None) -> FloatArray:
        """As `Encoder.encode_query`."""
        if instruction is not None:
            instruction = resolve_instruction(instruction)
        return encode_all(self, contents, "query", instruction)

    def encode_document(self, contents: Sequence[Content]) -> FloatArray:
        """As `Encoder.encode_document`."""
        return encode_all(self, contents, "document", None)

    def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        """As `Encoder.stream`; what is not in the file goes to the encoder in one stream."""
        source = iter(requests)
        run = _Run()
        while not run.ended or run.waiting:
            fresh: dict[bytes, FloatArray] = {}
            try:
                for answer in self._encoder.stream(self._missing(source, run)):
                    yield from self._found(run)
                    slot = run.waiting.popleft()
                    if answer.vector is not None:
                        self._remember(slot, answer.vector, fresh)
                    yield answer
            finally:  # also where the reader stops early
                self._flush(fresh)
            yield from self._found(run)
            if run.error is not None:
                raise run.error

    def _missing(self, source: Iterator[EncodeRequest], run: _Run) -> Iterator[EncodeRequest]:
        """What the encoder is to be asked. Ends early after many hits, so that these can be handed out."""
        found = 0
        while not run.ended and found < _HELD:
            read: list[EncodeRequest] = []
            try:
                for request in islice(source, _READ):
                    read.append(request)  # noqa: PERF402 - one by one, so that those before an error are kept
            except Exception as error:  # noqa: BLE001 - raised after what came before it
                run.ended, run.error = True, error
            run.ended |= len(read) < _READ
            slots = [_Slot(request, self._key(request)) for request in read]
            vectors = self._file.get([slot.key for slot in slots if slot.key is not None])
            for slot in slots:
                slot.vector = None if slot.key is None else vectors.get(slot.key)
                run.waiting.append(slot)
                if slot.vector is None:
                    self.misses += 1
                    found = 0
                    yield slot.request
                else:
                    self.hits += 1
                    found += 1

    def _found(self, run: _Run) -> Iterator[Encoded]:
        """The hits at the front."""
        while run.waiting and run.waiting[0].vector is not None:
            yield Encoded(vector=run.waiting.popleft().vector)

    def _remember(self, slot: _Slot, vector: FloatArray, fresh: dict[bytes, FloatArray]) -> None:
        key = slot.key
        # A picture's file may have been replaced since it was hashed: then the vector belongs to another key.
        if key is None or (any(image.path for image in slot.request.content.images) and self._key(slot.request) != key):
            return
        fresh[key] = vector
        if len(fresh) >= _READ:
            self._flush(fresh)

    def _flush(self, fresh: dict[bytes, FloatArray]) -> None:
        if fresh:
            self._file.put(fresh)
            fresh.clear()

    def _key(self, request: EncodeRequest) -> bytes | None:
        """None for what cannot be read: the encoder then says why."""
        identity = self._encoder.identity
        try:
            instruction = None if request.instruction is None else resolve_instruction(request.instruction)
            content = content_key(request.content, limits=self._limits)
        except MmseekError:
            return None
        pieces = (identity.fingerprint, identity.dim, self._variant, request.role, instruction, content)
        return hashlib.sha256(repr(pieces).encode("utf-8", "surrogatepass")).digest()
