"""`Retriever`: an encoder and a collection, asked with text, pictures or both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Collection as Container
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from mmseek._types import Content, Document, Hit, Image, Query, SearchMode
from mmseek.embed import load_encoder
from mmseek.errors import EncoderMismatch, InputError, MmseekError
from mmseek.index import open_collection
from mmseek.pipeline.hybrid import run_query
from mmseek.pipeline.indexing import index_corpus
from mmseek.pipeline.report import IndexReport, Progress
from mmseek.pipeline.rerankers import load_reranker
from mmseek.pipeline.reranking import DEFAULT_DEPTH, check_depth, rerank_hits
from mmseek.protocols import Collection, Encoder, Reranker

if TYPE_CHECKING:
    import PIL.Image

Mode = Literal["read", "write", "create"]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of one query, best first.

    Args:
        hits: at most k.
        took_ms: milliseconds in all.
        timings: milliseconds of the steps: `encode`, `search`, and `rerank` if there is a reranker.
        unscored: ids of documents that the reranker could not score, and why; they stand behind all others.
    """

    hits: tuple[Hit, ...]
    took_ms: float
    timings: Mapping[str, float] = field(default_factory=dict)
    unscored: Mapping[str, MmseekError] = field(default_factory=dict)

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
        reranker: orders the first hits anew, if given.
        rerank_depth: how many it orders, or k if that is more; at least 1.

    Raises:
        EncoderMismatch: the collection holds vectors of another encoder.
        InputError: the depth is below 1.
    """

    def __init__(
        self,
        encoder: Encoder,
        collection: Collection,
        reranker: Reranker | None = None,
        rerank_depth: int = DEFAULT_DEPTH,
    ) -> None:
        info = collection.info()
        if info.encoder.fingerprint != encoder.identity.fingerprint:
            raise EncoderMismatch(wanted=str(encoder.identity), stored=str(info.encoder), place=info.location)
        self.encoder = encoder
        self.collection = collection
        self.reranker = reranker
        self.rerank_depth = check_depth(rerank_depth)

    @classmethod
    def open(
        cls,
        location: str | Path,
        encoder: str | Encoder | None = None,
        *,
        mode: Mode = "read",
        device: str | None = None,
        reranker: str | Reranker | None = None,
        rerank_depth: int = DEFAULT_DEPTH,
    ) -> Self:
        """Open a collection with its encoder.

        Args:
            location: where the collection is.
            encoder: a spec, or a loaded encoder; without it, the one that the collection names.
            mode: `read`; `write` to add and delete too, which makes the collection if there is none and an encoder
                is given; `create` to refuse an existing one.
            device: where the encoder and the reranker run, for example `cpu` or `cuda`.
            reranker: a spec, or a loaded reranker; without it, hits are in the encoder's order.
            rerank_depth: see `Retriever`.

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
            encoder = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
            collection = open_collection(location, mode=mode, encoder=encoder.identity)
        with ExitStack() as on_error:
            on_error.callback(collection.close)
            if encoder is None:
                encoder = load_encoder(collection.info().encoder.spec, device=device)
            if isinstance(reranker, str):
                reranker = load_reranker(reranker, device=device)
            retriever = cls(encoder, collection, reranker, rerank_depth)
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
            )
        elif (image, instruction, k, candidates, mode, filter) != (None, None, 10, None, "dense", None) or exclude:
            raise InputError("a Query says everything itself: give nothing else beside it")
        wide = query if self.reranker is None else replace(query, k=max(query.k, self.rerank_depth))
        hits, timings = run_query(wide, self.encoder, self.collection)
        result = SearchResult(hits=tuple(hits), took_ms=sum(timings.values()), timings=timings)
        return result if self.reranker is None else _reranked(self.reranker, query, result)

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


def _reranked(reranker: Reranker, query: Query, first: SearchResult) -> SearchResult:
    began = time.perf_counter()
    hits, unscored = rerank_hits(reranker, query, first.hits)
    took = (time.perf_counter() - began) * 1000
    return SearchResult(hits, first.took_ms + took, {**first.timings, "rerank": took}, unscored)


def _content(query: Content | str | None, image: Image | Path | str | PIL.Image.Image | None) -> Content:
    """Picture first, then text, as an item's shorthand has it."""
    parts = query.parts if isinstance(query, Content) else Content.of(*([] if query is None else [query])).parts
    if image is None:
        return Content(parts)
    picture = Content.of(Path(image) if isinstance(image, str) else image).parts
    return Content(picture + parts)
