"""Errors as answers: one JSON shape, one map from error class to status, and nothing of the inside."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mmseek import errors

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

T = TypeVar("T")

_log = structlog.get_logger("mmseek.api")


class DocumentNotFound(errors.InputError):
    """There is no such document, or it has no such picture."""

    code = "not_found"


class ServerBusy(errors.MmseekError):
    """Too many requests wait already; the same request may pass a little later.

    Args:
        reason: what there is too much of.
        retry_after: seconds after which to come again.
    """

    code = "busy"

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        self.retry_after = retry_after
        super().__init__(f"{reason}: try again in {retry_after} s")


class ServerStopping(errors.MmseekError):
    """The server takes no more work; another one may."""

    code = "stopping"


class WorkerLost(errors.ModelError):
    """The thread that runs the model crashed or hung while it had this request."""

    code = "worker_lost"


class DeadlineExceeded(errors.MmseekError):
    """The request waited for longer than its client or the server allows."""

    code = "deadline_exceeded"


class ClientGone(errors.MmseekError):
    """The client hung up before its answer was ready; nobody reads this."""

    code = "client_gone"


class NotOffered(errors.MmseekError):
    """This server runs without the part that the request needs: a reranker, say."""

    code = "not_offered"


class UnknownModel(errors.InputError):
    """The request names a model that this server does not run."""

    code = "unknown_model"


class BadCursor(errors.InputError):
    """The cursor is not one of this list."""

    code = "bad_cursor"


class UnknownJob(errors.InputError):
    """There is no such job of this collection."""

    code = "unknown_job"


class JobsFull(ServerBusy):
    """Jobs and their inputs take all the room that they may."""

    code = "jobs_full"


class JobState(errors.InputError):
    """The job is in a state in which this cannot be done to it."""

    code = "job_state"


class InputGone(errors.InputError):
    """What the job was to read is not there any more, or is another file now."""

    code = "input_gone"


class CrossOrigin(errors.InputError):
    """A page of another origin asks for a change that browsers let it ask for."""

    code = "cross_origin"


class UnknownCollection(errors.InputError):
    """There is no collection, or no alias, of this name."""

    code = "unknown_collection"


class CollectionTaken(errors.InputError):
    """The name is that of something else already."""

    code = "collection_exists"


class CollectionInUse(errors.InputError):
    """The collection cannot be taken away now."""

    code = "collection_in_use"


class EncoderNotServed(errors.InputError):
    """The collection is, or is to be, of an encoder that this server does not run."""

    code = "encoder_not_served"


# The most specific class of an error's MRO that stands here decides.
STATUS: Final[Mapping[type[errors.MmseekError], int]] = {
    errors.MmseekError: 500,
    errors.InputError: 400,
    errors.ItemError: 422,
    errors.MediaError: 422,
    errors.MediaTooLarge: 413,
    errors.UrlRefused: 422,
    errors.FetchError: 422,
    errors.EncodeError: 422,
    errors.EndpointError: 502,
    errors.ModelError: 500,
    errors.MissingExtra: 501,
    errors.CollectionLocked: 503,
    errors.StorageError: 507,
    DocumentNotFound: 404,
    ServerBusy: 429,
    ServerStopping: 503,
    WorkerLost: 503,
    DeadlineExceeded: 504,
    ClientGone: 499,
    NotOffered: 501,
    UnknownModel: 404,
    UnknownCollection: 404,
    UnknownJob: 404,
    JobState: 409,
    InputGone: 409,
    CrossOrigin: 403,
    CollectionTaken: 409,
    CollectionInUse: 409,
    EncoderNotServed: 409,
}

# What a client is told of faults of the server; the log has the whole sentence.
_PUBLIC: Final[Mapping[type[errors.MmseekError], str]] = {
    errors.MmseekError: "the server failed to answer",
    errors.EndpointError: "the chat endpoint that this server asks fails or does not answer: try again later",
    errors.MissingExtra: "the server lacks an optional part that this request needs",
    errors.CollectionLocked: "another process is writing to the collection; try again later",
    errors.StorageError: "the server's disk is full or failing; what was acknowledged before is safe",
    ServerStopping: "the server is stopping: send this to another one, or again in a moment",
    WorkerLost: "the model stopped while it had this request and is being restarted: try again in a moment",
    DeadlineExceeded: "the request waited longer than its deadline allows: try again when the server is less busy",
}

_CODES: Final = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_too_slow",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "bad_request",
    429: "busy",
}
_MESSAGES: Final = {
    404: "there is nothing at this address; /openapi.json lists what there is",
    405: "this address does not take this method; /openapi.json lists what it takes",
}


def status_of(error: errors.MmseekError) -> int:
    """The HTTP status of an error."""
    return _nearest(STATUS, error)


def public_sentence(error: errors.MmseekError) -> str:
    """What a client may read of an error."""
    return str(error) if status_of(error) < 500 or isinstance(error, NotOffered) else _nearest(_PUBLIC, error)


def error_body(code: str, message: str) -> dict[str, Any]:
    """The one shape of every error. Halves of surrogate pairs, which UTF-8 cannot say, are escaped."""
    return {"error": {"code": code, "message": message.encode("utf-8", "backslashreplace").decode()}}


def error_answer(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as an answer."""
    return JSONResponse(error_body(code, message), status, headers=headers)


def unexpected_answer(request_id: str) -> JSONResponse:
    """What a client is told of a bug: nothing but where the operator finds it."""
    return error_answer(
        500, "internal_error", f"something went wrong in the server; its log says what, under request {request_id}"
    )


def install(app: FastAPI) -> None:
    """Answer every error of the app in the one shape."""
    app.add_exception_handler(errors.MmseekError, _on_mmseek_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)


class PublicError(NamedTuple):
    """What a client is told of an error."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] | None = None


def public_error(error: errors.MmseekError, request_id: str) -> PublicError:
    """The error as a client is told of it; of faults of the server the log has the rest."""
    status = status_of(error)
    if status < 500:
        again = {"Retry-After": str(error.retry_after)} if isinstance(error, ServerBusy) else None
        return PublicError(status, error_body(error.code, str(error)), again)
    if isinstance(error, NotOffered):
        return PublicError(status, error_body(error.code, str(error)))
    _log.error("request_failed", request_id=request_id, code=error.code, exc_info=error)
    headers = {"Retry-After": "1"} if status == 503 else None
    body = error_body(error.code, f"{_nearest(_PUBLIC, error)} (request {request_id})")
    return PublicError(status, body, headers)


async def _on_mmseek_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.MmseekError)
    status, body, headers = public_error(error, request.state.request_id)
    return JSONResponse(body, status, headers=headers)


async def _on_invalid_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return error_answer(400, "bad_json", f"the body is no JSON: {first['ctx']['error']}")
    place = ".".join(str(step) for step in first["loc"][1:]) or "the request"
    return error_answer(422, "bad_request", f"{place[:200]}: {first['msg']}")


async def _on_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return answer_of_http_error(error)


def answer_of_http_error(error: HTTPException) -> JSONResponse:
    """What the framework and the limits refuse, in the one shape."""
    status = error.status_code
    code = _CODES.get(status) or HTTPStatus(status).name.lower()
    return error_answer(status, code, _MESSAGES.get(status) or str(error.detail), error.headers)


def _nearest(table: Mapping[type[errors.MmseekError], T], error: errors.MmseekError) -> T:
    return next(found for kind in type(error).__mro__ if (found := table.get(kind)) is not None)
