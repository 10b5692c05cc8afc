"""What a chat endpoint sends, read: refusals, server-sent events, and whole answers. Nothing here speaks to anyone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mmseek._network import PASSING, retry_after
from mmseek.errors import EndpointError

if TYPE_CHECKING:
    import httpx

__all__ = [
    "DONE",
    "PassingFailure",
    "Reply",
    "broke_off",
    "is_streamed",
    "piece_of",
    "refused",
    "reply_of",
    "unreachable",
    "whole_of",
]

# OpenAI's own client asks again after these too.
_TRY_AGAIN: Final = PASSING | {409, 500}
_SHOWN: Final = 200
_MAX_LINE: Final = 2**20
_COUNTS: Final = ("prompt_tokens", "completion_tokens")
DONE: Final = object()


class PassingFailure(Exception):
    """A failure that may be gone at the next try. Carries what to raise if it is not, and the seconds it asks for."""

    def __init__(self, error: EndpointError, wait: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer and what the endpoint says of it.

    Args:
        text: the answer; empty if there is none.
        finish: why it ended: `stop`, `length`, `content_filter`; empty if the endpoint does not say.
        refusal: what the model says in place of an answer that it will not give.
        prompt_tokens, completion_tokens: as the endpoint counts; None if it does not.
    """

    text: str
    finish: str = ""
    refusal: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def unreachable(url: str, error: httpx.HTTPError) -> PassingFailure:
    """No answer came."""
    return PassingFailure(
        EndpointError(f"{url} cannot be reached ({type(error).__name__}): is it running, and is this its URL?")
    )


def broke_off(url: str, error: httpx.HTTPError) -> EndpointError:
    """An answer began and did not end."""
    return EndpointError(f"{url} broke off its answer ({type(error).__name__}): ask again")


def refused(url: str, response: httpx.Response, body: bytes, key: str | None) -> Exception:
    """The error of an answer that is no success: one that may pass, or the last word."""
    error = EndpointError(
        f"{url} answers with status {response.status_code}{_reason(body, key)}: see to that and ask again"
    )
    if response.status_code in _TRY_AGAIN:
        return PassingFailure(error, retry_after(response.headers.get("retry-after")))
    return error


def is_streamed(response: httpx.Response) -> bool:
    """Whether the answer comes as events; some endpoints send it whole whatever they are asked."""
    return "text/event-stream" in response.headers.get("content-type", "text/event-stream")


def piece_of(line: str) -> str | object:
    """The words of one line of an event stream, empty for any other line; `DONE` at its end.

    Raises:
        EndpointError: it is no chat completion, or says that something failed.
    """
    if not line.startswith("data:"):
        return ""
    data = line[5:].strip()
    return DONE if data == "[DONE]" else _text(data[:_MAX_LINE].encode(), "delta")


def whole_of(body: bytes) -> str:
    """The words of an answer that came whole; errors as in `piece_of`."""
    return _text(body, "message")


def reply_of(data: bytes) -> Reply:
    """A whole answer with what the endpoint says of it; errors as in `piece_of`."""
    text = _text(data, "message")
    found = json.loads(data)
    choice = found["choices"][0] if found["choices"] else {}
    message, usage = choice.get("message") or {}, found.get("usage")
    counts = [(usage or {}).get(key) if isinstance(usage, dict | None) else None for key in _COUNTS]
    asked, answered = (each if isinstance(each, int) and each >= 0 else None for each in counts)
    return Reply(text, str(choice.get("finish_reason") or ""), str(message.get("refusal") or ""), asked, answered)


def _reason(body: bytes, key: str | None) -> str:
    """What a refusal says of itself, on one line, without the key."""
    try:
        found = json.loads(body)
        error = found.get("error", found)
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError, RecursionError):
        text = body[: 4 * _SHOWN].decode("utf-8", "replace")
    text = " ".join(text.replace(key, "***").split() if key else text.split())
    return f" ({text[:_SHOWN]})" if text else ""


def _text(data: bytes, part: str) -> str:
    try:
        found = json.loads(data)
        if "error" in found:
            raise EndpointError(f"the chat endpoint breaks off with an error: {str(found['error'])[:_SHOWN]}")
        choices = found["choices"]
        return str((choices[0].get(part) or {}).get("content") or "") if choices else ""
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EndpointError(
            "the chat endpoint sends something else than a chat completion: is this its URL?"
        ) from error
