"""`MmseekEmbedding`: vectors for LlamaIndex's own indexes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings import MultiModalEmbedding

from mmseek._types import Content
from mmseek.api.rag.encoding import SharedEncoder
from mmseek.api.rag.sources import picture_of

if TYPE_CHECKING:
    from mmseek.protocols import Encoder


class MmseekEmbedding(MultiModalEmbedding):  # type: ignore[misc]  # LlamaIndex's types are not followed
    """Texts and pictures as vectors of one space: lists of `dim` floats, L2-normalised.

    Args:
        encoder: a spec, for example `mini`, or a loaded encoder.
        device: where the model runs, for example `cpu` or `cuda`.
        instruction: what queries look for, to encoders that can use it.
        options: of LlamaIndex's base class: `embed_batch_size`, `callback_manager`.
    """

    _shared: Any = PrivateAttr()

    def __init__(
        self,
        encoder: str | Encoder = "mini",
        *,
        device: str | None = None,
        instruction: str | None = None,
        **options: Any,
    ) -> None:
        shared = SharedEncoder(encoder, device, instruction)
        super().__init__(model_name=shared.encoder.identity.spec, **options)
        self._shared = shared

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex's serialised settings."""
        return "MmseekEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        found: list[float] = self._shared.query(Content.of(query))
        return found

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        found: list[list[float]] = self._shared.documents([Content.of(text) for text in texts])
        return found

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    def _get_image_embedding(self, img_file_path: Any) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    async def _aget_image_embedding(self, img_file_path: Any) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    def _get_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        found: list[list[float]] = self._shared.documents([Content.of(picture_of(each)) for each in img_file_paths])
        return found

    async def _aget_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)
