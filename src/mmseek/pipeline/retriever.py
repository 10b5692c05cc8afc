"""`Retriever`: an encoder and a collection, asked with text, pictures or both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Container
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from mmseek._types import Content, Document, GroupBy, Hit, Image, Query, SearchMode, Weighted
from mmseek.errors import InputError, MmseekError
from mmseek.index import open_collection
from mmseek.pipeline.encoders import AnyEncoder, check_encoder, load_any, opened_for
from mmseek.pipeline.explaining import Explanation, explain
from mmseek.pipeline.indexing import index_corpus
from mmseek.pipeline.mixing import wanted_content
from mmseek.pipeline.querying import run_queries, run_query
from mmseek.pipeline.report import IndexReport, Progress
from mmseek.pipeline.rerankers import load_reranker
from mmseek.pipeline.reranking import Reranking, Stage, StageReport, as_stages, run_stages
from mmseek.protocols import Collection, Reranker

if TYPE_CHECKING:
    import PIL.Image

Mode = Literal["read", "write", "create"]

_NOT_GIVEN = (None, None, 10, None, "dense", None, None)  # what `search` takes for its own arguments beside a Query


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of one query, best first.

    Args:
        hits: at most k.
        took_ms: milliseconds in all.
        timings: milliseconds of the steps: `encode`, `search`, and `rerank` if there is a reranker.
        unscored: ids of documents that the reranker could not score, and why; they stand behind all others.
        stages: how far each reranker got.
        below: how many hits the threshold left out.
        explained: of each hit by its id, if it was asked for.
    """

    hits: tuple[Hit, ...]
    took_ms: float
    timings: Mapping[str, float] = field(default_factory=dict)
    unscored: Mapping[str, MmseekError] = field(default_factory=dict)
    stages: tuple[StageReport, ...] = ()
    below: int = 0
    explained: Mapping[str, Explanation] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)


class Retriever:
    """Searches a collection, and adds to it.

    Examples:
        >>> with Retriever.open("photos.mmseek") as retriever:
        ...     for hit in retriever.search("a red bike", k=5):
        ...         print(hit.rank, hit.id, hit.score)

    Args:
        encoder: the one that the collection was made with.
        collection: what is searched.
        reranker: orders the first hits anew, if given; several do so one after the other.
        rerank_depth: how many each orders, the first k if that is more; at least 1. 50 if nothing is said, of several
            100 and then 20.
        reranking: threshold, fusion and time of the rerankers.

    Raises:
        EncoderMismatch: the collection holds vectors of another encoder.
        InputError: the depth is below 1, or the encoder gives one vector an item and the collection holds many, or
            the other way round.
    """

    def __init__(
        self,
        encoder: AnyEncoder,
        collection: Collection,
        reranker: Reranker | Sequence[Reranker] | None = None,
        rerank_depth: int | Sequence[int] | None = None,
        reranking: Reranking | None = None,
    ) -> None:
        check_encoder(encoder, collection.info())
        self.encoder: AnyEncoder = encoder
        self.collection = collection
        rerankers = [] if reranker is None else list(reranker) if isinstance(reranker, Sequence) else [reranker]
        self.stages = as_stages(rerankers, rerank_depth)
        self.reranking = reranking or Reranking()

    @property
    def reranker(self) -> Reranker | None:
        """The last one, which decides."""
        return self.stages[-1].reranker if self.stages else None

    @classmethod
    def open(
        cls,
        location: str | Path,
        encoder: str | AnyEncoder | None = None,
        *,
        mode: Mode = "read",
        device: str | None = None,
        token_pooling: int | None = None,
        reranker: str | Reranker | Sequence[str | Reranker] | None = None,
        rerank_depth: int | Sequence[int] | None = None,
        reranking: Reranking | None = None,
    ) -> Self:
        """Open a collection with its encoder.

        Args:
            location: where the collection is.
            encoder: a spec, or a loaded encoder; without it, the one that the collection names.
            mode: `read`; `write` to add and delete too, which makes the collection if there is none and an encoder
                is given; `create` to refuse an existing one.
            device: where the encoder and the reranker run, for example `cpu` or `cuda`.
            token_pooling: of a new multi-vector collection, how many vectors of a document become one.
            reranker: a spec, a loaded reranker, or several; without it, hits are in the encoder's order.
            rerank_depth: how many hits each reranker orders; see `Retriever`.
            reranking: threshold, fusion and time; see `Retriever`.

        Raises:
            NotACollection: there is none at this place.
            EncoderMismatch: the encoder given is not the one that the collection was made with.
            ModelError: the weights of the encoder or the reranker cannot be loaded.
        """
        if encoder is None:
            if mode == "create":
                raise InputError(f"a new collection at {location} needs an encoder: name one, for example 'mini'")
            collection = open_collection(location, mode=mode)
        else:
            encoder = load_any(encoder, device=device) if isinstance(encoder, str) else encoder
            collection = opened_for(encoder, location, mode, token_pooling)
        with ExitStack() as on_error:
            on_error.callback(collection.close)
            if encoder is None:
                encoder = load_any(collection.info().encoder.spec, device=device)
            given = [] if reranker is None else [reranker] if isinstance(reranker, str | Reranker) else list(reranker)
            loaded = [load_reranker(each, device=device) if isinstance(each, str) else each for each in given]
            retriever = cls(encoder, collection, loaded, rerank_depth, reranking)
            on_error.pop_all()
        return retriever

    def search(
        self,
        query: Query | Content | str | None = None,
        *,
        image: Image | Path | str | PIL.Image.Image | None = None,
        instruction: str | None = None,
        k: int = 10,
        exclude: Container[str] = (),
        candidates: Container[str] | None = None,
        mode: SearchMode = "dense",
        filter: str | None = None,  # noqa: A002  # the word that Query and the other surfaces use
        also: Sequence[Weighted] = (),
        like: Sequence[str] = (),
        unlike: Sequence[str] = (),
        group_by: GroupBy | None = None,
        rerank: bool = True,
        reranking: Reranking | None = None,
        explain: bool = False,
    ) -> SearchResult:
        """The k nearest documents of a query; with a reranker, the best k of the nearest in its order.

        Args:
            query: text, content, or a whole `Query`, which then says everything.
            image: a picture, alone or beside the text: a path, a PIL picture or an `Image`.
            instruction: what to look for, to encoders and rerankers that can use it.
            k: how many hits, at least 1.
            exclude: ids that are never ranked.
            candidates: if given, only these ids are ranked.
            mode: `dense`: by vector; `lexical`: in words; `hybrid`: both, fused. Without words it is always by vector.
            filter: a condition on metadata, for example `year >= 2020 and tags contains "map"`.
            also: more texts and pictures with weights, below 0 to keep away from them.
            like: ids of documents to be near to.
            unlike: ids of documents to be far from.
            group_by: `parent`: at most one document, the best, of each parent; `caption`: a picture and its caption as
                one hit.
            rerank: whether the rerankers are asked, if there are any.
            reranking: threshold, fusion and time of this search, in place of the retriever's own.
            explain: whether each hit comes with what the rerankers were sent.

        Raises:
            InputError: there is nothing to search for, k is below 1, or the filter cannot be read.
            MediaError: the picture cannot be used.
        """
        if not isinstance(query, Query):
            query = Query(
                content=_content(query, image),
                instruction=instruction,
                k=k,
                exclude=frozenset(exclude),
                candidates=None if candidates is None else frozenset(candidates),
                mode=mode,
                filter=filter,
                also=tuple(also),
                like=tuple(like),
                unlike=tuple(unlike),
                group_by=group_by,
            )
        elif (image, instruction, k, candidates, mode, filter, group_by) != _NOT_GIVEN or any(
            (exclude, also, like, unlike)
        ):
            raise InputError("a Query says everything itself: give nothing else beside it")
        stages = self.stages if rerank else ()
        if stages and query.is_mixed:
            wanted_content(query)  # refused before anything is encoded
        wide = replace(query, k=max(query.k, stages[0].depth)) if stages else query
        hits, timings = run_query(wide, self.encoder, self.collection)
        first = SearchResult(hits=tuple(hits), took_ms=sum(timings.values()), timings=timings)
        return _reranked(stages, query, first, reranking or self.reranking, explaining=explain)

    def search_many(self, queries: Sequence[Query | Content | str], *, k: int = 10) -> list[SearchResult]:
        """What `search` finds for each of some queries, `k` of those that do not say how many themselves.

        Many at a time take less than one by one: plain ones are encoded and searched together. Rerankers, if there are
        any, are asked query by query.

        Raises:
            InputError, MediaError: as in `search`; the first query that cannot be answered ends them all.
        """
        asked = [query if isinstance(query, Query) else Query(content=_content(query, None), k=k) for query in queries]
        if self.stages:
            return [self.search(query) for query in asked]
        began = time.perf_counter()
        found = run_queries(asked, self.encoder, self.collection)
        each = (time.perf_counter() - began) * 1000 / max(1, len(asked))
        return [SearchResult(hits=tuple(hits), took_ms=each) for hits in found]

    def add(
        self, documents: Iterable[Document], *, on_progress: Callable[[Progress], None] | None = None
    ) -> IndexReport:
        """Index documents, replacing those of equal id; unchanged ones are not encoded again. See `index_corpus`.

        Raises:
            CollectionError: the collection was opened for reading.
        """
        return index_corpus(documents, self.encoder, self.collection, on_progress=on_progress)

    def delete(self, ids: Iterable[str]) -> int:
        """Remove documents by id; returns how many there were."""
        return self.collection.delete(list(ids))

    def close(self) -> None:
        """Close the collection; a second call does nothing."""
        self.collection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reranked(
    stages: Sequence[Stage], query: Query, first: SearchResult, how: Reranking, *, explaining: bool
) -> SearchResult:
    """What the rerankers and the threshold make of the hits of the first stage."""
    began = time.perf_counter()
    asked = replace(query, content=wanted_content(query)) if stages and query.is_mixed else query
    found = run_stages(stages, asked, first.hits, how)
    took = (time.perf_counter() - began) * 1000 if stages else 0.0
    return SearchResult(
        hits=found.hits,
        took_ms=first.took_ms + took,
        timings={**first.timings, "rerank": took} if stages else first.timings,
        unscored=found.unscored,
        stages=found.stages,
        below=found.below,
        explained=explain(asked, first.hits, found.hits, stages, found.stages) if explaining else {},
    )


def _content(query: Content | str | None, image: Image | Path | str | PIL.Image.Image | None) -> Content:
    """Picture first, then text, as an item's shorthand has it."""
    parts = query.parts if isinstance(query, Content) else Content.of(*([] if query is None else [query])).parts
    if image is None:
        return Content(parts)
    picture = Content.of(Path(image) if isinstance(image, str) else image).parts
    return Content(picture + parts)
