"""`MmseekVectorStore`: a collection as a LangChain vector store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from mmseek._types import Hit, Query
from mmseek.api.rag.conditions import as_filter
from mmseek.api.rag.langchain.documents import from_document, to_documents
from mmseek.api.rag.langchain.embeddings import MmseekEmbeddings
from mmseek.api.rag.local import LocalSource
from mmseek.api.rag.sources import SearchSource, make_query, open_source
from mmseek.errors import InputError, ItemError

if TYPE_CHECKING:
    from mmseek.api.rag.sources import Picture
    from mmseek.pipeline import Retriever
    from mmseek.pipeline.retriever import Mode
    from mmseek.protocols import Encoder


class MmseekVectorStore(VectorStore):  # type: ignore[misc]  # LangChain's types are not followed
    """Texts and pictures in a collection or a service, which encodes them itself.

    A document whose metadata has `image_path` (or `image_paths`) is that picture and its text. What comes back has the
    metadata that was given, and `image_path`, `mime_type` and `modality` if there is a picture. Scores are cosines.

    Args:
        source: a collection folder, the URL of a service, a `Retriever` open for writing, or a `SearchSource`.
        mode: `write`; or `read`, which leaves the one right to write to another process.
        encoder: makes a new collection, if there is none at this folder.
        device: where the encoder runs.
    """

    def __init__(
        self,
        source: str | Path | Retriever | SearchSource,
        *,
        mode: Mode = "write",
        encoder: str | Encoder | None = None,
        device: str | None = None,
    ) -> None:
        self.source = open_source(source, mode=mode, encoder=encoder, device=device)

    @property
    def embeddings(self) -> Embeddings | None:
        """The encoder of the collection; None of a service, which encodes where it runs."""
        return MmseekEmbeddings(self.source.encoder) if isinstance(self.source, LocalSource) else None

    def add_documents(
        self, documents: list[LangChainDocument], *, ids: Sequence[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """Add documents, or replace those of equal id; gives their ids.

        Raises:
            InputError: there are not as many ids as documents.
            ItemError: a document could not be stored; all others are.
        """
        _refuse(kwargs)
        given = to_documents(documents, ids)
        failed = self.source.add(given)
        if failed:
            raise ItemError(
                f"{failed[0].reason} ({len(failed)} of {len(given)} documents were not stored, the others were)",
                item_id=failed[0].item_id,
            )
        return [document.id for document in given]

    async def aadd_documents(
        self, documents: list[LangChainDocument], *, ids: Sequence[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        return await asyncio.to_thread(self.add_documents, documents, ids=ids, **kwargs)

    def add_images(
        self,
        uris: Sequence[str | Path],
        metadatas: Sequence[dict[str, Any]] | None = None,
        ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Add picture files, each a document of its own.

        Raises:
            InputError: there are not as many metadatas or ids as pictures.
            ItemError: a picture could not be stored; all others are.
        """
        if metadatas is not None and len(metadatas) != len(uris):
            raise InputError(f"{len(uris)} pictures need as many metadatas, not {len(metadatas)}")
        own = metadatas or [{}] * len(uris)
        documents = [
            LangChainDocument(page_content="", metadata={**each, "image_path": str(uri)})
            for uri, each in zip(uris, own, strict=True)
        ]
        return self.add_documents(documents, ids=ids)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        """Remove documents; unknown ids are no error.

        Raises:
            InputError: no ids are given: a whole collection is not emptied by leaving a word out.
        """
        _refuse(kwargs)
        if ids is None:
            raise InputError("delete removes the documents of ids: give them")
        self.source.delete(ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[LangChainDocument]:
        """The documents of these ids, in this order; unknown ids are left out."""
        found = self.source.get(ids)
        return [from_document(found[name]) for name in dict.fromkeys(ids) if name in found]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[LangChainDocument]:
        """The k nearest documents. `filter`, `instruction`, `mode` and `image` as in `MmseekRetriever`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[LangChainDocument]:
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[LangChainDocument, float]]:
        """The k nearest documents and their scores, best first."""
        return _scored(self.source.search(_query(query, k, **kwargs)))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[LangChainDocument, float]]:
        hits = await self.source.asearch(_query(query, k, **kwargs))
        return await asyncio.to_thread(_scored, hits)

    def similarity_search_by_image(self, uri: Picture, k: int = 4, **kwargs: Any) -> list[LangChainDocument]:
        """The k documents nearest to a picture."""
        return self.similarity_search("", k, image=uri, **kwargs)

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: Any = None,  # noqa: A002  # the word of all surfaces
        **kwargs: Any,
    ) -> list[LangChainDocument]:
        """The k documents nearest to a vector of the collection's encoder.

        Raises:
            InputError: the source is a service, which takes no vectors, or the vector is none of the collection's.
        """
        _refuse(kwargs)
        hits = self._collection().search_vector(embedding, k, as_filter(filter))
        return [document for document, _ in _scored(hits)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[LangChainDocument]:
        """Of the fetch_k nearest documents, k that answer the question and differ from each other.

        Each next one has the best `lambda_mult * (likeness to the question) - (1 - lambda_mult) * (likeness to those
        before)` (Carbonell and Goldstein 1998, section 2), both as cosines of the stored vectors.

        Raises:
            InputError: the source is a service, which gives no vectors.
        """
        source = self._collection()
        asked = _query(query, max(k, fetch_k), **kwargs)
        hits = source.search(asked, rerank=False)
        vectors = source.vectors([hit.id for hit in hits])
        hits = tuple(hit for hit in hits if hit.id in vectors)  # one may have been deleted since
        if not hits:
            return []
        places = maximal_marginal_relevance(
            source.query_vector(asked), [vectors[hit.id] for hit in hits], lambda_mult=lambda_mult, k=k
        )
        return [from_document(hits[place].document) for place in places]

    def _collection(self) -> LocalSource:
        if not isinstance(self.source, LocalSource):
            raise InputError("a service is asked with words or a picture, and not with a vector: open the collection")
        return self.source

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda cosine: float(np.clip((1.0 + cosine) / 2.0, 0.0, 1.0))

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        source: str | Path = "",
        **kwargs: Any,
    ) -> Self:
        """A collection at `source` with these texts.

        Raises:
            InputError: `source` is missing, or `embedding` is no `MmseekEmbeddings`.
        """
        _refuse(kwargs)
        if not isinstance(embedding, MmseekEmbeddings):
            raise InputError("a collection remembers its encoder: give MmseekEmbeddings(SPEC) as the embedding")
        if not str(source):
            raise InputError("from_texts needs source=, the folder of the collection")
        store = cls(source, encoder=embedding.encoder)
        store.add_texts(texts, metadatas, ids=ids)
        return store


def _query(
    text: str,
    k: int,
    *,
    image: Picture | None = None,
    filter: Any = None,  # noqa: A002  # the word of all surfaces
    instruction: str | None = None,
    mode: Any = "dense",
) -> Query:
    return make_query(text, image, k=k, filter=as_filter(filter), instruction=instruction, mode=mode)


def _scored(hits: Sequence[Hit]) -> list[tuple[LangChainDocument, float]]:
    return [(from_document(hit.document), hit.score) for hit in hits]


def _refuse(options: dict[str, Any]) -> None:
    if options:
        raise InputError(f"there is no option {next(iter(options))!r} here")
