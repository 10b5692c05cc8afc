"""Doubles for tests: an encoder and a reranker that need no weights, and pictures. Yours may use them as ours do."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmseek._types import Content, Encoded, EncodeRequest, EncoderIdentity, Image, Pair, RerankerIdentity, Scored, Text
from mmseek.errors import EncodeError, InputError, MmseekError

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import ScoreScale

__all__ = ["FakeEncoder", "FakeReranker", "FakeTokenEncoder", "noise_picture"]


def noise_picture(width: int, height: int) -> Image:
    """A picture of coloured noise, which its size gives; no part of it looks like another."""
    import PIL.Image

    pixels = np.random.default_rng(width * height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.from_pil(PIL.Image.fromarray(pixels))


class FakeEncoder:
    """An encoder whose vectors are drawn from a seed that the content gives.

    Equal content has equal vectors on both sides and in every process, so a document is found by its own content with a
    score of 1; other content is about orthogonal. Pictures are opened as a real encoder opens them, with the same
    errors, and count by their encoded bytes.

    Args:
        dim: length of the vectors.
        spec: the spec it names itself with.
        fail_on: content whose text holds this is an `EncodeError`.
        delay: seconds that each content takes.
        window: how many requests `stream` reads before it answers.

    `calls` counts the contents that were encoded or failed.
    """

    def __init__(
        self, dim: int = 16, *, spec: str = "fake", fail_on: str | None = None, delay: float = 0.0, window: int = 8
    ) -> None:
        fingerprint = hashlib.sha256(f"{spec}:{dim}".encode()).hexdigest()
        self._identity = EncoderIdentity(spec=spec, fingerprint=fingerprint, dim=dim)
        self._window = window
        self.fail_on = fail_on
        self.delay = delay
        self.calls = 0

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    def encode_query(self, contents: Sequence[Content], instruction: str | None = None) -> FloatArray:
        """Vectors (n, dim); the instruction changes nothing."""
        del instruction
        return self.encode_document(contents)

    def encode_document(self, contents: Sequence[Content]) -> FloatArray:
        """Vectors (n, dim).

        Raises:
            MmseekError: the first content that fails, named by its position.
        """
        vectors = np.zeros((len(contents), self._identity.dim), dtype=np.float32)
        for position, content in enumerate(contents):
            try:
                vectors[position] = self._vector(content)
            except MmseekError as error:
                raise type(error)(f"item {position}: {error}") from error
        return vectors

    def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        """One outcome for each request, in order; at most `window` requests are held."""
        held: list[EncodeRequest] = []
        for request in requests:
            held.append(request)
            if len(held) >= self._window:
                yield from map(self._outcome, held)
                held.clear()
        yield from map(self._outcome, held)

    def _outcome(self, request: EncodeRequest) -> Encoded:
        try:
            return Encoded(vector=self._vector(request.content))
        except MmseekError as error:
            return Encoded(error=error)

    def _vector(self, content: Content) -> FloatArray:
        self.calls += 1
        if self.delay:
            time.sleep(self.delay)
        if content.is_empty:
            raise InputError("there is neither text nor picture to encode")
        if self.fail_on is not None and self.fail_on in content.text:
            raise EncodeError(f"the fake encoder was told to fail on {self.fail_on!r}")
        drawn = np.random.default_rng(_seed(content)).standard_normal(self._identity.dim)
        return np.asarray(drawn / np.linalg.norm(drawn), dtype=np.float32)


class FakeTokenEncoder:
    """A `MultiVectorEncoder`: each word, and each picture, has the vector that a `FakeEncoder` gives it.

    So MaxSim of a query is about the number of its words that a document has. Queries and documents are the same.

    Args:
        dim: length of the vectors.
        spec: the spec it names itself with.
    """

    def __init__(self, dim: int = 16, *, spec: str = "fake-tokens") -> None:
        self._words = FakeEncoder(dim, spec=spec)

    @property
    def identity(self) -> EncoderIdentity:
        return self._words.identity

    def encode_query_tokens(self, contents: Sequence[Content], instruction: str | None = None) -> list[FloatArray]:
        """Arrays (tokens, dim); the instruction changes nothing."""
        del instruction
        return self.encode_document_tokens(contents)

    def encode_document_tokens(self, contents: Sequence[Content]) -> list[FloatArray]:
        """Arrays (tokens, dim).

        Raises:
            MmseekError: the first content that fails.
        """
        return [self._words.encode_document(_pieces(content)) for content in contents]

    def stream_tokens(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        """One outcome for each request, in order."""
        for request in requests:
            try:
                yield Encoded(vector=self.encode_document_tokens([request.content])[0])
            except MmseekError as error:
                yield Encoded(error=error)


class FakeReranker:
    """A reranker whose scores a function gives.

    Args:
        judge: the score of a pair; an MmseekError that it raises is that pair's alone.
        spec: the spec it names itself with.
        scale: see `mmseek.protocols.Scaled`.

    `pairs` are those that were asked, in order.
    """

    def __init__(self, judge: Callable[[Pair], float], *, spec: str = "fake", scale: ScoreScale | None = None) -> None:
        self.scale = scale
        self._identity = RerankerIdentity(spec, hashlib.sha256(spec.encode()).hexdigest())
        self._judge = judge
        self.pairs: list[Pair] = []

    @property
    def identity(self) -> RerankerIdentity:
        return self._identity

    def score(self, query: Content, documents: Sequence[Content], instruction: str | None = None) -> FloatArray:
        """Scores (n,).

        Raises:
            MmseekError: the first document that fails.
        """
        scores = np.empty(len(documents), dtype=np.float32)
        for place, scored in enumerate(self.stream(Pair(query, document, instruction) for document in documents)):
            if scored.error is not None:
                raise scored.error
            scores[place] = scored.score
        return scores

    def stream(self, pairs: Iterable[Pair]) -> Iterator[Scored]:
        """One outcome for each pair, in order."""
        for pair in pairs:
            self.pairs.append(pair)
            try:
                yield Scored(score=self._judge(pair))
            except MmseekError as error:
                yield Scored(error=error)


def _pieces(content: Content) -> list[Content]:
    """A content of each word and each picture; the whole of one that has neither, which cannot be encoded."""
    found: list[Content] = []
    for part in content.parts:
        found += map(Content.of, part.text.split()) if isinstance(part, Text) else [Content((part,))]
    return found or [content]


def _seed(content: Content) -> int:
    from mmseek.media import open_image, read_bytes  # loads Pillow

    state = hashlib.sha256()
    for part in content.parts:
        if isinstance(part, Text):
            data = part.text.encode("utf-8")
        else:
            open_image(part, target=32).close()
            data = read_bytes(part)
        state.update(b"t" if isinstance(part, Text) else b"i")
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return int.from_bytes(state.digest()[:8], "big")
