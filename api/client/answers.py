"""Answers of the service as typed values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from mmseek._types import Content, Document, Hit, Image, Part, Text
from mmseek.api.client.failures import BadAnswer


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a hit stands where it does.

    Args:
        first_rank, first_score: before reranking.
        scores: of every stage, by name.
        prompt: what the reranker read, if it tells.
        picture_tokens: how many tokens each picture had there.
        tokens: how many in all, if that is known.
        took_ms: this hit's share of the reranker's time.
    """

    first_rank: int
    first_score: float
    scores: Mapping[str, float]
    prompt: str | None
    picture_tokens: tuple[int, ...]
    tokens: int | None
    took_ms: float


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """How far a reranker got."""

    reranker: str
    asked: int
    scored: int
    complete: bool
    took_ms: float


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The hits of a search, best first; pictures of their documents are URLs of the service.

    Args:
        hits: at most k.
        took_ms: milliseconds in the server.
        stages: how far each reranker got.
        below: how many hits the threshold left out.
        explained: of each hit by its id, if it was asked for.
    """

    hits: tuple[Hit, ...]
    took_ms: float
    stages: tuple[StageOutcome, ...] = ()
    below: int = 0
    explained: Mapping[str, Explained] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)


@dataclass(frozen=True, slots=True)
class Failed:
    """A document that was not stored: its place among those given, counted from 0, and why."""

    position: int
    id: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Added:
    """What became of documents; those counted are durable."""

    indexed: int
    unchanged: int
    failed: tuple[Failed, ...]


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """What the collection holds. Times are ISO 8601 in UTC."""

    documents: int
    modalities: Mapping[str, int]
    encoder: str
    fingerprint: str
    dim: int
    bytes: int
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class DocumentsPage:
    """Some documents of a list; `next` is the cursor of what follows, None at the end."""

    documents: tuple[Document, ...]
    next: str | None

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def __len__(self) -> int:
        return len(self.documents)


@dataclass(frozen=True, slots=True)
class Counted:
    """How many documents were removed; of a dry run, how many would be."""

    deleted: int
    would_delete: int | None


@dataclass(frozen=True, slots=True)
class CollectionNames:
    """The collections of a server, each alias with what it stands for, and the encoders of new collections."""

    collections: tuple[str, ...]
    aliases: Mapping[str, str]
    encoders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How far a job is.

    Args:
        id: of it.
        state: waiting, running, done, failed or cancelled.
        progress: of its input, from 0 to 1.
        lines: that are done.
        indexed, unchanged, failed: documents among them; those counted are durable.
        code, message: why the job failed.
    """

    id: str
    state: str
    progress: float
    lines: int
    indexed: int
    unchanged: int
    failed: int
    code: str | None
    message: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class LineFailed:
    """A line that was not stored, counted from 1, and why."""

    line: int
    id: str | None
    code: str
    message: str


def read_job(answer: Mapping[str, Any]) -> JobStatus:
    """How far a job is."""
    error = answer["error"] or {}
    return JobStatus(
        answer["id"],
        answer["state"],
        answer["progress"],
        answer["lines"],
        answer["indexed"],
        answer["unchanged"],
        answer["failed"],
        error.get("code"),
        error.get("message"),
    )


def read_page(answer: Mapping[str, Any], base: str) -> DocumentsPage:
    """A page of documents; `base` is the address of the service."""
    return DocumentsPage(tuple(read_document(item, base) for item in answer["documents"]), answer["next"])


def read_search(answer: Mapping[str, Any], base: str) -> SearchAnswer:
    """The answer of a search; `base` is the address of the service."""
    hits = tuple(
        Hit(hit["rank"], hit["id"], hit["score"], hit["scores"], read_document(hit["document"], base))
        for hit in answer["hits"]
    )
    return SearchAnswer(
        hits,
        answer["took_ms"],
        tuple(
            StageOutcome(stage["reranker"], stage["asked"], stage["scored"], stage["complete"], stage["took_ms"])
            for stage in answer.get("rerankers") or ()
        ),
        answer.get("below_threshold") or 0,
        {hit["id"]: _explained(hit["explain"]) for hit in answer["hits"] if hit.get("explain")},
    )


def read_document(item: Mapping[str, Any], base: str) -> Document:
    """A document from the item format."""
    if "content" in item:
        parts = [_part(part, base) for part in item["content"]]
    else:
        shorthand: list[Part | None] = [
            Image(url=urljoin(base, item["image"])) if "image" in item else None,
            Text(item["text"]) if "text" in item else None,
        ]
        parts = [part for part in shorthand if part is not None]
    return Document(item["id"], Content(tuple(parts)), item.get("metadata") or {}, item.get("parent_id"))


def read_added(answer: Mapping[str, Any], first: int) -> Added:
    """The outcome of documents, of which `first` were sent before."""
    failed = tuple(
        Failed(each["position"] + first, each["id"], each["code"], each["message"]) for each in answer["failed"]
    )
    return Added(answer["indexed"], answer["unchanged"], failed)


def read_status(answer: Mapping[str, Any]) -> CollectionStatus:
    """What the collection holds."""
    encoder = answer["encoder"]
    return CollectionStatus(
        answer["documents"],
        answer["modalities"],
        encoder["spec"],
        encoder["fingerprint"],
        encoder["dim"],
        answer["bytes"],
        answer["created_at"],
        answer["updated_at"],
    )


def _part(part: Mapping[str, Any], base: str) -> Part:
    if part["type"] == "text":
        return Text(part["text"])
    if part["type"] == "image":
        return Image(url=urljoin(base, part["image"]))
    raise BadAnswer(f"the server sent a part of the kind {part['type']!r}: a newer mmseek may know it")


def _explained(told: Mapping[str, Any]) -> Explained:
    sent = told.get("sent") or {}
    return Explained(
        told["first_rank"],
        told["first_score"],
        told["scores"],
        sent.get("prompt"),
        tuple(sent.get("picture_tokens") or ()),
        sent.get("tokens"),
        told["took_ms"],
    )
