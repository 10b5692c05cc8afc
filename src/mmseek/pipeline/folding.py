"""Several hits that stand for one thing, made one: of each parent the best, or a picture and its caption together."""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mmseek._types import Content, Document, GroupBy, Hit, Text
from mmseek.pipeline.pruning import CAPTION

if TYPE_CHECKING:
    from mmseek.protocols import Collection

__all__ = ["best_of_groups", "captioned_pictures"]

_CAPTION_OF: Final = "caption_of"


def best_of_groups(hits: Sequence[Hit], k: int, by: GroupBy) -> list[Hit]:
    """The first hit of each of the first k groups, ranked anew.

    By `parent`, a document without a parent stands for itself, in one group with the documents that name it as theirs.
    By `caption`, a document and the captions made of it are a group.
    """
    first: dict[str, Hit] = {}
    for hit in hits:
        first.setdefault(_parent(hit.document) if by == "parent" else pictured(hit.document), hit)
        if len(first) == k:
            break
    return [replace(hit, rank=rank) for rank, hit in enumerate(first.values(), start=1)]


def captioned_pictures(hits: Sequence[Hit], collection: Collection) -> list[Hit]:
    """The same hits as the documents with pictures that they are of, with the words of their captions behind these.

    A caption whose picture has left the collection stays as it is.

    Args:
        hits: one at most of each document and its caption.
        collection: that they are of.
    """
    wanted = {hit.id: pictured(hit.document) for hit in hits}
    unread = [name for hit, name in wanted.items() if hit != name]
    unread += [f"{hit.id}{CAPTION}" for hit in hits if wanted[hit.id] == hit.id and hit.document.content.images]
    held = collection.get(unread) | {hit.id: hit.document for hit in hits}
    found = []
    for hit in hits:
        name = wanted[hit.id]
        caption = hit.document if name != hit.id else held.get(f"{name}{CAPTION}")
        if name in held:
            document = held[name]
            if caption is not None and caption.metadata.get(_CAPTION_OF) == name:
                document = replace(document, content=Content((*document.content.parts, Text(caption.content.text))))
            hit = replace(hit, id=name, document=document)
        found.append(hit)
    return found


def pictured(document: Document) -> str:
    """The id of the document that this is the caption of, or else its own."""
    name = document.metadata.get(_CAPTION_OF)
    return name if isinstance(name, str) and name else document.id


def without(hits: Sequence[Hit], barred: Container[str]) -> list[Hit]:
    """The hits that are of none of these ids, nor captions of one."""
    return [hit for hit in hits if pictured(hit.document) not in barred] if barred else list(hits)


def _parent(document: Document) -> str:
    return document.id if document.parent_id is None else document.parent_id
