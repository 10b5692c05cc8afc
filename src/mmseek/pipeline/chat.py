"""A chat endpoint that speaks as OpenAI's does (vLLM, llama.cpp, Ollama, hosted ones), read as it answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mmseek._network import is_loopback, key_in
from mmseek.config import settings
from mmseek.errors import ConfigError
from mmseek.pipeline.chat_answers import (
    DONE,
    PassingFailure,
    broke_off,
    is_streamed,
    piece_of,
    refused,
    unreachable,
    whole_of,
)

if TYPE_CHECKING:
    import httpx
    import tenacity

__all__ = ["Chat", "Message", "read_key"]

Message = dict[str, Any]

_LONGEST_WAIT: Final = 20.0


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

        with httpx.Client(timeout=self.timeout, follow_redirects=False) as client:
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

        async with httpx.AsyncClient(timeout=self.timeout, follow_redirects=False) as client:
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

    def complete(self, messages: Sequence[Message]) -> str:
        """The whole answer; errors as in `stream`."""
        return "".join(self.stream(messages))

    async def acomplete(self, messages: Sequence[Message]) -> str:
        """The whole answer; errors as in `stream`."""
        return "".join([piece async for piece in self.astream(messages)])

    def _retrying(self) -> dict[str, Any]:
        import tenacity

        doubled = tenacity.wait_exponential(multiplier=self.wait, max=_LONGEST_WAIT)

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            asked = error.wait if isinstance(error, PassingFailure) else None
            return doubled(state) if asked is None else min(asked, _LONGEST_WAIT)

        return {
            "retry": tenacity.retry_if_exception_type(PassingFailure),
            "stop": tenacity.stop_after_attempt(self.tries),
            "wait": wait,
            "reraise": True,
        }

    def _request(self, client: httpx.Client | httpx.AsyncClient, messages: Sequence[Message]) -> httpx.Request:
        url = self.url.rstrip("/")
        url = url if url.endswith("/chat/completions") else f"{url}/chat/completions"
        body = {
            "model": self.model,
            "messages": list(messages),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "stream": True,
        }
        headers = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return client.build_request("POST", url, json=body, headers=headers)

    def _begun(self, client: httpx.Client, messages: Sequence[Message]) -> httpx.Response:
        """The response, of which nothing but the status has been read."""
        import httpx

        try:
            response = client.send(self._request(client, messages), stream=True)
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


def read_key(file: Path | None) -> str | None:
    """The key in a file, by default the one that `MMSEEK_LLM_API_KEY_FILE` names; None if there is none.

    Raises:
        ConfigError: the file cannot be read or holds no key.
    """
    file = file or settings().llm_api_key_file
    return None if file is None else key_in(file, "the key's file")
