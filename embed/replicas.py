"""Several copies of one encoder, each on its device: a stream is dealt out in segments and joined in order."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from mmseek._types import Content, Encoded, EncodeRequest, EncoderIdentity
from mmseek.embed.base import encode_all
from mmseek.embed.instructions import resolve_instruction
from mmseek.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import Encoder

__all__ = ["ReplicatedEncoder"]

# Long enough for the replica's engine to sort by cost, short enough that all are at work at the end of a stream.
_SEGMENT: Final = 256


class ReplicatedEncoder:
    """One encoder to the outside; as many segments of a stream are encoded at once as there are replicas.

    A segment goes to the next replica that is free, so a slower device takes fewer. At most two segments a replica are
    held. What is asked while all are busy waits for one.

    Args:
        replicas: the copies, of equal fingerprints.
        segment: requests that are given to a replica at once.

    Raises:
        ConfigError: there is no replica.
        ModelError: they are not copies of one encoder.
    """

    def __init__(self, replicas: Sequence[Encoder], *, segment: int = _SEGMENT) -> None:
        if not replicas:
            raise ConfigError("no device is named: give at least one")
        first = replicas[0].identity
        if any(replica.identity != first for replica in replicas):
            raise ModelError(f"the copies of {first.spec} differ: its files changed while it was loaded, load it again")
        self._identity = first
        self._count = len(replicas)
        self._segment = segment
        self._free: queue.SimpleQueue[Encoder] = queue.SimpleQueue()
        for replica in replicas:
            self._free.put(replica)

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    def encode_query(self, contents: Sequence[Content], instruction: str | None = None) -> FloatArray:
        """As `Encoder.encode_query`."""
        return encode_all(self, contents, "query", None if instruction is None else resolve_instruction(instruction))

    def encode_document(self, contents: Sequence[Content]) -> FloatArray:
        """As `Encoder.encode_document`."""
        return encode_all(self, contents, "document", None)

    def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        """As `Encoder.stream`. An error of `requests` itself is raised after what came before it."""
        source = iter(requests)
        at_work: deque[Future[list[Encoded]]] = deque()
        problem: Exception | None = None
        ended = False
        with ThreadPoolExecutor(self._count, "mmseek-replica") as pool:
            try:
                while at_work or not ended:
                    while not ended and len(at_work) < 2 * self._count:
                        segment: list[EncodeRequest] = []
                        problem, ended = self._read(source, segment)
                        if segment:
                            at_work.append(pool.submit(self._encode, segment))
                    if at_work:
                        yield from at_work.popleft().result()
                if problem is not None:
                    raise problem
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, source: Iterator[EncodeRequest], segment: list[EncodeRequest]) -> tuple[Exception | None, bool]:
        """Fill a segment; the error that ended the source, if one did, and whether it has ended."""
        while len(segment) < self._segment:
            try:
                segment.append(next(source))
            except StopIteration:
                return None, True
            except Exception as error:  # noqa: BLE001 - kept, and raised after what came before it
                return error, True
        return None, False

    def _encode(self, segment: list[EncodeRequest]) -> list[Encoded]:
        replica = self._free.get()
        try:
            return list(replica.stream(segment))
        finally:
            self._free.put(replica)
