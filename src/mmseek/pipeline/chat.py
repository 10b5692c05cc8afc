"""A chat endpoint that speaks as OpenAI's does (vLLM, llama.cpp, Ollama, hosted ones), read as it answers."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mmseek.config import settings
from mmseek.errors import ConfigError, EndpointError, MissingExtra

if TYPE_CHECKING:
    import httpx
    import tenacity

__all__ = ["Chat", "Message", "Reply", "read_key"]

Message = dict[str, Any]

_TRY_AGAIN: Final = frozenset({408, 409, 429, 500, 502, 503, 504})
_SHOWN: Final = 200
_MAX_LINE: Final = 2**20
_COUNTS: Final = ("prompt_tokens", "completion_tokens")
_MAX_ANSWER: Final = 2**24
_LONGEST_WAIT: Final = 20.0
# What an endpoint itself may ask us to wait, in seconds.
_LONGEST_ASKED: Final = 60.0


class _Passing(Exception):
    """A failure that may be gone at the next try. Carries what to raise if it is not, and how long to wait at least."""

    def __init__(self, error: EndpointError, wait: float = 0.0) -> None:
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


@dataclass(frozen=True, slots=True)
class Chat:
    """Where to ask, and how.

    Args:
        url: of the API, as `http://localhost:8000/v1`.
        model: the name that the endpoint knows it by.
        api_key: sent as a bearer token; in no message and no repr.
        max_tokens: how long an answer may be.
        temperature: 0 for the likeliest words.
        timeout: seconds without a sign of life.
        tries: how often in all a request is made that the endpoint could not take; at least 1.
        wait: seconds before the second try; they double.

    Raises:
        ConfigError: the URL is none, or the key would go over the network for all to read.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    max_tokens: int = 1024
    temperature: float = 0.0
    timeout: float = 120.0
    tries: int = 4
    wait: float = 0.5

    def __post_init__(self) -> None:
        link = urlsplit(self.url)
        if link.scheme not in ("http", "https") or not link.hostname:
            raise ConfigError(f"the chat endpoint {self.url!r} is no http(s) URL: write it as http://localhost:8000/v1")
        if self.api_key and link.scheme == "http" and not _is_loopback(link.hostname):
            raise ConfigError(
                f"{self.url} is not encrypted, and the key would be sent for all to read: write https://, "
                "or give no key"
            )

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """The answer in pieces, as they come. Only what failed before the first piece is tried again.

        Raises:
            EndpointError: the endpoint cannot be reached, refuses, or breaks off.
            MissingExtra: the libraries for it are not installed.
        """
        httpx = _library()
        with _client(self.timeout) as client:
            try:
                response = self._again()(self._begun, client, messages)
            except _Passing as failure:
                raise failure.error from failure.__cause__
            try:
                yield from self._pieces(response)
            except httpx.HTTPError as error:
                raise EndpointError(f"{self.url} broke off its answer ({type(error).__name__}): ask again") from error
            finally:
                response.close()

    def ask(self, messages: Sequence[Message], before: Callable[[], None] | None = None) -> Reply:
        """The whole answer in one piece. What breaks off, or drips on for longer than `timeout`, is tried again too.

        Args:
            messages: the conversation.
            before: called before every try; what it raises goes through.

        Raises:
            EndpointError, MissingExtra: as in `stream`.
        """
        with _client(self.timeout) as client:
            try:
                found: Reply = self._again()(self._asked, client, messages, before)
            except _Passing as failure:
                raise failure.error from failure.__cause__
        return found

    def _again(self) -> tenacity.Retrying:
        import tenacity

        grows = tenacity.wait_exponential(multiplier=self.wait, max=_LONGEST_WAIT)

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            return max(grows(state), error.wait if isinstance(error, _Passing) else 0.0)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            stop=tenacity.stop_after_attempt(self.tries),
            wait=wait,
            reraise=True,
        )

    def _asked(
        self, client: httpx.Client, messages: Sequence[Message], before: Callable[[], None] | None = None
    ) -> Reply:
        import httpx

        if before is not None:
            before()
        response = self._begun(client, messages, stream=False)
        body, until = bytearray(), time.monotonic() + self.timeout
        try:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > _MAX_ANSWER or time.monotonic() > until:
                    raise _Passing(EndpointError(f"{self.url} does not come to an end of its answer: ask again"))
        except httpx.HTTPError as error:
            reason = EndpointError(f"{self.url} broke off its answer ({type(error).__name__}): ask again")
            raise _Passing(reason) from error
        finally:
            response.close()
        return _reply(bytes(body))

    def complete(self, messages: Sequence[Message]) -> str:
        """The whole answer; errors as in `stream`."""
        return "".join(self.stream(messages))

    def _begun(self, client: httpx.Client, messages: Sequence[Message], *, stream: bool = True) -> httpx.Response:
        """The response, of which nothing but the status has been read."""
        import httpx

        url = self.url.rstrip("/")
        url = url if url.endswith("/chat/completions") else f"{url}/chat/completions"
        body = {
            "model": self.model,
            "messages": list(messages),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "stream": stream,
        }
        headers = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        try:
            response = client.send(client.build_request("POST", url, json=body, headers=headers), stream=True)
        except httpx.HTTPError as error:
            reason = EndpointError(
                f"{self.url} cannot be reached ({type(error).__name__}): is it running, and is this its URL?"
            )
            raise _Passing(reason) from error
        if response.status_code == 200:
            return response
        try:
            said = self._reason(response.read())
        except httpx.HTTPError:
            said = ""
        finally:
            response.close()
        refusal = EndpointError(
            f"{self.url} answers with status {response.status_code}{said}: see to that and ask again"
        )
        if response.status_code in _TRY_AGAIN:
            raise _Passing(refusal, _asked_to_wait(response.headers.get("retry-after", "")))
        raise refusal

    def _reason(self, body: bytes) -> str:
        """What a refusal says of itself, on one line, without the key."""
        try:
            found = json.loads(body)
            error = found.get("error", found)
            text = str(error.get("message", error) if isinstance(error, dict) else error)
        except (ValueError, AttributeError, RecursionError):
            text = body[: 4 * _SHOWN].decode("utf-8", "replace")
        text = " ".join(text.replace(self.api_key, "***").split() if self.api_key else text.split())
        return f" ({text[:_SHOWN]})" if text else ""

    def _pieces(self, response: httpx.Response) -> Iterator[str]:
        """The texts of server-sent events; a whole answer, which some endpoints send anyway, is one piece."""
        if "text/event-stream" not in response.headers.get("content-type", "text/event-stream"):
            yield _text(response.read(), "message")
            return
        for line in response.iter_lines():
            if not line.startswith("data:"):
                continue
            data = line[5:].strip()
            if data == "[DONE]":
                return
            if text := _text(data[:_MAX_LINE].encode(), "delta"):
                yield text


def _client(timeout: float) -> httpx.Client:
    """A client that follows nothing.

    Raises:
        MissingExtra: the library for it, or what tries again, is not installed.
    """
    client: httpx.Client = _library().Client(timeout=timeout, follow_redirects=False, verify=_certificates())
    return client


def _library() -> Any:
    try:
        import httpx
        import tenacity  # noqa: F401  # used where something is tried again
    except ModuleNotFoundError as error:
        raise MissingExtra("asking a chat endpoint", "ask") from error
    return httpx


@cache
def _certificates() -> Any:
    """Read once: it takes longer than many a request."""
    return _library().create_ssl_context()


def _asked_to_wait(header: str) -> float:
    """Seconds of `Retry-After`; a date, which nobody sends here, counts as nothing."""
    return min(float(header), _LONGEST_ASKED) if header.isascii() and header.isdigit() else 0.0


def _reply(data: bytes) -> Reply:
    text = _text(data, "message")
    found = json.loads(data)
    choice = found["choices"][0] if found["choices"] else {}
    message, usage = choice.get("message") or {}, found.get("usage")
    counts = [(usage or {}).get(key) if isinstance(usage, dict | None) else None for key in _COUNTS]
    asked, answered = (each if isinstance(each, int) and each >= 0 else None for each in counts)
    return Reply(text, str(choice.get("finish_reason") or ""), str(message.get("refusal") or ""), asked, answered)


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


def read_key(file: Path | None) -> str | None:
    """The key in a file, by default the one that `MMSEEK_LLM_API_KEY_FILE` names; None if there is none.

    Raises:
        ConfigError: the file cannot be read or holds no key.
    """
    file = file or settings().llm_api_key_file
    if file is None:
        return None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"the key's file {file} cannot be read: name a text file with nothing but the key") from error
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError(f"the key's file {file} holds no key of one line: name a text file with nothing but the key")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
