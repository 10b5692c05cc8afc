"""What the tools answer: short, for every word is read by a model."""

from __future__ import annotations

from pydantic import BaseModel, Field

from mmseek._types import Document, Hit
from mmseek.api.pages.results import caption, shortened

_SNIPPET = 300


class Found(BaseModel):
    """One hit."""

    id: str = Field(description="give this to get_document and get_image")
    score: float
    caption: str = Field(description="the beginning of its text, or its caption")
    pictures: int = Field(description="how many pictures it has")
    parent_id: str | None = None


class SearchResults(BaseModel):
    """Hits, best first."""

    hits: list[Found]


class Listed(BaseModel):
    """A document of a list."""

    id: str = Field(description="give this to get_document and get_image")
    caption: str = Field(description="the beginning of its text, or its caption")
    pictures: int = Field(description="how many pictures it has")


class DocumentList(BaseModel):
    """Some documents in the order of storing."""

    documents: list[Listed]
    total: int = Field(description="how many there are in all, on this page and others")
    next: int | None = Field(description="give this as `after` for the next page; null at the end")


class DeletedDocuments(BaseModel):
    """How many documents there were to remove."""

    deleted: int


class PartOfDocument(BaseModel):
    """A piece of a document: text, or the number of a picture for get_image."""

    text: str | None = None
    picture: int | None = None


class WholeDocument(BaseModel):
    """A document, its parts in order."""

    id: str
    parts: list[PartOfDocument]
    metadata: dict[str, object]
    parent_id: str | None = None
    shortened: bool = Field(description="whether its text was longer than was asked for")


class AddedDocument(BaseModel):
    """What became of a document."""

    id: str
    outcome: str = Field(description="indexed, or unchanged where it was there already")


def listed(document: Document) -> Listed:
    """A document of a list in few words."""
    return Listed(id=document.id, caption=_words(document), pictures=len(document.content.images))


def found(hit: Hit) -> Found:
    """A hit in few words."""
    document = hit.document
    return Found(
        id=hit.id,
        score=round(float(hit.score), 4),
        caption=_words(document),
        pictures=len(document.content.images),
        parent_id=document.parent_id,
    )


def whole(document: Document, most: int) -> WholeDocument:
    """A document with at most `most` characters of text."""
    parts: list[PartOfDocument] = []
    left, pictures, cut = most, 0, False
    for part in document.content.parts:
        text = getattr(part, "text", None)
        if text is None:
            parts.append(PartOfDocument(picture=pictures))
            pictures += 1
            continue
        cut = cut or len(text) > left
        if left > 0 or not text:
            parts.append(PartOfDocument(text=text[:left]))
        left = max(left - len(text), 0)
    return WholeDocument(
        id=document.id,
        parts=parts,
        metadata=dict(document.metadata),
        parent_id=document.parent_id,
        shortened=cut,
    )


def _words(document: Document) -> str:
    return shortened(document.content.text.strip() or caption(document), _SNIPPET)
