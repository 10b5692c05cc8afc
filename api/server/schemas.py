"""Bodies of requests and answers, as /openapi.json shows them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mmseek._types import GroupBy, SearchMode

_PICTURE = "a data: URI like data:image/png;base64,..."


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _ContentBody(_Body):
    text: str | None = None
    image: str | None = Field(None, description=_PICTURE)
    content: list[dict[str, Any]] | None = Field(
        None, description='parts {"type": "text", "text": ...} and {"type": "image", "image": data URI}'
    )


class WeightedBody(_ContentBody):
    """One more part of a query, with its weight."""

    weight: float = Field(1.0, allow_inf_nan=False, description="below 0: keep away from it; never 0")


class SearchBody(_ContentBody):
    """A query of text, a picture or both; or of `content`, parts in order."""

    instruction: str | None = Field(None, description="what to look for, to encoders that can use it")
    k: int = Field(10, ge=1, strict=True, description="how many hits")
    exclude: list[str] = Field(default_factory=list, description="ids that are never ranked")
    candidates: list[str] | None = Field(None, description="if given, only these ids are ranked")
    filter: str | None = Field(None, description='a condition on metadata: year >= 2020 and tags contains "map"')
    mode: SearchMode = Field("dense", description="by vector, by words, or by both; without words always by vector")
    rerank: bool | None = Field(None, description="whether the rerankers order the hits; if not given, they do")
    threshold: float | None = Field(
        None, allow_inf_nan=False, description="leave hits with a lower score out; the list may end empty"
    )
    explain: bool = Field(False, description="tell of each hit where it was before and what the reranker was sent")
    also: list[WeightedBody] = Field(
        default_factory=list, max_length=64, description="more texts and pictures, weighted"
    )
    like: list[str] = Field(default_factory=list, description="ids of documents to be near to")
    unlike: list[str] = Field(default_factory=list, description="ids of documents to be far from")
    group_by: GroupBy | None = Field(None, description="parent: only the best document of each parent")


class AskBody(_ContentBody):
    """A question of text, a picture or both; or of `content`, parts in order."""

    instruction: str | None = Field(None, description="what to look for, to encoders that can use it")
    k: int = Field(5, ge=1, strict=True, description="how many documents to answer from")
    filter: str | None = Field(None, description="a condition on metadata, as of a search")
    mode: SearchMode = Field("dense", description="by vector, by words, or by both; without words always by vector")
    rerank: bool | None = Field(None, description="whether the rerankers order the hits; if not given, they do")
    threshold: float | None = Field(
        None, allow_inf_nan=False, description='answer from no hit below; of none the answer is "not in the corpus"'
    )
    requery: bool = Field(False, description="let the model write the question anew for the search")
    stream: bool = Field(False, description="answer in server-sent events")
    max_tokens: int | None = Field(
        None, ge=1, strict=True, description="how long the answer may be; the server has a most"
    )
    context_chars: int | None = Field(None, ge=0, strict=True, description="characters of documents that are sent")
    pictures: int | None = Field(None, ge=0, strict=True, description="pictures of documents that are sent")


class DocumentsBody(_Body):
    """Documents to add or replace, in mmseek's item format, pictures as data: URIs."""

    documents: list[Any] = Field(min_length=1)


class IdsBody(_Body):
    """Documents to remove."""

    ids: list[str] = Field(min_length=1)


class SentAnswer(BaseModel):
    """What a reranker's model read: the text, and how many tokens each picture and all have."""

    prompt: str
    picture_tokens: list[int]
    tokens: int | None


class ExplainAnswer(BaseModel):
    """Where a hit was before reranking, its scores, what was sent, and its share of the time."""

    first_rank: int
    first_score: float
    scores: dict[str, float]
    sent: SentAnswer | None
    took_ms: float


class StageAnswer(BaseModel):
    """How far a reranker got."""

    reranker: str
    asked: int
    scored: int
    complete: bool
    took_ms: float


class HitAnswer(BaseModel):
    """One hit; `document` is an item whose pictures are addresses of this service."""

    rank: int
    id: str
    score: float
    scores: dict[str, float]
    document: dict[str, Any]
    explain: ExplainAnswer | None = None


class SearchAnswer(BaseModel):
    """The hits of a search, best first."""

    hits: list[HitAnswer]
    took_ms: float
    rerankers: list[StageAnswer] | None = None
    below_threshold: int | None = None


class SourceAnswer(BaseModel):
    """What the model was given of one document; `number` is what it is cited by."""

    number: int
    id: str
    document: str = Field(description="the whole document, of which this may be a page or a passage")
    title: str
    page: int | None
    region: list[float] | None = Field(description="left, top, right, bottom on the page, in points")
    passage: int | None
    score: float
    pictures: int = Field(description="how many were sent")
    text: str
    images: list[str] = Field(description="addresses of its pictures")


class AskAnswer(BaseModel):
    """An answer. `citations` are the numbers of sources that it names, `invented` those that are of none."""

    answer: str
    found: bool
    citations: list[int]
    invented: list[int]
    sources: list[SourceAnswer]
    searched: str
    below_threshold: int
    took_ms: float


class AskOffer(BaseModel):
    """Whether there is a chat endpoint; if so, its model and the most that a request may ask for."""

    available: bool
    model: str | None = None
    max_tokens: int | None = None
    context_chars: int | None = None
    pictures: int | None = None


class FailureAnswer(BaseModel):
    """A document that was not stored: its place in the request, counted from 0, and why."""

    id: str | None
    position: int
    code: str
    message: str


class DocumentsAnswer(BaseModel):
    """What became of the documents; those counted are durable."""

    indexed: int
    unchanged: int
    failed: list[FailureAnswer]


class DeletedAnswer(BaseModel):
    """How many documents there were to remove."""

    deleted: int


class EncoderAnswer(BaseModel):
    """The encoder of the collection."""

    spec: str
    fingerprint: str
    dim: int


class CollectionAnswer(BaseModel):
    """What the collection holds. Times are ISO 8601 in UTC."""

    documents: int
    modalities: dict[str, int]
    encoder: EncoderAnswer
    bytes: int
    format_version: int
    created_at: str
    updated_at: str


class HealthAnswer(BaseModel):
    """`ok`, or `unavailable` and why."""

    status: str
    reason: str | None = None


class ErrorDetail(BaseModel):
    """A stable code to compare with, and a sentence to read."""

    code: str
    message: str


class ErrorAnswer(BaseModel):
    """The one shape of every error."""

    error: ErrorDetail
