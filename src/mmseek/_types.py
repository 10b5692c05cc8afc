"""The words of mmseek: content and its parts, documents, queries and hits. All immutable."""

from __future__ import annotations

import io
import math
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
GroupBy: TypeAlias = Literal["parent", "caption"]
Role: TypeAlias = Literal["query", "document"]


@dataclass(frozen=True, slots=True)
class Text:
    """A run of text. May be empty: some encoders give the empty text a meaning."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that is not decoded yet: exactly one of a file's path, its encoded bytes, or a URL.

    With a `frame`, path or bytes are those of a video, and the picture is one of its frames: which, from 0, and of how
    many that are taken at equal distances. `Content.frames` makes all of them.

    Raises:
        InputError: none or several of the three are given, or there is no such frame.
    """

    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    url: str | None = None
    frame: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.path, self.data, self.url)) != 1:
            raise InputError("a picture is given by exactly one of path, data and url")
        if self.frame is not None and (self.url is not None or not 0 <= self.frame[0] < self.frame[1]):
            raise InputError(f"a video of a path or of bytes has frames from 0 to their number, not {self.frame}")

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
        return f"{'video' if self.frame else 'picture'} of {len(self.data or b'')} bytes"


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

    @classmethod
    def frames(cls, video: Path | bytes, count: int = 8) -> Content:
        """A video as `count` frames at equal distances, the first and the last among them; not opened here.

        Raises:
            InputError: the count is below 1.
        """
        if count < 1:
            raise InputError(f"a video stands for at least 1 frame, not {count}")
        path, data = (None, video) if isinstance(video, bytes) else (video, None)
        return cls(tuple(Image(path=path, data=data, frame=(number, count)) for number in range(count)))

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
class Weighted:
    """One more thing that a query asks for, or with a weight below 0 asks to keep away from.

    Raises:
        InputError: the weight is 0 or not finite, or there is neither text nor picture.
    """

    content: Content
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or not self.weight:
            raise InputError(f"a weight is a finite number and not 0, not {self.weight!r}")
        if self.content.is_empty:
            raise InputError("a weighted part of the query has neither text nor image: give at least one")


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
        also: more texts and pictures, each with its weight; `content` itself has the weight 1.
        like: ids of documents to be near to; they are not ranked themselves.
        unlike: ids of documents to be far from; they are not ranked themselves.
        group_by: `parent`: only the best document of each parent is ranked, so k hits are of k parents. A document
            without a parent stands for itself and for those whose parent it is. `caption`: a document with pictures and
            the captions that `mmseek index --caption` made of it are one hit, the document with its caption's words.

    Raises:
        InputError: a field has a value that it cannot have, or there is nothing to search for.
    """

    content: Content
    instruction: str | None = None
    k: int = 10
    exclude: frozenset[str] = frozenset()
    candidates: frozenset[str] | None = None
    mode: SearchMode = "dense"
    filter: str | None = None
    also: tuple[Weighted, ...] = ()
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    group_by: GroupBy | None = None

    def __post_init__(self) -> None:
        if self.group_by not in {None, "parent", "caption"}:
            raise InputError(f"hits are grouped by parent, by caption or not at all, not by {self.group_by!r}")
        if self.mode not in {"dense", "lexical", "hybrid"}:
            raise InputError(f"a search is dense, lexical or hybrid, not {self.mode!r}")
        if self.k < 1:
            raise InputError(f"k is the number of hits and must be at least 1, not {self.k}")
        if self.mode == "lexical" and (self.like or self.unlike):
            raise InputError("documents to be like or unlike are compared by vector: search dense or hybrid")
        if self.content.is_empty and not (self.also or self.like or self.unlike):
            raise InputError("the query has neither text nor image: give at least one")

    @property
    def is_mixed(self) -> bool:
        """Whether its vector is made of more than its content."""
        return bool(self.also or self.like or self.unlike)


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
    """What an encoder made of one request, or the error that is this request's alone.

    The vector is of shape (dim,); from a `MultiVectorEncoder`, of shape (tokens, dim).
    `tokens` is what the model read of it, by the encoder's own count of costs; None where it does not count.
    """

    vector: FloatArray | None = None
    error: MmseekError | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class EncoderIdentity:
    """What an index remembers of the encoder that made its vectors.

    Args:
        spec: the encoder's.
        fingerprint: of its weights and recipe.
        dim: of each vector.
        multi_vector: a document has a vector for each of its tokens, not one.
        token_pooling: how many of a document's vectors became one before they were stored.
    """

    spec: str
    fingerprint: str
    dim: int
    multi_vector: bool = False
    token_pooling: int = 1

    def same_vectors(self, other: EncoderIdentity) -> bool:
        """Whether vectors of both may be compared: of one encoder, of one kind. Pooled ones may be, with others."""
        mine, theirs = ((each.fingerprint, each.dim, each.multi_vector) for each in (self, other))
        return mine == theirs

    def __str__(self) -> str:
        return f"{self.spec} ({self.fingerprint[:12]}, {self.dim}-d{' a token' if self.multi_vector else ''})"


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


@dataclass(frozen=True, slots=True)
class Sent:
    """What a reranker's model reads of one pair.

    Args:
        prompt: the text, one mark for each picture.
        picture_tokens: how many tokens each picture has, in order.
        tokens: how many there are in all, those of pictures included; None if it is not known.
    """

    prompt: str
    picture_tokens: tuple[int, ...] = ()
    tokens: int | None = None
