"""Voyage's multimodal embeddings. Source: Voyage's API reference, "Multimodal embeddings"."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from mmseek._types import EncodeRequest
from mmseek.api.server.protocols.answers import NumbersResponse
from mmseek.api.server.protocols.inputs import read_inputs, role_of
from mmseek.api.server.protocols.models import chosen_encoder
from mmseek.api.server.protocols.vectors import as_base64, as_lists, quantise, shorten
from mmseek.api.server.protocols.working import embed, parse
from mmseek.api.server.service import ServiceDep
from mmseek.media import probe

router = APIRouter(tags=["embeddings"])


class MultimodalBody(BaseModel):
    """Interleaved inputs: `{"content": [parts]}` each."""

    inputs: list[Any]
    model: str | None = None
    input_type: Literal["query", "document"] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    output_encoding: Literal["float", "base64"] | None = None
    output_dtype: str | None = None
    output_dimension: int | None = Field(None, ge=1, strict=True)


@router.post("/v1/multimodalembeddings")
@router.post("/multimodalembeddings", include_in_schema=False)
async def multimodal(body: MultimodalBody, request: Request, service: ServiceDep) -> NumbersResponse:
    """Vectors of interleaved texts and pictures, as Voyage's client asks for them."""
    name, served = chosen_encoder(service, body.model)
    role = role_of(body.input_type)
    requests = await parse(service, request, lambda: read_inputs(body.inputs, "inputs", service.limits, role=role))
    found = await embed(service, served, requests, "inputs")
    numbers = quantise(shorten(found.rows, body.output_dimension), body.output_dtype or "float")
    packed = "base64" in (body.encoding_format, body.output_encoding)
    rows = as_base64(numbers) if packed else as_lists(numbers)
    pixels = await parse(service, request, lambda: _pixels(requests))
    texts = sum(tokens for tokens, each in zip(found.tokens, requests, strict=True) if each.content.modality == "text")
    return NumbersResponse(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
            "model": name,
            "usage": {
                "text_tokens": texts,
                "image_pixels": pixels,
                "video_pixels": 0,
                "total_tokens": sum(found.tokens),
            },
        }
    )


def _pixels(requests: list[EncodeRequest]) -> int:
    """Of all pictures, by their headers; they have been decoded by now, so they are sound."""
    infos = [probe(image.data) for each in requests for image in each.content.images if image.data]
    return sum(info.width * info.height for info in infos)
