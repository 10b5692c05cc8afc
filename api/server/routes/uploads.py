from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.datastructures import FormData, UploadFile

from mmseek.api.server.hosting.place import PlaceDep
from mmseek.api.server.jobs.forms import ITEMS_FORM
from mmseek.api.server.jobs.pictures import replaced
from mmseek.api.server.origins import refuse_other_origins
from mmseek.api.server.reading import Failure, own_code
from mmseek.api.server.routes.documents import store
from mmseek.api.server.routes.table import RouteTable
from mmseek.api.server.schemas import DocumentsAnswer
from mmseek.errors import InputError, ItemError
from mmseek.jsonl import parse_json_line

table = RouteTable("/documents", tags=["documents"])

_BOM: Final = b"\xef\xbb\xbf"
_FORM: Final = {"requestBody": {"required": True, "content": {"multipart/form-data": ITEMS_FORM}}}


@table.post("/upload", response_model=DocumentsAnswer, openapi_extra=_FORM)
async def upload(request: Request, place: PlaceDep) -> JSONResponse:
    """The same as a form: a JSONL file `items` and the pictures `files` that its items name.

    Pictures alone become documents under the names of their files. `position` in `failed` counts the lines, from 0.
    """
    refuse_other_origins(request, place.service.origins)
    async with request.form(max_files=place.service.limits.max_documents + 1, max_fields=0) as form:
        items, failed = _items(*await _read(form))
    positions = list(items)
    answer: dict[str, Any] = {"indexed": 0, "unchanged": 0, "failed": []}
    if items:
        answer = await store(list(items.values()), place)
    later = [each | {"position": positions[each["position"]]} for each in answer["failed"]]
    every = sorted([*(each.to_json() for each in failed), *later], key=lambda each: each["position"])
    return JSONResponse(answer | {"failed": every})


async def _read(form: FormData) -> tuple[bytes | None, dict[str, bytes]]:
    """The lines of a form, if it has any, and its files by their names.

    Raises:
        InputError: it holds something else, or nothing.
    """
    lines: bytes | None = None
    files: dict[str, bytes] = {}
    for field, value in form.multi_items():
        if not isinstance(value, UploadFile) or field not in ("items", "files"):
            raise InputError(f"the form has a field {field[:80]!r}: it takes a file `items` and files `files`")
        if field == "items":
            if lines is not None:
                raise InputError("the form has several files `items`: put all lines into one")
            lines = await value.read()
            continue
        name = value.filename or ""
        if not name or name in files:
            raise InputError(f"a file named {name[:100]!r} came twice or without a name: give each file its own name")
        files[name] = await value.read()
    if lines is None and not files:
        raise InputError("the form has no file: send a JSONL file `items`, pictures `files`, or both")
    return lines, files


def _items(lines: bytes | None, files: Mapping[str, bytes]) -> tuple[dict[int, Any], list[Failure]]:
    """Items by the number of their line, from 0, with their pictures inside, and the lines that are none."""
    addresses = {name: f"data:image/x-unknown;base64,{base64.b64encode(files[name]).decode()}" for name in files}
    if lines is None:
        return {place: {"id": name, "image": address} for place, (name, address) in enumerate(addresses.items())}, []
    items: dict[int, Any] = {}
    failed = []
    for place, raw in enumerate(lines.removeprefix(_BOM).split(b"\n")):
        if not raw.strip():
            continue
        row = parse_json_line("items", place + 1, raw)
        if isinstance(row, ItemError):
            failed.append(Failure(place, None, own_code(row), row.reason))
        else:
            items[place] = replaced(row.value, lambda address: addresses.get(address, address))
    return items, failed
