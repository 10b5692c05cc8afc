"""Bodies of requests and answers, as /openapi.json shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmseek._types import GroupBy, SearchMode

_PICTURE = "a data: URI like data:image/png;base64,..."
_GROUPS = "parent: only the best document of each parent; caption: a picture and its caption as one hit"


class Body(BaseModel):
    """What is sent; an unknown field is refused, for it is a mistake."""

    model_config = ConfigDict(extra="forbid")


class _ContentBody(Body):
    text: str | None = None
    image: str | None = Field(None, description=_PICTURE)
    content: list[dict[str, Any]] | None = Field(
        None, description='parts {"type": "text", "text": ...} and {"type": "image", "image": data URI}'
    )


class WeightedBody(_ContentBody):
    """One more part of a query, with its weight."""

    weight: float = Field(1.0, allow_inf_nan=False, description="below 0: keep away from it; never 0")


class RerankingBody(Body):
    """What a search asks of the rerankers."""

    rerank: bool | None = Field(None, description="whether the rerankers order the hits; if not given, they do")
    rerank_depth: list[Annotated[int, Field(ge=1, strict=True)]] | None = Field(
        None, min_length=1, max_length=8, description="how many hits each reranker orders, the first k if that is more"
    )
    rerank_fusion: Annotated[float, Field(allow_inf_nan=False)] | Literal["rrf"] | None = Field(
        None, description="a weight w for `score before + w * rerank`, or rrf; if not given, the reranker's own order"
    )
    rerank_budget: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="seconds for all rerankers; the rest follow as they were",
    )
    threshold: float | None = Field(
        None, allow_inf_nan=False, description="leave hits with a lower score out; the list may end empty"
    )


class SearchBody(_ContentBody, RerankingBody):
    """A query of text, a picture or both; or of `content`, parts in order."""

    instruction: str | None = Field(None, description="what to look for, to encoders that can use it")
    k: int = Field(10, ge=1, strict=True, description="how many hits")
    exclude: list[str] = Field(default_factory=list, description="ids that are never ranked")
    candidates: list[str] | None = Field(None, description="if given, only these ids are ranked")
    filter: str | None = Field(None, description='a condition on metadata: year >= 2020 and tags contains "map"')
    mode: SearchMode = Field("dense", description="by vector, by words, or by both; without words always by vector")
    explain: bool = Field(False, description="tell of each hit where it was before and what the reranker was sent")
    also: list[WeightedBody] = Field(
        default_factory=list, max_length=64, description="more texts and pictures, weighted"
    )
    like: list[str] = Field(default_factory=list, description="ids of documents to be near to")
    unlike: list[str] = Field(default_factory=list, description="ids of documents to be far from")
    group_by: GroupBy | None = Field(None, description=_GROUPS)


class AskBody(_ContentBody, RerankingBody):
    """A question of text, a picture or both; or of `content`, parts in order."""

    instruction: str | None = Field(None, description="what to look for, to encoders that can use it")
    k: int = Field(5, ge=1, strict=True, description="how many documents to answer from")
    filter: str | None = Field(None, description="a condition on metadata, as of a search")
    mode: SearchMode = Field("dense", description="by vector, by words, or by both; without words always by vector")
    requery: bool = Field(False, description="let the model write the question anew for the search")
    stream: bool = Field(False, description="answer in server-sent events")
    max_tokens: int | None = Field(
        None, ge=1, strict=True, description="how long the answer may be; the server has a most"
    )
    context_chars: int | None = Field(None, ge=0, strict=True, description="characters of documents that are sent")
    pictures: int | None = Field(None, ge=0, strict=True, description="pictures of documents that are sent")


class RecommendBody(Body):
    """Documents to be like, and others not to be like."""

    like: list[str] = Field(min_length=1, description="ids of documents to be near to")
    unlike: list[str] = Field(default_factory=list, description="ids of documents to be far from")
    k: int = Field(10, ge=1, strict=True, description="how many hits")
    exclude: list[str] = Field(default_factory=list, description="ids that are never ranked")
    candidates: list[str] | None = Field(None, description="if given, only these ids are ranked")
    filter: str | None = Field(None, description='a condition on metadata: year >= 2020 and tags contains "map"')
    group_by: GroupBy | None = Field(None, description=_GROUPS)


class DocumentsBody(Body):
    """Documents to add or replace, in mmseek's item format, pictures as data: URIs."""

    documents: list[Any] = Field(min_length=1)


class IdsBody(Body):
    """Documents that are wanted."""

    ids: list[str] = Field(min_length=1)


class DeleteBody(Body):
    """Documents to remove: these, or all that a filter holds for."""

    ids: list[str] | None = Field(None, min_length=1)
    filter: str | None = Field(None, description='a condition on metadata: year < 2000 and lang == "en"')
    dry_run: bool = Field(False, description="only count them")
    compact: bool = Field(False, description="then give the space of all that was removed or replaced back to the disk")


class Answer(BaseModel):
    """What is answered."""


class SentAnswer(Answer):
    """What a reranker's model read: the text, and how many tokens each picture and all have."""

    prompt: str
    picture_tokens: list[int]
    tokens: int | None


class ExplainAnswer(Answer):
    """Where a hit was before reranking, its scores, what was sent, and its share of the time."""

    first_rank: int
    first_score: float
    scores: dict[str, float]
    sent: SentAnswer | None
    took_ms: float


class StageAnswer(Answer):
    """How far a reranker got."""

    reranker: str
    asked: int
    scored: int
    complete: bool
    took_ms: float


class HitAnswer(Answer):
    """One hit; `document` is an item whose pictures are addresses of this service."""

    rank: int
    id: str
    score: float
    scores: dict[str, float]
    document: dict[str, Any]
    explain: ExplainAnswer | None = None


class UnscoredAnswer(Answer):
    """A document that the reranker could not score, and the code of why; it stands behind all that it could."""

    id: str
    code: str


class SearchAnswer(Answer):
    """The hits of a search, best first; `timings` are the milliseconds of its steps."""

    hits: list[HitAnswer]
    took_ms: float
    timings: dict[str, float]
    unscored: list[UnscoredAnswer] | None = None
    rerankers: list[StageAnswer] | None = None
    below_threshold: int | None = None


class SourceAnswer(Answer):
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


class AskAnswer(Answer):
    """An answer. `citations` are the numbers of sources that it names, `invented` those that are of none."""

    answer: str
    found: bool
    citations: list[int]
    invented: list[int]
    sources: list[SourceAnswer]
    searched: str
    below_threshold: int
    took_ms: float


class AskOffer(Answer):
    """Whether there is a chat endpoint; if so, its model and the most that a request may ask for."""

    available: bool
    model: str | None = None
    max_tokens: int | None = None
    context_chars: int | None = None
    pictures: int | None = None


class FailureAnswer(Answer):
    """A document that was not stored: its place in the request, counted from 0, and why."""

    id: str | None
    position: int
    code: str
    message: str


class DocumentsAnswer(Answer):
    """What became of the documents; those counted are durable."""

    indexed: int
    unchanged: int
    failed: list[FailureAnswer]


class DeletedAnswer(Answer):
    """How many documents were removed; of a dry run, how many would be."""

    deleted: int
    would_delete: int | None = None


class DocumentsPageAnswer(Answer):
    """Documents in the item format, in the order of storing; `next` is the cursor of what follows, null at the end."""

    documents: list[dict[str, Any]]
    next: str | None


class GotDocumentsAnswer(Answer):
    """The documents that there are, in the order asked for, and the ids that are unknown."""

    documents: list[dict[str, Any]]
    missing: list[str]


class EncoderAnswer(Answer):
    """The encoder of the collection."""

    spec: str
    fingerprint: str
    dim: int


class CollectionAnswer(Answer):
    """What the collection holds. Times are ISO 8601 in UTC."""

    documents: int
    modalities: dict[str, int]
    encoder: EncoderAnswer
    bytes: int
    format_version: int
    created_at: str
    updated_at: str


class HealthAnswer(Answer):
    """`ok`, or `unavailable` and why."""

    status: str
    reason: str | None = None


class ErrorDetail(Answer):
    """A stable code to compare with, and a sentence to read."""

    code: str
    message: str


class ErrorAnswer(Answer):
    """The one shape of every error."""

    error: ErrorDetail
    detail: str | None = Field(None, description="the message again, only where Voyage's client looks for it")
