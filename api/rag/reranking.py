"""A reranker of this process over what a service or a framework's retriever found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mmseek._types import Content, Document, Hit, Image, Query
from mmseek.errors import InputError, MmseekError
from mmseek.pipeline.mixing import wanted_content
from mmseek.pipeline.reranking import Reranking, Stage, rerank_hits, run_stages
from mmseek.protocols import Reranker

__all__ = ["order", "rerank_loaded", "with_bytes"]


def order(
    reranker: Reranker, query: Content, contents: Sequence[Content], k: int | None, instruction: str | None = None
) -> list[tuple[int, float]]:
    """The places of the best k contents (all of them if k is None) and their scores, best first.

    Contents that cannot be scored stand at the end, with the score of the one before them.

    Raises:
        InputError: the query is empty, or k is below 1.
        MmseekError: not one content could be scored; the first reason.
    """
    if k is not None and k < 1:
        raise InputError(f"the reranker keeps at least 1 document, not {k}")
    if not contents:
        return []
    asked = Query(query, instruction=instruction, k=k or len(contents))
    hits = [
        Hit(place + 1, str(place), 0.0, {}, Document(str(place), content)) for place, content in enumerate(contents)
    ]
    return [(int(hit.id), float(hit.score)) for hit in rerank_hits(reranker, asked, hits).hits]


def rerank_loaded(
    stages: Sequence[Stage], query: Query, hits: Sequence[Hit], how: Reranking, read: Callable[[Image], bytes]
) -> tuple[Hit, ...]:
    """As `run_stages`, for hits whose pictures are elsewhere: read for the rerankers, and not kept."""
    asked = replace(query, content=wanted_content(query)) if query.is_mixed else query
    own = {hit.id: hit.document for hit in hits}
    loaded = [
        replace(hit, document=replace(hit.document, content=with_bytes(hit.document.content, read))) for hit in hits
    ]
    return tuple(replace(hit, document=own[hit.id]) for hit in run_stages(stages, asked, loaded, how).hits)


def with_bytes(content: Content, read: Callable[[Image], bytes]) -> Content:
    """The content with the bytes of the pictures that have a URL; one that cannot be read stays as it is."""

    def loaded(image: Image) -> Image:
        try:
            return Image(data=read(image))
        except MmseekError:
            return image  # the reranker says of it what is wrong, and of it alone

    return Content(
        tuple(loaded(part) if isinstance(part, Image) and part.url is not None else part for part in content.parts)
    )
