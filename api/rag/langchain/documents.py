"""Between mmseek's documents and LangChain's, which are text and metadata."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document as LangChainDocument

from mmseek._addresses import address_of
from mmseek._types import Document, Hit, Image
from mmseek.api.rag.facts import content_of, own_metadata, picture_metadata
from mmseek.api.rag.sources import SearchSource
from mmseek.errors import InputError


def from_document(document: Document) -> LangChainDocument:
    """A document as it was added: its metadata, and where its pictures are if it has some."""
    return LangChainDocument(
        id=document.id,
        page_content=document.content.text,
        metadata={**document.metadata, **picture_metadata(document)},
    )


def from_hits(hits: Sequence[Hit], source: SearchSource, *, include_images: bool = False) -> list[LangChainDocument]:
    """Hits with `id`, `score` and `modality` in their metadata too; these names win over the document's own.

    With `include_images`, `image` is the first picture as a `data:` URI, for models that take pictures.
    """
    found = []
    for hit in hits:
        document = from_document(hit.document)
        facts: dict[str, Any] = {"id": hit.id, "score": hit.score, "modality": hit.document.content.modality}
        if hit.document.parent_id is not None:
            facts["parent_id"] = hit.document.parent_id
        if include_images and hit.document.content.images:
            picture = source.picture(hit.document.content.images[0])
            facts["image"] = address_of(Image(data=picture), None)
        document.metadata |= facts
        found.append(document)
    return found


def to_documents(documents: Sequence[LangChainDocument], ids: Sequence[str | None] | None) -> list[Document]:
    """LangChain's documents as mmseek's; `image_path` in the metadata becomes a picture.

    An id comes from `ids`, else from the document, else it is made up.

    Raises:
        InputError: there are not as many ids as documents.
    """
    if ids is not None and len(ids) != len(documents):
        raise InputError(f"{len(documents)} documents need as many ids, not {len(ids)}")
    names = ids if ids is not None else [None] * len(documents)
    return [
        Document(
            id=name or document.id or str(uuid.uuid4()),
            content=content_of(document.page_content, document.metadata),
            metadata=own_metadata(document.metadata),
        )
        for name, document in zip(names, documents, strict=True)
    ]
