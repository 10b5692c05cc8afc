from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any, BinaryIO, Final

from fastapi import Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from mmseek.api.server.cursors import make_cursor, read_cursor
from mmseek.api.server.errors import ClientGone, NotOffered
from mmseek.api.server.hosting.place import Place, PlaceDep
from mmseek.api.server.jobs import Job, Jobs
from mmseek.api.server.jobs.forms import ITEMS_FORM, lines_of_files
from mmseek.api.server.jobs.inputs import Draft
from mmseek.api.server.origins import refuse_other_origins
from mmseek.api.server.routes.table import RouteTable
from mmseek.api.server.schemas_jobs import DeletedJobAnswer, JobAnswer, JobFailuresAnswer, JobFileBody, JobsAnswer
from mmseek.errors import InputError

table = RouteTable("/jobs", tags=["jobs"])

_PIECE: Final = 1 << 20
_MOST_FILES: Final = 10_000
_LINES: Final = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-ndjson": {"schema": {"type": "string", "description": "one item a line"}},
            "application/json": {"schema": JobFileBody.model_json_schema()},
            "multipart/form-data": ITEMS_FORM,
        },
    }
}
_Id = Annotated[str, Path(description="of the job")]
_Limit = Annotated[int, Query(ge=1, le=1000)]
_Cursor = Annotated[str | None, Query(description="`next` of the page before")]


@table.post("", response_model=JobAnswer, status_code=202, openapi_extra=_BODY)
async def begin(request: Request, place: PlaceDep) -> JSONResponse:
    """Take in many documents and store them in the background.

    The body is JSONL (`application/x-ndjson`), a form of a JSONL file `items` and pictures `files` that its items name
    (pictures alone become documents under their names), or `{"path": ...}`, a file of the server.
    """
    jobs = _jobs(place)
    collection = await asyncio.to_thread(_existing, place)
    await asyncio.to_thread(jobs.check_room)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    name = f"job-{secrets.token_hex(8)}"
    try:
        if kind == "application/json":
            job = await asyncio.to_thread(jobs.begin_file, name, collection, _file_body(await request.body()).path)
        elif kind in _LINES or kind == "multipart/form-data":
            with jobs.inputs.receiving(name) as draft:
                await (_take_lines if kind in _LINES else _take_form)(request, draft, place)
                job = await asyncio.to_thread(jobs.begin, name, collection, draft)
        else:
            raise HTTPException(415, "send JSONL as application/x-ndjson, a form, or JSON with a path")
    except ClientDisconnect as error:
        raise ClientGone("the client hung up before all was sent") from error
    return JSONResponse(_job_json(job), 202)


@table.get("", response_model=JobsAnswer)
async def every(place: PlaceDep, limit: _Limit = 100, cursor: _Cursor = None) -> JSONResponse:
    """The jobs of a collection, the newest first."""
    jobs = _jobs(place)
    collection = await asyncio.to_thread(_existing, place)
    found = await asyncio.to_thread(jobs.page, collection, limit, read_cursor(cursor, collection, "jobs"))
    more = make_cursor(found[-1].number, collection, "jobs") if len(found) == limit else None
    return JSONResponse({"jobs": list(map(_job_json, found)), "next": more})


@table.get("/{job}", response_model=JobAnswer)
async def show(job: _Id, place: PlaceDep) -> JSONResponse:
    """How far a job is."""
    return JSONResponse(_job_json(await _found(place, job)))


@table.get("/{job}/failures", response_model=JobFailuresAnswer)
async def failures(job: _Id, place: PlaceDep, limit: _Limit = 100, cursor: _Cursor = None) -> JSONResponse:
    """The lines that were not stored, each with a code and a sentence."""
    found = await _found(place, job)
    after = read_cursor(cursor, found.id)
    rows = await asyncio.to_thread(_jobs(place).failures, found, limit, after)
    more = make_cursor(rows[-1].line, found.id) if len(rows) == limit else None
    return JSONResponse({"failures": [row._asdict() for row in rows], "next": more})


@table.post("/{job}/cancel", response_model=JobAnswer)
async def cancel(job: _Id, place: PlaceDep) -> JSONResponse:
    """Stop a job: what is stored stays, and it may go on later. One that has ended is left as it is."""
    return JSONResponse(_job_json(await asyncio.to_thread(_jobs(place).cancel, await _found(place, job))))


@table.post("/{job}/resume", response_model=JobAnswer)
async def resume(job: _Id, place: PlaceDep) -> JSONResponse:
    """Let a job that failed or was cancelled go on from where it stopped."""
    return JSONResponse(_job_json(await asyncio.to_thread(_jobs(place).resume, await _found(place, job))))


@table.delete("/{job}", response_model=DeletedJobAnswer)
async def forget(job: _Id, place: PlaceDep) -> JSONResponse:
    """Forget a job that has ended, with its input and its failures; documents stay."""
    await asyncio.to_thread(_jobs(place).forget, await _found(place, job))
    return JSONResponse({"deleted": job})


def _jobs(place: Place) -> Jobs:
    if place.service.jobs is None:
        raise NotOffered("this server keeps no jobs: start it with --data-dir DIR")
    return place.service.jobs


def _existing(place: Place) -> str | None:
    return place.stored_name


async def _found(place: Place, job: str) -> Job:
    def look() -> Job:
        return _jobs(place).get(place.stored_name, job)

    return await asyncio.to_thread(look)


def _file_body(body: bytes) -> JobFileBody:
    try:
        return JobFileBody.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        ) from error


async def _take_lines(request: Request, draft: Draft, place: Place) -> None:
    """The lines as they come, a piece at a time."""
    del place
    file = draft.open()
    try:
        gathered = bytearray()
        async for chunk in request.stream():
            gathered += chunk
            if len(gathered) >= _PIECE:
                await asyncio.to_thread(draft.write, file, bytes(gathered))
                gathered.clear()
        await asyncio.to_thread(draft.write, file, bytes(gathered))
    finally:
        await asyncio.to_thread(draft.close, file)


async def _take_form(request: Request, draft: Draft, place: Place) -> None:
    """A JSONL file and pictures, or pictures alone."""
    refuse_other_origins(request, place.service.origins)
    async with request.form(max_files=_MOST_FILES, max_fields=0) as form:
        for field, value in form.multi_items():
            if not isinstance(value, UploadFile) or field not in ("items", "files"):
                raise InputError(f"the form has a field {field[:80]!r}: it takes a file `items` and files `files`")
        items = [value for value in form.getlist("items") if isinstance(value, UploadFile)]
        if len(items) > 1:
            raise InputError("the form has several files `items`: put all lines into one")
        for file in form.getlist("files"):
            if isinstance(file, UploadFile):
                await _copy(file, draft, draft.new_file(file.filename or ""))
        lines = draft.open()
        if items:
            await _copy(items[0], draft, lines)
            return
        if not draft.names:
            lines.close()
            raise InputError("the form has no file: send a JSONL file `items`, pictures `files`, or both")
        await asyncio.to_thread(draft.write, lines, lines_of_files(draft.names))
        await asyncio.to_thread(draft.close, lines)


async def _copy(source: UploadFile, draft: Draft, target: BinaryIO) -> None:
    try:
        while piece := await source.read(_PIECE):
            await asyncio.to_thread(draft.write, target, piece)
    finally:
        await asyncio.to_thread(draft.close, target)


def _job_json(job: Job) -> dict[str, Any]:
    done = job.state == "done"
    return {
        "id": job.id,
        "state": job.state,
        "progress": 1.0 if done else round(job.place / job.bytes, 4) if job.bytes else 0.0,
        "bytes": job.bytes,
        "lines": job.lines,
        "indexed": job.indexed,
        "unchanged": job.unchanged,
        "failed": job.failed,
        "error": None if job.code is None else {"code": job.code, "message": job.message},
        "created_at": job.created_at,
        "updated_at": job.updated_at,
    }
