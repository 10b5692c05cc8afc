"""OpenAI's embeddings and models, with what vLLM (`messages`), infinity (`modality`), Jina (objects, `task`) and Voyage
(`input_type`, `output_dtype`) add to the same address.

Sources: the OpenAI API reference, "Embeddings"; vLLM's docs, "Pooling models"; Jina's and Voyage's API references.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, Field

from mmseek._types import EncodeRequest
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.protocols.answers import NumbersResponse
from mmseek.api.server.protocols.inputs import read_inputs, read_messages, role_of
from mmseek.api.server.protocols.models import chosen_encoder, find_model, list_models
from mmseek.api.server.protocols.vectors import as_base64, as_lists, quantise, shorten
from mmseek.api.server.protocols.working import Embedded, embed, parse
from mmseek.api.server.schemas import ErrorAnswer
from mmseek.api.server.service import ServiceDep
from mmseek.errors import InputError

if TYPE_CHECKING:
    from mmseek._types import FloatArray

router = APIRouter(tags=["embeddings"], responses={400: {"model": ErrorAnswer}, 404: {"model": ErrorAnswer}})

_EXAMPLES: Any = {
    "texts": {"value": {"model": "mini", "input": ["a red bike", "a blue boat"]}},
    "both": {
        "value": {
            "input": [{"content": [{"type": "text", "text": "a red bike"}]}, {"text": "in blue"}],
            "input_type": "query",
        }
    },
    "chat": {"value": {"messages": [{"role": "user", "content": [{"type": "text", "text": "a red bike"}]}]}},
}


class EmbeddingsBody(BaseModel):
    """Texts, pictures and both to encode: `input`, or one chat as `messages`."""

    model: str | None = Field(None, description="one of /v1/models; without it, the server's")
    input: Any = Field(None, description="a string, an object with text and image, or with content; or a list of them")
    messages: list[Any] | None = Field(None, description="one chat, which becomes one vector")
    encoding_format: Literal["float", "base64"] | None = None
    embedding_type: str | None = Field(None, description="Jina's word for the two others")
    dimensions: int | None = Field(None, ge=1, strict=True, description="only the first of them, at length 1 again")
    input_type: str | None = Field(None, description="query or document (Voyage)")
    task: str | None = Field(None, description="retrieval.query or retrieval.passage (Jina)")
    instruction: str | None = Field(None, description="what to look for, to encoders that can use it")
    modality: Literal["text", "image"] = Field("text", description="what strings are (infinity)")
    output_dtype: str | None = Field(None, description="float, int8, uint8, binary or ubinary (Voyage)")
    output_dimension: int | None = Field(None, ge=1, strict=True)
    late_chunking: bool | None = None
    return_multivector: bool = Field(False, description="a vector for each token, from a model that gives them (Jina)")

    def kind_and_packing(self) -> tuple[str, bool]:
        """The type of the numbers, and whether they come as base64."""
        kind = self.output_dtype or "float"
        if self.embedding_type not in (None, "base64"):
            kind = str(self.embedding_type)
        return kind, "base64" in (self.encoding_format, self.embedding_type)


class EmbeddingAnswer(BaseModel):
    """One vector: a list of numbers, or base64 of little-endian float32; `embeddings` if each token has its own."""

    object: str
    index: int
    embedding: list[float] | str | None = None
    embeddings: list[list[float]] | list[str] | None = None


class UsageAnswer(BaseModel):
    """How many tokens the model read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """The vectors, in the order of the inputs."""

    object: str
    data: list[EmbeddingAnswer]
    model: str
    usage: UsageAnswer


@router.post("/v1/embeddings", response_model=EmbeddingsAnswer)
@router.post("/embeddings", response_model=EmbeddingsAnswer, include_in_schema=False)
async def embeddings(
    body: Annotated[EmbeddingsBody, Body(openapi_examples=_EXAMPLES)], request: Request, service: ServiceDep
) -> NumbersResponse:
    """Vectors of texts, pictures and both, as OpenAI's clients ask for them."""
    name, served = chosen_encoder(service, body.model, tokens=body.return_multivector)
    requests = await parse(service, request, lambda: _read(body, service.limits))
    found = await embed(service, served, requests)
    return NumbersResponse(_answer(body, found, name))


def _read(body: EmbeddingsBody, limits: ServerLimits) -> list[EncodeRequest]:
    if (body.input is None) == (body.messages is None):
        raise InputError("give either input or messages")
    if body.late_chunking:
        raise InputError("late_chunking is not offered: send each chunk as an input of its own")
    if body.messages is not None:
        return [read_messages(body.messages, limits)]
    return read_inputs(
        body.input,
        "input",
        limits,
        role="query" if body.instruction else role_of(body.input_type or body.task),
        instruction=body.instruction,
        image=body.modality == "image",
    )


def _answer(body: EmbeddingsBody, found: Embedded, name: str) -> dict[str, Any]:
    kind, packed = body.kind_and_packing()

    def written(rows: FloatArray) -> list[Any]:
        numbers = quantise(shorten(rows, body.dimensions or body.output_dimension), kind)
        return as_base64(numbers) if packed else as_lists(numbers)

    key = "embeddings" if body.return_multivector else "embedding"
    rows = [written(each) for each in found.vectors] if body.return_multivector else written(found.rows)
    total = sum(found.tokens)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, key: row} for index, row in enumerate(rows)],
        "model": name,
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }


@router.get("/v1/models")
async def models(service: ServiceDep) -> NumbersResponse:
    """The models that this server runs, under the names that requests may use."""
    return NumbersResponse({"object": "list", "data": list_models(service)})


@router.get("/v1/models/{name:path}")
async def model(name: str, service: ServiceDep) -> NumbersResponse:
    """One model."""
    return NumbersResponse(find_model(service, name))
