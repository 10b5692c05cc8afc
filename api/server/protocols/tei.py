"""Hugging Face text-embeddings-inference: `/embed`. Its `/rerank` shares an address with others; see `rerank`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from mmseek.api.server.protocols.answers import NumbersResponse
from mmseek.api.server.protocols.inputs import read_inputs, role_of
from mmseek.api.server.protocols.models import chosen_encoder
from mmseek.api.server.protocols.vectors import as_lists, shorten
from mmseek.api.server.protocols.working import embed, parse
from mmseek.api.server.service import ServiceDep
from mmseek.errors import InputError

router = APIRouter(tags=["embeddings"])


class TeiBody(BaseModel):
    """A text, or a list of them."""

    inputs: Any
    normalize: bool = True
    prompt_name: str | None = Field(None, description="query or document")
    dimensions: int | None = Field(None, ge=1, strict=True)


@router.post("/embed", response_model=list[list[float]])
async def tei_embed(body: TeiBody, request: Request, service: ServiceDep) -> NumbersResponse:
    """A bare list of vectors."""
    _, served = chosen_encoder(service, None)
    if not body.normalize:
        raise InputError("normalize: false is not offered, because vectors here are always of length 1: leave it out")
    role = role_of(body.prompt_name)
    requests = await parse(service, request, lambda: read_inputs(body.inputs, "inputs", service.limits, role=role))
    found = await embed(service, served, requests, "inputs")
    return NumbersResponse(as_lists(shorten(found.rows, body.dimensions)))
