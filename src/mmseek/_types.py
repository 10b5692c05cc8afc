"""The words of mmseek: content and its parts, documents, queries and hits. All immutable."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mmseek.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

    from mmseek.errors import MmseekError

    FloatArray: TypeAlias = NDArray[np.float32]

Modality: TypeAlias = Literal["text", "image", "image,text"]
SearchMode: TypeAlias = Literal["dense", "lexical", "hybrid"]
Role: TypeAlias = Literal["query", "document"]


@dataclass(frozen=True, slots=True)
class Text:
    """A run of text. May be empty: some encoders give the empty text a meaning."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that is not decoded yet: exactly one of a file's path, its encoded bytes, or a URL.

    Raises:
        InputError: none or several of the three are given.
    """

    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    url: str | None = None

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.path, self.data, self.url)) != 1:
            raise InputError("a picture is given by exactly one of path, data and url")

    @classmethod
    def from_pil(cls, picture: PIL.Image.Image) -> Image:
        """Keep a decoded picture as lossless PNG bytes, so that it can be hashed, stored and sent."""
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", compress_level=1)
        return cls(data=buffer.getvalue())

    def __str__(self) -> str:
        """Where the picture comes from, for messages; never its bytes."""
        if self.path is not None:
            return str(self.path)
        if self.url is not None:
            return self.url
        return f"picture of {len(self.data or b'')} bytes"


Part: TypeAlias = Text | Image


@dataclass(frozen=True, slots=True)
class Content:
    """An ordered sequence of texts and pictures: what is encoded, stored and shown.

    A video is its sampled frames; a page is its picture and its text.
    """

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, *parts: str | Path | Part | PIL.Image.Image) -> Content:
        """Build content from loose parts: a `str` is text, a `Path` is a picture file, a PIL picture is kept as PNG.

        Raises:
            InputError: a part is of another type.
        """
        return cls(tuple(_as_part(part) for part in parts))

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(part.text for part in self.parts if isinstance(part, Text))

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(part for part in self.parts if isinstance(part, Image))

    @property
    def text(self) -> str:
        """All text in order, joined by newlines."""
        return "\n".join(self.texts)

    @property
    def modality(self) -> Modality:
        """As M-BEIR writes it. Content without any picture is `text`, the empty content included."""
        if not self.images:
            return "text"
        return "image,text" if any(text.strip() for text in self.texts) else "image"

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to encode: no picture and no text but white space."""
        return not self.images and not any(text.strip() for text in self.texts)


def _as_part(part: object) -> Part:
    if isinstance(part, Text | Image):
        return part
    if isinstance(part, str):
        return Text(part)
    if isinstance(part, Path):
        return Image(path=part)
    if type(part).__module__.partition(".")[0] == "PIL" or hasattr(part, "convert"):
        return Image.from_pil(part)  # type: ignore[arg-type]  # duck-typed so that PIL stays unimported
    raise InputError(f"a part of content is text, a path or a picture, not {type(part).__name__}")


@dataclass(frozen=True, slots=True)
class Document:
    """What a collection holds.

    `metadata` is a JSON object; `parent_id` names the larger document that this is a page or passage of.
    """

    id: str
    content: Content
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parent_id: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for.

    Args:
        content: text, picture or both.
        instruction: what the encoder is asked to look for; families that cannot use one ignore it.
        k: how many hits, at least 1.
        exclude: ids that are never ranked (a query's own picture, say).
        candidates: if given, only these ids are ranked.
        mode: by vector, by words (BM25), or by both. A query without words is always searched by vector.
        filter: a condition on metadata; only documents that it holds for are ranked. See `mmseek.filters`.
    """

    content: Content
    instruction: str | None = None
    k: int = 10
    exclude: frozenset[str] = frozenset()
    candidates: frozenset[str] | None = None
    mode: SearchMode = "dense"
    filter: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in {"dense", "lexical", "hybrid"}:
            raise InputError(f"a search is dense, lexical or hybrid, not {self.mode!r}")
        if self.k < 1:
            raise InputError(f"k is the number of hits and must be at least 1, not {self.k}")
        if self.content.is_empty:
            raise InputError("the query has neither text nor image: give at least one")


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search.

    `rank` counts from 1. `score` decides the order (higher is better); `scores` says what it came from
    (`dense`, `lexical`, `rerank`).
    """

    rank: int
    id: str
    score: float
    scores: Mapping[str, float]
    document: Document


@dataclass(frozen=True, slots=True)
class EncodeRequest:
    """One thing to encode, on the query or the document side of an encoder."""

    content: Content
    role: Role = "document"
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder made of one request: a vector of shape (dim,), or the error that is this request's alone.

    `tokens` is what the model read of it, by the encoder's own count of costs; None where it does not count.
    """

    vector: FloatArray | None = None
    error: MmseekError | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class EncoderIdentity:
    """What an index remembers of the encoder that made its vectors."""

    spec: str
    fingerprint: str
    dim: int

    def __str__(self) -> str:
        return f"{self.spec} ({self.fingerprint[:12]}, {self.dim}-d)"


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a document that a reranker compares."""

    query: Content
    document: Content
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """What a reranker made of one pair: a score, higher is better, or the error that is this pair's alone."""

    score: float | None = None
    error: MmseekError | None = None


@dataclass(frozen=True, slots=True)
class RerankerIdentity:
    """Names a reranker. Equal fingerprints (a hash of weights and recipe) mean equal scores."""

    spec: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.spec} ({self.fingerprint[:12]})"
