"""The `Encoder` protocol on top of the engine. A family inherits from it and gives the recipe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmseek._types import Content, Encoded, EncodeRequest, EncoderIdentity, Role
from mmseek.embed.batching import Budget
from mmseek.embed.engine import Engine, EngineOptions, Recipe, Unit
from mmseek.embed.instructions import resolve_instruction
from mmseek.errors import MmseekError

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import Encoder

__all__ = ["EngineEncoder", "TasksWrittenOut", "encode_all", "placed"]


class EngineEncoder(ABC):
    """An encoder of one vector a content. Subclasses implement `identity` and the four parts of `Recipe`."""

    def __init__(self, options: EngineOptions | None = None) -> None:
        self._engine = Engine(TasksWrittenOut(self), options)

    @property
    @abstractmethod
    def identity(self) -> EncoderIdentity:
        """Spec, fingerprint and dimension."""

    @property
    @abstractmethod
    def budgets(self) -> Mapping[str, Budget]:
        """See `Recipe`."""

    @abstractmethod
    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """See `Recipe`."""

    @abstractmethod
    def forward(self, kind: str, payloads: Sequence[Any]) -> FloatArray:
        """See `Recipe`."""

    @abstractmethod
    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """See `Recipe`."""

    def encode_query(self, contents: Sequence[Content], instruction: str | None = None) -> FloatArray:
        """Encode the query side: float32 (n, dim), L2-normalised. `instruction` may be a task's name, `task:cirr`.

        Raises:
            SpecError: no task is named so.
            MmseekError: the first item that cannot be encoded; of several, its position (from 0) is named.
        """
        return encode_all(self, contents, "query", None if instruction is None else resolve_instruction(instruction))

    def encode_document(self, contents: Sequence[Content]) -> FloatArray:
        """Encode the document side: float32 (n, dim), L2-normalised; errors as in `encode_query`."""
        return encode_all(self, contents, "document", None)

    def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        """Encode any number of requests in bounded memory: one outcome each, in input order; a bad one fails alone.

        Instructions may be tasks' names; one that names no task fails alone as well.
        """
        return self._engine.stream(requests)


def encode_all(encoder: Encoder, contents: Sequence[Content], role: Role, instruction: str | None) -> FloatArray:
    """The vectors (n, dim) of an encoder's stream over contents of one side.

    Raises:
        MmseekError: the first item that cannot be encoded; of several, its position (from 0) is named.
    """
    rows = np.empty((len(contents), encoder.identity.dim), dtype=np.float32)
    requests = [EncodeRequest(content, role, instruction) for content in contents]
    for position, encoded in enumerate(encoder.stream(requests)):
        if encoded.vector is None:
            raise placed(encoded.error, position if len(contents) > 1 else None)
        rows[position] = encoded.vector
    return rows


class TasksWrittenOut:
    """A recipe, shown instructions only: `task:cirr` and the like are replaced on the way."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    @property
    def budgets(self) -> Mapping[str, Budget]:
        return self._recipe.budgets

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        return self._recipe.prepare(_written_out(request))

    def forward(self, kind: str, payloads: Sequence[Any]) -> FloatArray | Sequence[FloatArray]:
        return self._recipe.forward(kind, payloads)

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        return self._recipe.combine(_written_out(request), units, vectors)


def _written_out(request: EncodeRequest) -> EncodeRequest:
    if request.instruction is None:
        return request
    return replace(request, instruction=resolve_instruction(request.instruction))


def placed(error: MmseekError | None, position: int | None) -> MmseekError:
    """The error, naming the item's position if one is given."""
    if error is None:
        error = MmseekError("an encoder gave neither a vector nor an error: report this as a bug")
    if position is not None:
        # The error is this call's alone, so its sentence may be completed in place, whatever class it is.
        error.args = (f"item {position}: {error}", *error.args[1:])
    return error
