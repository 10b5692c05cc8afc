"""Embedders: vectors for Haystack's other document stores."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from haystack import component, default_from_dict
from haystack.dataclasses import ByteStream
from haystack.dataclasses import Document as HaystackDocument

from mmseek.api.rag.encoding import SharedEncoder
from mmseek.api.rag.haystack.documents import are_documents, haystack_content, query_picture
from mmseek.api.rag.haystack.saving import saved
from mmseek.api.rag.sources import make_query
from mmseek.errors import InputError

if TYPE_CHECKING:
    from mmseek.protocols import Encoder


class _Embedder:
    """What both embedders share: the encoder, loaded once."""

    def __init__(
        self, encoder: str | Encoder = "mini", *, device: str | None = None, instruction: str | None = None
    ) -> None:
        self.encoder = encoder
        self.device = device
        self.instruction = instruction
        self._shared: SharedEncoder | None = None

    def warm_up(self) -> None:
        """Load the encoder; a second call does nothing.

        Raises:
            MmseekError: there is no such encoder, or its weights cannot be loaded.
        """
        if self._shared is None:
            self._shared = SharedEncoder(self.encoder, self.device, self.instruction)

    def to_dict(self) -> dict[str, Any]:
        """The settings, for a saved pipeline.

        Raises:
            InputError: the encoder was given as an object.
        """
        return saved(self, "encoder", encoder=self.encoder, device=self.device, instruction=self.instruction)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The embedder that `to_dict` wrote down."""
        embedder: Self = default_from_dict(cls, data)
        return embedder

    @property
    def _ready(self) -> SharedEncoder:
        self.warm_up()
        assert self._shared is not None
        return self._shared


@component
class MmseekTextEmbedder(_Embedder):
    """The vector of a question: words, a picture, or both.

    Args:
        encoder: a spec, for example `mini`, or a loaded encoder.
        device: where the model runs, for example `cpu` or `cuda`.
        instruction: what queries look for, to encoders that can use it.
    """

    @component.output_types(embedding=list[float])  # type: ignore[untyped-decorator]
    def run(self, text: str = "", image: ByteStream | str | None = None) -> dict[str, list[float]]:
        """The vector: `dim` floats, L2-normalised. `image` is a byte stream or a path.

        Raises:
            InputError: there is neither text nor picture.
            MediaError: the picture cannot be used.
        """
        return {"embedding": self._ready.query(make_query(text, query_picture(image), k=1).content)}

    @component.output_types(embedding=list[float])  # type: ignore[untyped-decorator]
    async def run_async(self, text: str = "", image: ByteStream | str | None = None) -> dict[str, list[float]]:
        """As `run`."""
        return await asyncio.to_thread(self.run, text, image)


@component
class MmseekDocumentEmbedder(_Embedder):
    """Documents with their vectors: of their `content`, of the picture in their `blob`, or of both.

    Args:
        encoder: a spec, for example `mini`, or a loaded encoder.
        device: where the model runs, for example `cpu` or `cuda`.
        instruction: not used: documents have none. Kept so that both embedders take the same settings.
    """

    @component.output_types(documents=list[HaystackDocument])  # type: ignore[untyped-decorator]
    def run(self, documents: list[HaystackDocument]) -> dict[str, list[HaystackDocument]]:
        """Copies of the documents with `embedding`.

        Raises:
            InputError: these are no documents.
            MmseekError: the first document that cannot be encoded, by its position.
        """
        if not are_documents(documents):
            raise InputError("the document embedder takes a list of haystack.Document: texts go to MmseekTextEmbedder")
        vectors = self._ready.documents([haystack_content(each) for each in documents])
        return {"documents": [replace(each, embedding=vector) for each, vector in zip(documents, vectors, strict=True)]}

    @component.output_types(documents=list[HaystackDocument])  # type: ignore[untyped-decorator]
    async def run_async(self, documents: list[HaystackDocument]) -> dict[str, list[HaystackDocument]]:
        """As `run`."""
        return await asyncio.to_thread(self.run, documents)
