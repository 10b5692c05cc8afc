"""Adds to the description that the framework makes: examples, errors, and the header of idempotent requests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from mmseek.api.server.description.codes import CODES
from mmseek.api.server.description.examples import EXAMPLES
from mmseek.api.server.errors import error_body
from mmseek.api.server.idempotency import MOST_KEY
from mmseek.api.server.security.gate import OPEN, needed_scope

if TYPE_CHECKING:
    from fastapi import FastAPI

_NAMED: Final = re.compile(r"^/v1/collections/\{collection\}")
_ERROR: Final = {"$ref": "#/components/schemas/ErrorAnswer"}
_SENTENCES: Final[Mapping[str, tuple[int, str, str]]] = {
    "BadInput": (400, "bad_input", "k is 5000, and 1000 is the most: ask for less"),
    "Unauthorized": (401, "unauthorized", "this needs an API key: send it as Authorization: Bearer KEY"),
    "Forbidden": (403, "forbidden", "this needs a key of scope write, and yours has read"),
    "NotFound": (404, "not_found", "there is no document 'n9'"),
    "Conflict": (409, "collection_exists", "the name 'photos' is taken: choose another one"),
    "TooLarge": (413, "body_too_large", "the body has more than the 134217728 bytes that are taken: send less"),
    "BadRequest": (422, "bad_request", "k: Input should be greater than or equal to 1"),
    "Busy": (429, "busy", "256 requests are waiting already: try again in 1 s"),
    "Fault": (500, "internal_error", "something went wrong in the server; its log says what, under request 4be0"),
    "NotOffered": (501, "not_offered", "this server has no reranker: start it with --rerank SPEC"),
    "Unavailable": (503, "stopping", "the server is stopping: send this to another one, or again in a moment"),
    "TooLate": (504, "deadline_exceeded", "the request waited longer than its deadline allows"),
    "DiskFull": (507, "storage_error", "the server's disk is full or failing; what was acknowledged before is safe"),
}
_ALWAYS: Final = ("Unauthorized", "Forbidden", "NotFound", "BadRequest", "Busy", "Fault", "Unavailable", "TooLate")
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "sent again with the same request, that is answered as before and done once",
    "schema": {"type": "string", "minLength": 1, "maxLength": MOST_KEY, "pattern": "^[ -~]+$"},
}


def describe(app: FastAPI) -> None:
    """Let the application describe itself whole; once all of its routes are there."""
    plain = app.openapi

    def whole() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(plain())
        return app.openapi_schema

    app.openapi = whole  # type: ignore[method-assign]


def _completed(described: dict[str, Any]) -> dict[str, Any]:
    components = described.setdefault("components", {})
    components["responses"] = {name: _error(*told) for name, told in _SENTENCES.items()}
    # Those of the framework, in another shape than errors have here.
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    detail = components.get("schemas", {}).get("ErrorDetail", {}).get("properties", {}).get("code")
    if detail is not None:
        detail["description"] = "one of " + ", ".join(CODES)
    for method, path, operation in operations(described):
        _complete(method, path, operation)
    return described


def operations(described: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every method (in capitals), address and operation of a description."""
    for path, found in described["paths"].items():
        for method, operation in found.items():
            yield method.upper(), path, operation


def plain_name(method: str, path: str) -> str:
    """The operation's name among the examples: those of a named collection are those of the default one."""
    below = _NAMED.sub("/v1", path)
    return f"{method} {below}"


def _complete(method: str, path: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    for status in [status for status in answers if not status.startswith(("2", "3")) and path not in OPEN]:
        del answers[status]
    if path not in OPEN:
        names = [*_ALWAYS, *(("NotOffered", "BadInput") if method != "GET" or "{" in path else ("BadInput",))]
        if method != "GET":
            names += ["Conflict", "TooLarge", "DiskFull"]
        for name in sorted(names, key=lambda name: _SENTENCES[name][0]):
            answers[str(_SENTENCES[name][0])] = {"$ref": f"#/components/responses/{name}"}
    if method != "GET" and needed_scope(method, path) != "read":
        operation.setdefault("parameters", []).append(_KEY)
    example = EXAMPLES.get(plain_name(method, path))
    if example is None:
        return
    _give(operation.get("requestBody", {}).get("content", {}), example.body)
    for status, answer in answers.items():
        if status.startswith("2"):
            _give(answer.get("content", {}), example.answer)


def _give(content: dict[str, Any], value: Any) -> None:
    """An example for the first kind of content, unless it has some."""
    kind = next(iter(content), None)
    if kind is not None and value is not None and "examples" not in content[kind]:
        content[kind]["example"] = value


def _error(status: int, code: str, message: str) -> dict[str, Any]:
    same = ", ".join(name for name, its in CODES.items() if its == status)
    return {
        "description": f"codes: {same}",
        "content": {"application/json": {"schema": _ERROR, "example": error_body(code, message)}},
    }
