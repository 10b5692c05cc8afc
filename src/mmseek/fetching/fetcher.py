"""Fetching one URL: its host resolved once, the connection made to that very address, every redirect checked anew."""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from mmseek.errors import FetchError, UrlRefused
from mmseek.fetching.addresses import IpAddress, check_url, is_public, resolve, shown
from mmseek.fetching.store import Stored

if TYPE_CHECKING:
    import ssl

    import httpx

    from mmseek.fetching.store import UrlStore

__all__ = ["FetchRules", "Fetched", "Fetcher"]

_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_HEAD: Final = 4096
_LONGEST_WAIT: Final = 8.0
_SILENCE: Final = 15.0  # seconds without a byte


@dataclass(frozen=True, slots=True)
class FetchRules:
    """What may be fetched.

    Args:
        hosts: if any, only from these: a host's name, or `.example.org` for all below it.
        max_bytes: of one answer, unpacked.
        seconds: for one try, from the question for the host's address to the last byte.
        redirects: how many are followed.
        tries: how often in all a URL is asked for that a server could not give just now.
        wait: seconds before the second try; they double.
    """

    hosts: tuple[str, ...] = ()
    max_bytes: int = 64 * 1024**2
    seconds: float = 60.0
    redirects: int = 5
    tries: int = 3
    wait: float = 0.5


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a URL gave.

    Args:
        data: its bytes, unpacked; never empty.
        url: where it was found in the end.
        content_type: what the server calls it, in small letters without parameters; to be believed by nobody.
        fresh: whether the bytes came now; False if the server said that they have not changed.
    """

    data: bytes
    url: str
    content_type: str
    fresh: bool = True


class _Passing(Exception):
    """A failure that may be gone at the next try. Carries what to raise if it is not."""

    def __init__(self, error: FetchError) -> None:
        super().__init__(str(error))
        self.error = error


class Fetcher:
    """Fetches URLs. Safe to use from many threads and tasks at once; no proxy and no cookie is used.

    Args:
        rules: what may be fetched.
        store: keeps what servers give validators for, so that it is not sent twice.
        resolver: gives the IP addresses of a host; for tests.
        allowed: whether an IP address may be asked; for tests.
    """

    def __init__(
        self,
        rules: FetchRules | None = None,
        *,
        store: UrlStore | None = None,
        resolver: Callable[[str, int], Sequence[str]] = resolve,
        allowed: Callable[[IpAddress], bool] = is_public,
    ) -> None:
        self.rules = rules or FetchRules()
        self._store = store
        self._resolver = resolver
        self._allowed = allowed

    def fetch(self, url: str, check: Callable[[bytes], None] = lambda _head: None) -> Fetched:
        """As `fetch_async`, for callers that may wait."""
        from anyio.from_thread import start_blocking_portal

        with start_blocking_portal() as portal:
            return portal.call(self.fetch_async, url, check)

    async def fetch_async(self, url: str, check: Callable[[bytes], None] = lambda _head: None) -> Fetched:
        """The bytes behind a URL.

        Args:
            url: of http or https.
            check: called with the first bytes; what it raises ends the fetching before the rest is read.

        Raises:
            UrlRefused: the URL, or one that it leads to, is not to be fetched.
            FetchError: the server cannot be reached, refuses, or sends too much, too slowly or nothing.
        """
        import tenacity

        again = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            stop=tenacity.stop_after_attempt(self.rules.tries),
            wait=tenacity.wait_exponential(multiplier=self.rules.wait, max=_LONGEST_WAIT),
            reraise=True,
        )
        try:
            return await again(self._once, url, check)
        except _Passing as failure:
            raise failure.error from failure.__cause__

    async def _once(self, address: str, check: Callable[[bytes], None]) -> Fetched:
        import anyio
        import httpx

        name = shown(address)
        known = self._store.get(address) if self._store is not None else None
        try:
            with anyio.fail_after(self.rules.seconds):
                # A client for each try: no connection is used for two hosts, and no cookie is kept.
                async with httpx.AsyncClient(
                    verify=self._tls, trust_env=False, follow_redirects=False, timeout=_SILENCE
                ) as client:
                    return await self._follow(client, address, known, check)
        except TimeoutError as error:
            raise _Passing(FetchError(f"{name} took longer than {self.rules.seconds:g} s: try again later")) from error
        except httpx.HTTPError as error:
            kind = type(error).__name__
            raise _Passing(FetchError(f"{name} cannot be fetched ({kind}): try again later, or save it")) from error
        except httpx.InvalidURL as error:
            raise UrlRefused(f"{name} leads to something that is no URL: save it and give its path") from error

    async def _follow(
        self, client: httpx.AsyncClient, address: str, known: Stored | None, check: Callable[[bytes], None]
    ) -> Fetched:
        url = check_url(address, self.rules.hosts)
        for _ in range(self.rules.redirects + 1):
            response = await self._ask(client, url, known if known is not None and known.url == str(url) else None)
            try:
                if response.status_code not in _MOVED:
                    return await self._answer(address, url, response, known, check)
                url = self._next(address, url, response.headers.get("location", ""))
            finally:
                await response.aclose()
        raise FetchError(
            f"{shown(address)} is redirected more than {self.rules.redirects} times: give its last address"
        )

    def _next(self, address: str, url: httpx.URL, location: str) -> httpx.URL:
        """Where a redirect leads.

        Raises:
            UrlRefused: to where nothing is fetched from, or from https to http.
        """
        try:
            found = check_url(str(url.join(location)), self.rules.hosts)
        except UrlRefused as error:
            raise UrlRefused(f"{shown(address)} is redirected to where it must not lead: {error}") from error
        if url.scheme == "https" and found.scheme == "http":
            raise UrlRefused(f"{shown(address)} is redirected from https to http, which anybody could change: save it")
        return found

    async def _ask(self, client: httpx.AsyncClient, url: httpx.URL, known: Stored | None) -> httpx.Response:
        """The head of the answer of the address that was checked, whatever the host's name means a moment later."""
        ip = await self._address(url)
        headers = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": "mmseek",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        if known is not None and known.modified:
            headers["If-Modified-Since"] = known.modified
        request = client.build_request(
            "GET",
            url.copy_with(host=ip, fragment=None),
            headers=headers,
            # The certificate is to be the host's, which the URL does not name any more.
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        return await client.send(request, stream=True)

    async def _address(self, url: httpx.URL) -> str:
        """The one IP address to ask.

        Raises:
            UrlRefused: the host has one that is not public.
            _Passing: it has none.
        """
        from anyio import to_thread

        host = url.raw_host.decode("ascii")
        port = url.port or (443 if url.scheme == "https" else 80)
        name = shown(str(url))
        try:
            found = await to_thread.run_sync(self._resolver, host, port, abandon_on_cancel=True)
            addresses = [ipaddress.ip_address(each) for each in found]
        except (OSError, UnicodeError) as error:
            raise _Passing(FetchError(f"{name} is of a host without an address: check its name")) from error
        except ValueError as error:
            raise UrlRefused(
                f"{name} is of a host with an address of another kind: save it and give its path"
            ) from error
        if not addresses:
            raise _Passing(FetchError(f"{name} is of a host without an address: check its name"))
        if not all(map(self._allowed, addresses)):
            raise UrlRefused(
                f"{name} is of a private or reserved address, which is never fetched: save it and give its path"
            )
        return str(addresses[0])

    async def _answer(
        self,
        address: str,
        url: httpx.URL,
        response: httpx.Response,
        known: Stored | None,
        check: Callable[[bytes], None],
    ) -> Fetched:
        name, status = shown(address), response.status_code
        if status == 304 and known is not None and known.url == str(url):
            check(known.data[:_HEAD])
            return Fetched(known.data, known.url, known.content_type, fresh=False)
        if status != 200:
            error = FetchError(
                f"{name} is answered with status {status}: check the address, or save it and give its path"
            )
            raise _Passing(error) if status in _AGAIN else error
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        data = await self._body(name, response, check)
        tags = response.headers.get("etag", ""), response.headers.get("last-modified", "")
        if self._store is not None and any(tags):
            self._store.put(address, Stored(data, str(url), kind, *tags))
        return Fetched(data, str(url), kind)

    async def _body(self, name: str, response: httpx.Response, check: Callable[[bytes], None]) -> bytes:
        """All bytes, unpacked, never more than are allowed and a piece.

        Raises:
            FetchError: there are more, or none, or they are packed in an unknown way.
        """
        most = self.rules.max_bytes
        too_many = FetchError(
            f"{name} has more than {most // 2**20 or most / 2**20:.3g} MiB: save it and give its path"
        )
        length = response.headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise too_many
        data, checked = bytearray(), False
        async for piece in _unpacked(name, response, most):
            data += piece
            if len(data) > most:
                raise too_many
            if not checked and len(data) >= _HEAD:
                check(bytes(data[:_HEAD]))
                checked = True
        if not data:
            raise FetchError(f"{name} gives nothing at all: check the address")
        if not checked:
            check(bytes(data))
        return bytes(data)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        import httpx

        return httpx.create_ssl_context(trust_env=False)


async def _unpacked(name: str, response: httpx.Response, most: int) -> AsyncIterator[bytes]:
    """The body in pieces of at most `most` bytes and one: a bomb is never unfolded."""
    packed = response.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise FetchError(f"{name} is packed in a way that was not asked for: save it and give its path")
    unpack = zlib.decompressobj(wbits=47) if packed not in ("identity", "") else None  # gzip or zlib, as it says
    async for piece in response.aiter_raw():
        if unpack is None:
            yield piece
            continue
        try:
            yield unpack.decompress(piece, most + 1)
        except zlib.error as error:
            raise FetchError(f"{name} is packed and damaged: save it and give its path") from error
