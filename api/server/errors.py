"""Errors as answers: one JSON shape, one map from error class to status, and nothing of the inside."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mmseek import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

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
}

# What a client is told of faults of the server; the log has the whole sentence.
_PUBLIC: Final[Mapping[type[errors.MmseekError], str]] = {
    errors.MmseekError: "the server failed to answer",
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
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "bad_request",
}
_MESSAGES: Final = {
    404: "there is nothing at this address; /openapi.json lists what there is",
    405: "this address does not take this method; /openapi.json lists what it takes",
}


def status_of(error: errors.MmseekError) -> int:
    """The HTTP status of an error."""
    return _nearest(STATUS, error)


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


async def _on_mmseek_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.MmseekError)
    status = status_of(error)
    if status < 500:
        again = {"Retry-After": str(error.retry_after)} if isinstance(error, ServerBusy) else None
        return error_answer(status, error.code, str(error), again)
    if isinstance(error, NotOffered):
        return error_answer(status, error.code, str(error))
    request_id = request.state.request_id
    _log.error("request_failed", request_id=request_id, code=error.code, exc_info=error)
    headers = {"Retry-After": "1"} if status == 503 else None
    return error_answer(status, error.code, f"{_nearest(_PUBLIC, error)} (request {request_id})", headers)


async def _on_invalid_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return error_answer(400, "bad_json", f"the body is no JSON: {first['ctx']['error']}")
    place = ".".join(str(step) for step in first["loc"][1:]) or "the request"
    return error_answer(422, "bad_request", f"{place[:200]}: {first['msg']}")


async def _on_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = error.status_code
    code = _CODES.get(status) or HTTPStatus(status).name.lower()
    return error_answer(status, code, _MESSAGES.get(status) or str(error.detail), error.headers)


def _nearest(table: Mapping[type[errors.MmseekError], T], error: errors.MmseekError) -> T:
    return next(found for kind in type(error).__mro__ if (found := table.get(kind)) is not None)
