"""The `MultiVectorEncoder` protocol on top of the engine: a family hands in its recipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mmseek._types import Content, Encoded, EncodeRequest, EncoderIdentity, Role, Sent
from mmseek.embed.base import TasksWrittenOut, placed
from mmseek.embed.engine import Engine, EngineOptions, Recipe
from mmseek.embed.instructions import resolve_instruction
from mmseek.protocols import Reading

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["EngineTokenEncoder"]


class EngineTokenEncoder:
    """An encoder of many vectors a content. Thread-safe as far as the recipe is.

    Args:
        recipe: whose `forward` gives an array (tokens, dim) a payload.
        identity: see `EncoderIdentity`; `dim` is that of each vector.
        options: of the engine.
    """

    def __init__(self, recipe: Recipe, identity: EncoderIdentity, options: EngineOptions | None = None) -> None:
        self.recipe = recipe
        self._identity = identity
        self._engine = Engine(TasksWrittenOut(recipe), options)

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    def encode_query_tokens(self, contents: Sequence[Content], instruction: str | None = None) -> list[FloatArray]:
        """Encode the query side: float32 (tokens, dim) a content, each row L2-normalised.

        Raises:
            SpecError: no task is named so.
            MmseekError: the first item that cannot be encoded; of several, its position (from 0) is named.
        """
        return self._encode(contents, "query", None if instruction is None else resolve_instruction(instruction))

    def encode_document_tokens(self, contents: Sequence[Content]) -> list[FloatArray]:
        """Encode the document side: float32 (tokens, dim) a content; errors as in `encode_query_tokens`."""
        return self._encode(contents, "document", None)

    def stream_tokens(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        """Encode any number of requests in bounded memory: one outcome each, in input order; a bad one fails alone."""
        return self._engine.stream(requests)

    def reads(self, request: EncodeRequest) -> Sent:
        """What the model reads; of a family that does not tell, the text alone.

        Raises:
            MmseekError: the content cannot be encoded.
        """
        if isinstance(self.recipe, Reading):
            return self.recipe.reads(request)
        return Sent(request.content.text)

    def _encode(self, contents: Sequence[Content], role: Role, instruction: str | None) -> list[FloatArray]:
        found = []
        requests = (EncodeRequest(content, role, instruction) for content in contents)
        for position, encoded in enumerate(self._engine.stream(requests)):
            if encoded.vector is None:
                raise placed(encoded.error, position if len(contents) > 1 else None)
            found.append(encoded.vector)
        return found
