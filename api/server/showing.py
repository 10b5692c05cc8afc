"""Documents and hits as answers. Where a picture lies on the server is never told: it has an address instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from mmseek._types import Content, Document, Hit, Image, Part
from mmseek.items import item_to_json
from mmseek.pipeline import SearchResult
from mmseek.pipeline.explaining import Explanation, explanation_json
from mmseek.pipeline.reranking import stage_json


def picture_address(document_id: str, number: int, base: str = "/v1") -> str:
    """The address of a document's picture, counted from 0; `base` is that of its collection."""
    return f"{base}/documents/{quote(document_id, safe='')}/images/{number}"


def document_json(document: Document, base: str = "/v1") -> dict[str, Any]:
    """A document in the item format, with the addresses of its pictures; `base` is that of its collection."""
    parts: list[Part] = []
    number = 0
    for part in document.content.parts:
        if isinstance(part, Image):
            parts.append(Image(url=picture_address(document.id, number, base)))
            number += 1
        else:
            parts.append(part)
    return item_to_json(Document(document.id, Content(tuple(parts)), document.metadata, document.parent_id))


def search_json(result: SearchResult, base: str = "/v1") -> dict[str, Any]:
    """The answer of a search; `base` is the address of its collection."""
    answer: dict[str, Any] = {
        "hits": [_hit_json(hit, result.explained.get(hit.id), base) for hit in result.hits],
        "took_ms": round(result.took_ms, 3),
        "timings": {step: round(took, 3) for step, took in result.timings.items()},
    }
    if result.unscored:
        # Not why: a reason may name a file of the server.
        answer["unscored"] = [{"id": name, "code": error.code} for name, error in result.unscored.items()]
    if result.stages:
        answer["rerankers"] = [stage_json(stage) for stage in result.stages]
    if result.below:
        answer["below_threshold"] = result.below
    return answer


def _hit_json(hit: Hit, explanation: Explanation | None, base: str) -> Mapping[str, Any]:
    found = {} if explanation is None else {"explain": explanation_json(explanation)}
    return found | {
        "rank": hit.rank,
        "id": hit.id,
        "score": float(hit.score),
        "scores": {name: float(score) for name, score in hit.scores.items()},
        "document": document_json(hit.document, base),
    }
