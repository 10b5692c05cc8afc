"""Cohere's embed API, several types of numbers in one answer. Source: Cohere's API reference, "Embed API (v2)"."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from mmseek._types import EncodeRequest
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.protocols.answers import NumbersResponse
from mmseek.api.server.protocols.inputs import read_inputs, role_of
from mmseek.api.server.protocols.models import chosen_encoder
from mmseek.api.server.protocols.vectors import as_base64, as_lists, quantise, shorten
from mmseek.api.server.protocols.working import embed, parse
from mmseek.api.server.service import ServiceDep
from mmseek.errors import InputError

router = APIRouter(tags=["embeddings"])


class EmbedBody(BaseModel):
    """Exactly one of `texts`, `images` (data: URIs) and `inputs` (objects with content)."""

    model: str | None = None
    input_type: str | None = Field(None, description="search_query or search_document")
    texts: list[str] | None = None
    images: list[str] | None = None
    inputs: list[Any] | None = None
    embedding_types: list[str] | None = Field(None, description="float, int8, uint8, binary, ubinary, base64")
    output_dimension: int | None = Field(None, ge=1, strict=True)


@router.post("/v2/embed")
async def embed_v2(body: EmbedBody, request: Request, service: ServiceDep) -> NumbersResponse:
    """Vectors of texts, pictures or both, as Cohere's clients ask for them."""
    _, served = chosen_encoder(service, body.model)
    what, requests = await parse(service, request, lambda: _read(body, service.limits))
    found = await embed(service, served, requests, what)
    rows = shorten(found.rows, body.output_dimension)
    embeddings = {
        kind: as_base64(rows) if kind == "base64" else as_lists(quantise(rows, kind))
        for kind in dict.fromkeys(body.embedding_types or ["float"])
    }
    answer: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "response_type": "embeddings_by_type",
        "embeddings": embeddings,
        "texts": body.texts or [],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": sum(found.tokens)}},
    }
    return NumbersResponse(answer)


def _read(body: EmbedBody, limits: ServerLimits) -> tuple[str, list[EncodeRequest]]:
    given = {name: value for name in ("texts", "images", "inputs") if (value := getattr(body, name)) is not None}
    if len(given) != 1:
        raise InputError("give exactly one of texts, images and inputs")
    ((name, value),) = given.items()
    return name, read_inputs(value, name, limits, role=role_of(body.input_type), image=name == "images")
