"""`SearchSource`: where a framework's adapter searches and writes, here or on another machine."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from mmseek._types import Content, Document, Hit, Image, Query, SearchMode
from mmseek.api.rag.local import LocalSource
from mmseek.errors import InputError, ItemError, UrlRefused
from mmseek.items import parse_item
from mmseek.pipeline import Retriever
from mmseek.pipeline.rerankers import load_reranker
from mmseek.pipeline.reranking import Reranking
from mmseek.protocols import Reranker

if TYPE_CHECKING:
    import PIL.Image

    from mmseek.pipeline.retriever import Mode
    from mmseek.protocols import Encoder

    Picture: TypeAlias = str | Path | bytes | io.BytesIO | Image | PIL.Image.Image

__all__ = ["SearchSource", "make_query", "open_source", "picture_of"]


@runtime_checkable
class SearchSource(Protocol):
    """A collection that can be searched, read and, if it was opened for it, written. Safe to use from several threads.

    The pictures of documents from here have a path or bytes (a folder) or a URL (a service); `picture` reads either.
    """

    def search(self, query: Query, *, rerank: bool = True) -> tuple[Hit, ...]:
        """The hits of a query, best first; in the order of the source's reranker, if it has one and `rerank` is true.

        Raises:
            InputError: the query or its filter cannot be used.
            MmseekError: the collection, its encoder or the service cannot answer.
        """
        ...

    async def asearch(self, query: Query, *, rerank: bool = True) -> tuple[Hit, ...]:
        """As `search`."""
        ...

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """The documents of these ids; unknown ids are left out."""
        ...

    def documents(self, filter: str | None = None) -> Iterator[Document]:  # noqa: A002
        """All documents, or those that a condition on metadata holds for (see `mmseek.filters`)."""
        ...

    def count(self) -> int:
        """How many documents there are."""
        ...

    def add(self, documents: Sequence[Document]) -> tuple[ItemError, ...]:
        """Add documents, replacing those of equal id; gives the reasons of those that could not be stored.

        All others are durable on return.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Remove documents by id; returns how many there were."""
        ...

    def clear(self, *, compact: bool = False) -> int:
        """Remove every document; returns how many there were.

        With `compact`, what they took on the disk is given back as well: vectors, pictures and indexes begin anew.
        """
        ...

    def picture(self, image: Image) -> bytes:
        """The encoded bytes of a document's picture.

        Raises:
            MediaError: it is gone or too large.
            UrlRefused: its address is none of this source's.
        """
        ...

    def close(self) -> None:
        """Let go of the collection or the connections."""
        ...


def open_source(
    location: str | Path | Retriever | SearchSource,
    *,
    mode: Mode = "read",
    encoder: str | Encoder | None = None,
    device: str | None = None,
    rerank: str | Reranker | Sequence[str | Reranker] | None = None,
    rerank_depth: int | Sequence[int] | None = None,
    reranking: Reranking | None = None,
    api_key: str | None = None,
    timeout: float = 60.0,
    retries: int = 3,
) -> SearchSource:
    """Open a collection here, or a service that another machine runs.

    Args:
        location: a collection folder or `qdrant://...`; `http://...` or `https://...` of `mmseek serve`; or a retriever
            that is open. A source is given back as it is.
        mode: of a collection: `read`, `write` or `create`, as `Retriever.open` takes it.
        encoder: of a collection; without it, the one that the collection names.
        device: where the encoder and the reranker run, for example `cpu` or `cuda`.
        rerank: a reranker, its spec, or several. They run in this process, for a service too, in place of its own.
        rerank_depth: how many hits each orders; see `mmseek.Retriever`.
        reranking: threshold, fusion and time; hits below the threshold are left out.
        api_key: sent to a service as a bearer token.
        timeout: seconds that one request to a service may take.
        retries: how often a request that a service could not answer is made again.

    Raises:
        InputError: options are given beside a retriever or a source, which has its own.
        MissingExtra: a service needs the libraries of an extra.
        MmseekError: as `Retriever.open`.
    """
    if not isinstance(location, str | Path):
        if encoder is not None or rerank is not None or api_key is not None:
            raise InputError("an open retriever or source has its own encoder, reranker and key: give none beside it")
        return _wrapped(location)
    if isinstance(location, str) and location.lower().startswith(("http://", "https://")):
        if encoder is not None:
            raise InputError(f"{location} encodes with the encoder of its own collection: give no encoder beside it")
        from mmseek.api.rag.remote import RemoteSource

        return RemoteSource(
            location,
            reranker=_loaded(rerank, device),
            rerank_depth=rerank_depth,
            reranking=reranking,
            api_key=api_key,
            timeout=timeout,
            retries=retries,
        )
    return LocalSource(
        Retriever.open(
            location, encoder, mode=mode, device=device, reranker=rerank, rerank_depth=rerank_depth, reranking=reranking
        )
    )


def make_query(
    text: str | None,
    image: Picture | None = None,
    *,
    k: int,
    instruction: str | None = None,
    filter: str | None = None,  # noqa: A002  # the word that Query and the other surfaces use
    mode: SearchMode = "dense",
) -> Query:
    """The query of a framework's words and picture: the picture first, as an item's shorthand has it.

    Raises:
        InputError: there is nothing to search for, k is below 1, or the picture is given in an unknown way.
    """
    if text is not None and not isinstance(text, str):
        raise InputError(f"a query is text, not {type(text).__name__}: give a picture as image")
    pictures = () if image is None else (picture_of(image),)
    words = (text,) if text and text.strip() else ()
    return Query(Content.of(*pictures, *words), instruction=instruction, k=k, filter=filter, mode=mode)


def picture_of(image: Picture) -> Image:
    """A picture as users of frameworks have it: a path, a `data:` URI, bytes, a stream of them, or a decoded picture.

    Raises:
        InputError: it is none of these.
        UrlRefused: it is an http(s) URL, which is never fetched.
    """
    if isinstance(image, str):
        if image[:8].lower().startswith(("http://", "https://")):
            raise UrlRefused(f"{image[:200]} is not fetched: save the picture to a file and give its path")
        try:
            return parse_item({"image": image}, base=Path()).content.images[0]
        except ItemError as error:
            raise InputError(error.reason) from error
    if isinstance(image, io.BytesIO):
        return Image(data=image.getvalue())
    if isinstance(image, bytes):
        return Image(data=image)
    found = Content.of(image).images
    if not found:
        raise InputError(f"a picture is a path, bytes or a PIL picture, not {type(image).__name__}")
    return found[0]


def _wrapped(given: object) -> SearchSource:
    if isinstance(given, Retriever):
        return LocalSource(given)
    if isinstance(given, SearchSource):
        return given
    raise InputError(
        f"{type(given).__name__} cannot be searched: give a collection folder, the URL of a service, or a Retriever"
    )


def _loaded(rerank: str | Reranker | Sequence[str | Reranker] | None, device: str | None) -> list[Reranker]:
    given = [] if rerank is None else [rerank] if isinstance(rerank, str | Reranker) else list(rerank)
    return [load_reranker(each, device=device) if isinstance(each, str) else each for each in given]
