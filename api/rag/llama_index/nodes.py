"""Between mmseek's documents and LlamaIndex's nodes. A node's id is its document's: the same in every search."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)

from mmseek._types import Content, Hit, Part, Text
from mmseek.api.rag.facts import KEYS, content_of, picture_metadata
from mmseek.api.rag.sources import SearchSource, picture_of

_QUIET = [*KEYS, "id", "score"]  # for programs, and not for the words that a model reads


def to_nodes(hits: Sequence[Hit], source: SearchSource, *, include_images: bool = False) -> list[NodeWithScore]:
    """Hits as nodes with scores: an `ImageNode` where there is a picture, else a `TextNode`.

    With `include_images`, the bytes of the first picture are in the node, for models that take pictures.
    """
    return [NodeWithScore(node=_node(hit, source, include_images), score=hit.score) for hit in hits]


def node_content(node: BaseNode) -> Content:
    """What a node of any retriever holds: its picture, if it has one, and its text."""
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    places = dict(node.metadata)
    if isinstance(node, ImageNode):
        text = node.text or ""
        if node.image:
            words: tuple[Part, ...] = (Text(text),) if text.strip() else ()
            return Content((picture_of(base64.b64decode(node.image)), *words))
        if node.image_path or node.image_url:
            own = {"image_path": node.image_path, "image_url": node.image_url}
            places = {**own, **places}
    return content_of(text, places)


def _node(hit: Hit, source: SearchSource, include_images: bool) -> BaseNode:
    document = hit.document
    facts = picture_metadata(document)
    shared: dict[str, Any] = {
        "id_": document.id,
        "text": document.content.text,
        "metadata": {
            **document.metadata,
            **facts,
            "id": document.id,
            "score": hit.score,
            "modality": document.content.modality,
        },
        "excluded_embed_metadata_keys": list(_QUIET),
        "excluded_llm_metadata_keys": list(_QUIET),
    }
    if document.parent_id is not None:
        shared["relationships"] = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document.parent_id)}
    if not document.content.images or not (include_images or facts.keys() & {"image_path", "image_url"}):
        return TextNode(**shared)
    if include_images:
        shared["image"] = base64.b64encode(source.picture(document.content.images[0])).decode("ascii")
    return ImageNode(
        **shared,
        image_path=facts.get("image_path"),
        image_url=facts.get("image_url"),
        image_mimetype=facts.get("mime_type"),
    )
