"""Answers that are errors, as the exceptions of `mmseek.errors`: by their code, which is stable."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from mmseek import errors

if TYPE_CHECKING:
    import httpx


class NotFound(errors.InputError):
    """There is no such document or picture."""

    code = "not_found"


class KeyRefused(errors.InputError):
    """The server wants a key, or this one may not do that."""

    code = "unauthorized"


class Busy(errors.MmseekError):
    """The server has too much to do, or is stopping; the same request may pass later."""

    code = "busy"


class Unreachable(errors.MmseekError):
    """No answer came: the server is not there, or took too long."""

    code = "unreachable"


class BadAnswer(errors.MmseekError):
    """What came back is no answer of this service."""

    code = "bad_answer"


# For codes that name no class, and for answers of whatever stands between here and the server.
_BY_STATUS: Final[dict[int, type[errors.MmseekError]]] = {
    401: KeyRefused,
    403: KeyRefused,
    404: NotFound,
    408: Unreachable,
    413: errors.MediaTooLarge,
    429: Busy,
    502: Unreachable,
    503: Busy,
    504: Unreachable,
}


def failure(answer: httpx.Response) -> errors.MmseekError:
    """The exception of an answer that is no success. A note says its status, code and request."""
    code, message = _told(answer)
    error = _class_of(code, answer.status_code)(message)
    error.add_note(
        f"HTTP {answer.status_code}, code {code}, request {answer.headers.get('x-request-id', 'without an id')}"
    )
    return error


def failure_of(code: str, message: str) -> errors.MmseekError:
    """The exception of an error that came after the status."""
    error = _class_of(code, 500)(message)
    error.add_note(f"code {code}")
    return error


def _told(answer: httpx.Response) -> tuple[str, str]:
    try:
        told = answer.json()["error"]
        return str(told["code"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        return "none", f"{answer.request.url} answered {answer.status_code} and said nothing that can be read"


def _class_of(code: str, status: int) -> type[errors.MmseekError]:
    found = _by_code().get(code) or _BY_STATUS.get(status)
    return found or (errors.InputError if status < 500 else errors.MmseekError)


@cache
def _by_code() -> dict[str, type[errors.MmseekError]]:
    """The classes that a sentence alone makes; the code of any other stands for its nearest base of that kind."""
    own = (NotFound, KeyRefused, Busy, Unreachable, BadAnswer)
    listed = [getattr(errors, name) for name in errors.__all__]
    table: dict[str, type[errors.MmseekError]] = {}
    for kind in [*listed, *own]:
        table[kind.code] = next(_made_of_a_sentence(kind))
    return table


def _made_of_a_sentence(kind: type[errors.MmseekError]) -> Iterator[type[errors.MmseekError]]:
    for base in kind.__mro__:
        if not issubclass(base, errors.MmseekError):
            return
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        required = [each for each in parameters if each.default is each.empty and each.kind is not each.VAR_KEYWORD]
        if len(required) <= 1 and all(each.kind is not each.KEYWORD_ONLY for each in required):
            yield base
