"""Between mmseek's documents and Haystack's: a text is `content`, a picture is a `blob`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from haystack.dataclasses import ByteStream
from haystack.dataclasses import Document as HaystackDocument

from mmseek._types import Content, Document, Hit, Image
from mmseek.api.rag.facts import content_of, own_metadata, picture_metadata
from mmseek.api.rag.sources import SearchSource, picture_of
from mmseek.errors import InputError, MediaError
from mmseek.media import MIME_TYPES, recognise


def are_documents(given: object) -> bool:
    """Whether these are a list of Haystack's documents: components are given anything."""
    return isinstance(given, list) and all(isinstance(each, HaystackDocument) for each in given)


def to_document(document: HaystackDocument) -> Document:
    """A document for a collection, which makes its vector itself: an `embedding` that it brings is not kept.

    Raises:
        MediaError: its blob is no picture.
    """
    content = haystack_content(document)
    metadata = dict(document.meta) if document.blob is not None else own_metadata(document.meta)
    return Document(document.id, content, metadata)


def haystack_content(document: HaystackDocument) -> Content:
    """Its blob's picture, or those that `image_path` in its meta names, then its text.

    Raises:
        MediaError: the blob is no picture.
    """
    text = document.content or ""
    if document.blob is None:
        return content_of(text, document.meta)
    return Content.of(blob_picture(document.blob), *((text,) if text.strip() else ()))


def blob_picture(blob: ByteStream) -> Image:
    """The picture that a byte stream holds.

    Raises:
        MediaError: it holds something else.
    """
    if recognise(blob.data) is None:
        kind = blob.mime_type or "of an unknown kind"
        raise MediaError(f"a blob {kind} is no picture: give a JPEG, PNG, WEBP, GIF, BMP or TIFF, or text as content")
    return Image(data=blob.data)


def query_picture(image: Any) -> Image | None:
    """The picture of a query: a byte stream, a path, a `data:` URI, bytes or a PIL picture.

    Raises:
        InputError: it is none of these.
    """
    if image is None:
        return None
    return blob_picture(image) if isinstance(image, ByteStream) else picture_of(image)


def from_document(document: Document, source: SearchSource, *, images: bool = True) -> HaystackDocument:
    """A document as it was written; with `images`, its first picture as a blob.

    Raises:
        MediaError: the picture can no longer be read.
    """
    pictures = document.content.images
    texts = document.content.texts
    blob = None
    if pictures and images:
        data = source.picture(pictures[0])
        kind = recognise(data)
        blob = ByteStream(data=data, mime_type=None if kind is None else MIME_TYPES[kind])
    return HaystackDocument(
        id=document.id, content=document.content.text if texts else None, blob=blob, meta=dict(document.metadata)
    )


def from_hit(hit: Hit, source: SearchSource, *, images: bool) -> HaystackDocument:
    """A hit with its score; its meta says where its pictures are, and `modality`.

    A picture that can no longer be read is left out, and the rest of the hit given.
    """
    facts = {**picture_metadata(hit.document), "modality": hit.document.content.modality}
    try:
        document = from_document(hit.document, source, images=images)
    except (MediaError, InputError):
        document = from_document(hit.document, source, images=False)
    return replace(document, score=hit.score, meta={**document.meta, **facts})
