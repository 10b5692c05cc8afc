"""`MmseekEmbeddings`: vectors for LangChain's other stores."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings

from mmseek._types import Content
from mmseek.api.rag.encoding import SharedEncoder
from mmseek.api.rag.sources import picture_of

if TYPE_CHECKING:
    from mmseek.api.rag.sources import Picture
    from mmseek.protocols import Encoder


class MmseekEmbeddings(Embeddings):  # type: ignore[misc]  # LangChain's types are not followed
    """Texts and pictures as vectors of one space: lists of `dim` floats, L2-normalised.

    Args:
        encoder: a spec, for example `mini`, or a loaded encoder.
        device: where the model runs, for example `cpu` or `cuda`.
        instruction: what queries look for, to encoders that can use it.
    """

    def __init__(
        self, encoder: str | Encoder = "mini", *, device: str | None = None, instruction: str | None = None
    ) -> None:
        self._shared = SharedEncoder(encoder, device, instruction)

    @property
    def encoder(self) -> Encoder:
        """The encoder that is asked."""
        return self._shared.encoder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of texts.

        Raises:
            MmseekError: the first text that cannot be encoded (an empty one, say), by its position.
        """
        return self._shared.documents([Content.of(text) for text in texts])

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question.

        Raises:
            MmseekError: it cannot be encoded.
        """
        return self._shared.query(Content.of(text))

    def embed_image(self, uris: list[Picture]) -> list[list[float]]:
        """The vectors of pictures: paths, `data:` URIs, bytes or PIL pictures. The name is that of LangChain's stores.

        Raises:
            MmseekError: the first picture that cannot be used, by its position.
        """
        return self._shared.documents([Content.of(picture_of(uri)) for uri in uris])

    def embed_image_query(self, image: Picture, text: str = "") -> list[float]:
        """The vector of a question that is a picture, or a picture and words.

        Raises:
            MmseekError: the picture cannot be used.
        """
        return self._shared.query(Content.of(picture_of(image), *((text,) if text.strip() else ())))

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        return await asyncio.to_thread(self.embed_query, text)
