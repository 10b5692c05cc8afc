"""A chat endpoint that speaks as OpenAI's does (vLLM, llama.cpp, Ollama, hosted ones), read as it answers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mmseek._network import is_loopback, key_in
from mmseek.config import settings
from mmseek.errors import ConfigError, EndpointError
from mmseek.pipeline.chat_answers import (
    DONE,
    PassingFailure,
    Reply,
    broke_off,
    is_streamed,
    piece_of,
    refused,
    reply_of,
    unreachable,
    whole_of,
)

if TYPE_CHECKING:
    import ssl

    import httpx
    import tenacity

__all__ = ["Chat", "Message", "Reply", "read_key"]

Message = dict[str, Any]

_LONGEST_WAIT: Final = 20.0
# What an endpoint itself may ask us to wait, in seconds.
_LONGEST_ASKED: Final = 60.0
_MAX_ANSWER: Final = 2**24


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
        if self.api_key and link.scheme == "http" and not is_loopback(link.hostname):
            raise ConfigError(
                f"{self.url} is not encrypted, and the key would be sent for all to read: write https://, "
                "or give no key"
            )

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """The answer in pieces, as they come. Only what failed before the first piece is tried again.

        Raises:
            EndpointError: the endpoint cannot be reached, refuses, or breaks off.
        """
        import httpx
        import tenacity

        with httpx.Client(**self._options()) as client:
            try:
                again = tenacity.Retrying(**self._retrying())
                response: httpx.Response = again(self._begun, client, messages)
            except PassingFailure as failure:
                raise failure.error from failure.__cause__
            try:
                if not is_streamed(response):
                    yield whole_of(response.read())
                    return
                for line in response.iter_lines():
                    if (piece := piece_of(line)) is DONE:
                        return
                    if piece:
                        yield str(piece)
            except httpx.HTTPError as error:
                raise broke_off(self.url, error) from error
            finally:
                response.close()

    async def astream(self, messages: Sequence[Message]) -> AsyncGenerator[str, None]:
        """As `stream`. Where the task that reads it is cancelled, the connection is closed at once.

        Raises:
            EndpointError: as in `stream`.
        """
        import httpx
        import tenacity

        async with httpx.AsyncClient(**self._options()) as client:
            try:
                response: httpx.Response = await tenacity.AsyncRetrying(**self._retrying())(
                    self._abegun, client, messages
                )
            except PassingFailure as failure:
                raise failure.error from failure.__cause__
            try:
                if not is_streamed(response):
                    yield whole_of(await response.aread())
                    return
                async for line in response.aiter_lines():
                    if (piece := piece_of(line)) is DONE:
                        return
                    if piece:
                        yield str(piece)
            except httpx.HTTPError as error:
                raise broke_off(self.url, error) from error
            finally:
                await response.aclose()

    def ask(self, messages: Sequence[Message], before: Callable[[], None] | None = None) -> Reply:
        """The whole answer in one piece. What breaks off, or drips on for longer than `timeout`, is tried again too.

        Args:
            messages: the conversation.
            before: called before every try; what it raises goes through.

        Raises:
            EndpointError: as in `stream`.
        """
        import httpx
        import tenacity

        with httpx.Client(**self._options()) as client:
            try:
                again = tenacity.Retrying(**self._retrying())
                found: Reply = again(self._asked, client, messages, before)
            except PassingFailure as failure:
                raise failure.error from failure.__cause__
        return found

    def complete(self, messages: Sequence[Message]) -> str:
        """The whole answer; errors as in `stream`."""
        return "".join(self.stream(messages))

    async def acomplete(self, messages: Sequence[Message]) -> str:
        """The whole answer; errors as in `stream`."""
        return "".join([piece async for piece in self.astream(messages)])

    def _options(self) -> dict[str, Any]:
        return {"timeout": self.timeout, "follow_redirects": False, "verify": _certificates()}

    def _retrying(self) -> dict[str, Any]:
        import tenacity

        doubled = tenacity.wait_exponential(multiplier=self.wait, max=_LONGEST_WAIT)

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            asked = error.wait if isinstance(error, PassingFailure) else None
            return max(doubled(state), min(asked or 0.0, _LONGEST_ASKED))

        return {
            "retry": tenacity.retry_if_exception_type(PassingFailure),
            "stop": tenacity.stop_after_attempt(self.tries),
            "wait": wait,
            "reraise": True,
        }

    def _request(
        self, client: httpx.Client | httpx.AsyncClient, messages: Sequence[Message], *, stream: bool = True
    ) -> httpx.Request:
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
        return client.build_request("POST", url, json=body, headers=headers)

    def _asked(self, client: httpx.Client, messages: Sequence[Message], before: Callable[[], None] | None) -> Reply:
        import httpx

        if before is not None:
            before()
        response = self._begun(client, messages, stream=False)
        body, until = bytearray(), time.monotonic() + self.timeout
        try:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > _MAX_ANSWER or time.monotonic() > until:
                    raise PassingFailure(EndpointError(f"{self.url} does not come to an end of its answer: ask again"))
        except httpx.HTTPError as error:
            raise PassingFailure(broke_off(self.url, error)) from error
        finally:
            response.close()
        return reply_of(bytes(body))

    def _begun(self, client: httpx.Client, messages: Sequence[Message], *, stream: bool = True) -> httpx.Response:
        """The response, of which nothing but the status has been read."""
        import httpx

        try:
            response = client.send(self._request(client, messages, stream=stream), stream=True)
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        if response.status_code == 200:
            return response
        try:
            body = response.read()
        except httpx.HTTPError:
            body = b""
        finally:
            response.close()
        raise refused(self.url, response, body, self.api_key)

    async def _abegun(self, client: httpx.AsyncClient, messages: Sequence[Message]) -> httpx.Response:
        """As `_begun`."""
        import httpx

        try:
            response = await client.send(self._request(client, messages), stream=True)
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        if response.status_code == 200:
            return response
        try:
            body = await response.aread()
        except httpx.HTTPError:
            body = b""
        finally:
            await response.aclose()
        raise refused(self.url, response, body, self.api_key)


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: it takes longer than many a request."""
    import httpx

    return httpx.create_ssl_context()


def read_key(file: Path | None) -> str | None:
    """The key in a file, by default the one that `MMSEEK_LLM_API_KEY_FILE` names; None if there is none.

    Raises:
        ConfigError: the file cannot be read or holds no key.
    """
    file = file or settings().llm_api_key_file
    return None if file is None else key_in(file, "the key's file")
