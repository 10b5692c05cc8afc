"""An example of every request and of its answer. A test sends each of them, and holds each to its schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple


class Example(NamedTuple):
    """A request that is answered so.

    Args:
        answer: of the one status that is a success; None for a picture or a text.
        body: what is sent; None where nothing is, or where a form is.
    """

    answer: Any
    body: Any = None


_TIMES: Final = {"created_at": "2026-01-05T09:00:00+00:00", "updated_at": "2026-01-06T17:30:00+00:00"}
_COLLECTION: Final = {
    "documents": 2,
    "modalities": {"image,text": 1, "text": 1},
    "encoder": {"spec": "mini", "fingerprint": "9f2c41d07b6e5a38", "dim": 384},
    "bytes": 81920,
    "format_version": 1,
    **_TIMES,
}
_NOTE: Final = {"id": "n1", "text": "a note on tide tables", "metadata": {"year": 2020}}
_SHOE: Final = {"id": "shoe-17", "image": "/v1/documents/shoe-17/images/0", "text": "a red shoe"}
_SEARCH: Final = {
    "hits": [{"rank": 1, "id": "shoe-17", "score": 0.51, "scores": {"dense": 0.51}, "document": _SHOE}],
    "took_ms": 14.2,
    "timings": {"encode": 12.1, "search": 2.1},
}
_SOURCE: Final = {
    "number": 1,
    "id": "shoe-17",
    "document": "shoe-17",
    "title": "shoe-17",
    "page": None,
    "region": None,
    "passage": None,
    "score": 0.51,
    "pictures": 1,
    "text": "a red shoe",
    "images": ["/v1/documents/shoe-17/images/0"],
}
_JOB: Final = {
    "id": "job-5f0c2d9e8a1b3c47",
    "state": "running",
    "progress": 0.25,
    "bytes": 262144,
    "lines": 2000,
    "indexed": 1990,
    "unchanged": 8,
    "failed": 2,
    "error": None,
    **_TIMES,
}
_OK: Final = Example({"status": "ok"})
_LIST: Final = {"object": "list", "model": "mini"}
_TOKENS: Final = {"prompt_tokens": 4, "total_tokens": 4}
_VECTOR: Final = [0.12, -0.05, 0.31]
_MODEL: Final = {
    "id": "mini",
    "object": "model",
    "created": 0,
    "owned_by": "mmseek",
    "task": "embedding",
    "fingerprint": "9f2c41d07b6e5a38",
    "dimensions": 384,
}
_RERANKED: Final = Example(
    {
        "id": "0d8f6c1e-33f4-4c1b-9d0e-7f9e1f3c2b11",
        "model": "mini",
        "results": [{"index": 1, "relevance_score": 0.93}, {"index": 0, "relevance_score": 0.08}],
        "usage": _TOKENS,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    },
    {"query": "a red bike", "documents": ["a blue boat", "a bicycle in red"]},
)
_SCORED: Final = Example(
    {
        "id": "score-1",
        **_LIST,
        "created": 0,
        "data": [{"index": 0, "object": "score", "score": 0.93}],
        "usage": _TOKENS,
    },
    {"text_1": "a red bike", "text_2": ["a bicycle in red"]},
)

EXAMPLES: Final[Mapping[str, Example]] = {
    "GET /health": _OK,
    "GET /health/live": _OK,
    "GET /health/ready": _OK,
    "GET /metrics": Example("mmseek_ready 1.0\n"),
    "POST /v1/embeddings": Example(
        {**_LIST, "data": [{"object": "embedding", "index": 0, "embedding": _VECTOR}], "usage": _TOKENS},
        {"input": ["a red bike"]},
    ),
    "GET /v1/models": Example({"object": "list", "data": [_MODEL]}),
    "GET /v1/models/{name}": Example(_MODEL),
    "POST /v2/embed": Example(
        {
            "id": "0d8f6c1e-33f4-4c1b-9d0e-7f9e1f3c2b11",
            "response_type": "embeddings_by_type",
            "embeddings": {"float": [_VECTOR]},
            "texts": ["a red bike"],
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 4}},
        },
        {"texts": ["a red bike"], "input_type": "search_query", "embedding_types": ["float"]},
    ),
    "POST /v1/multimodalembeddings": Example(
        {
            **_LIST,
            "data": [{"object": "embedding", "index": 0, "embedding": _VECTOR}],
            "usage": {"text_tokens": 4, "image_pixels": 0, "video_pixels": 0, "total_tokens": 4},
        },
        {"inputs": [{"content": [{"type": "text", "text": "a red bike"}]}]},
    ),
    "POST /embed": Example([_VECTOR], {"inputs": ["a red bike"]}),
    "POST /rerank": _RERANKED,
    "POST /v1/rerank": _RERANKED,
    "POST /v2/rerank": _RERANKED,
    "POST /score": _SCORED,
    "POST /v1/score": _SCORED,
    "POST /v1/search": Example(
        _SEARCH,
        {"text": "red shoes", "also": [{"text": "leather", "weight": -0.3}], "k": 3, "mode": "hybrid"},
    ),
    "POST /v1/search/upload": Example(_SEARCH),
    "POST /v1/recommend": Example(_SEARCH, {"like": ["n1"], "unlike": ["shoe-17"], "k": 3}),
    "GET /v1/ask": Example(
        {"available": True, "model": "qwen3-vl", "max_tokens": 1024, "context_chars": 12000, "pictures": 6}
    ),
    "POST /v1/ask": Example(
        {
            "answer": "It is red [1].",
            "found": True,
            "citations": [1],
            "invented": [],
            "sources": [_SOURCE],
            "searched": "what colour is the shoe?",
            "below_threshold": 0,
            "took_ms": 812.5,
        },
        {"text": "what colour is the shoe?", "k": 3},
    ),
    "GET /v1/collection": Example(_COLLECTION),
    "GET /v1/documents": Example({"documents": [_NOTE, _SHOE], "next": "WzIsICI4ZjNjMTA5YTRiMjciXQ"}),
    "POST /v1/documents": Example(
        {
            "indexed": 1,
            "unchanged": 0,
            "failed": [{"id": "n2", "position": 1, "code": "bad_item", "message": "has neither text nor image"}],
        },
        {"documents": [_NOTE, {"id": "n2"}]},
    ),
    "POST /v1/documents/upload": Example(
        {
            "indexed": 2,
            "unchanged": 0,
            "failed": [{"id": None, "position": 2, "code": "bad_item", "message": "is no JSON"}],
        }
    ),
    "POST /v1/compact": Example({"dropped": 1200, "bytes_before": 4194304, "bytes": 2097152, "took_ms": 35.1}),
    "DELETE /v1/documents": Example({"deleted": 0, "would_delete": 1}, {"filter": "year < 2021", "dry_run": True}),
    "POST /v1/documents/get": Example(
        {"documents": [_NOTE], "missing": ["unknown"]},
        {"ids": ["n1", "unknown"]},
    ),
    "GET /v1/documents/{document_id}": Example(_SHOE),
    "DELETE /v1/documents/{document_id}": Example({"deleted": 1}),
    "GET /v1/documents/{document_id}/images/{number}": Example(None),
    "GET /v1/thumbnails/{document_id}/{number}": Example(None),
    "POST /v1/jobs": Example(
        {**_JOB, "state": "waiting", "progress": 0.0, "lines": 0, "indexed": 0, "unchanged": 0, "failed": 0},
        '{"id": "n3", "text": "a third note"}\n{"id": "n4", "text": "a fourth"}\n',
    ),
    "GET /v1/jobs": Example({"jobs": [_JOB], "next": None}),
    "GET /v1/jobs/{job}": Example(_JOB),
    "GET /v1/jobs/{job}/failures": Example(
        {
            "failures": [{"line": 7, "id": "n7", "code": "bad_item", "message": "has neither text nor image"}],
            "next": None,
        }
    ),
    "POST /v1/jobs/{job}/cancel": Example({**_JOB, "state": "cancelled"}),
    "POST /v1/jobs/{job}/resume": Example({**_JOB, "state": "waiting"}),
    "DELETE /v1/jobs/{job}": Example({"deleted": "job-5f0c2d9e8a1b3c47"}),
    "GET /v1/collections": Example(
        {"collections": ["photos-1", "photos-2"], "aliases": {"photos": "photos-2"}, "encoders": ["mini"]}
    ),
    "POST /v1/collections": Example(
        {"name": "photos-2", "aliases": [], **_COLLECTION, "documents": 0, "modalities": {}}, {"name": "photos-2"}
    ),
    "GET /v1/collections/{name}": Example({"name": "photos-2", "aliases": ["photos"], **_COLLECTION}),
    "DELETE /v1/collections/{name}": Example({"deleted": "photos-1"}),
    "GET /v1/aliases": Example({"aliases": {"photos": "photos-2"}}),
    "PUT /v1/aliases/{alias}": Example(
        {"alias": "photos", "collection": "photos-2", "before": "photos-1"}, {"collection": "photos-2"}
    ),
    "DELETE /v1/aliases/{alias}": Example({"deleted": "photos"}),
}
