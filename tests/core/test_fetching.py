"""The fetcher: what it never asks, how far it goes, and what it says."""

from __future__ import annotations

import gzip
import ipaddress
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek.errors import FetchError, InputError, UrlRefused
from mmseek.fetching import Fetcher, FetchRules, UrlStore, is_public, is_url, shown
from mmseek.fetching.addresses import check_url

QUICK = FetchRules(wait=0.001)


def local(rules: FetchRules = QUICK, **options: Any) -> Fetcher:
    """A fetcher that takes every host for this machine, and this machine for public."""
    options.setdefault("resolver", lambda host, port: ["127.0.0.1"])
    options.setdefault("allowed", lambda address: True)
    return Fetcher(rules, **options)


def sentence(error: pytest.ExceptionInfo[InputError]) -> str:
    found = str(error.value)
    assert "\n" not in found
    assert "secret" not in found
    return found


CLOSED = [
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
    *("100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.9", "224.0.0.1", "239.1.1.1"),
    *("240.0.0.1", "255.255.255.255", "192.88.99.1"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "2001::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::"),
    *("2002:a9fe:a9fe::1", "::ffff:0:127.0.0.1", "3fff::1", "5f00::1", "100::1"),
]


@pytest.mark.parametrize("address", CLOSED)
def test_addresses_that_are_never_asked(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1", "64:ff9b::8.8.8.8"]
)
def test_addresses_of_the_internet(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


PRIVATE = [ipaddress.ip_network(each) for each in ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16")]


@given(st.ip_addresses(v=4))
def test_no_way_of_writing_a_closed_address_is_public(address: ipaddress.IPv4Address) -> None:
    """Whatever carries an IPv4 address inside is as open as that, and never more."""
    number = int(address)
    inside = [
        ipaddress.IPv6Address((0xFFFF << 32) + number),
        ipaddress.IPv6Address(number),
        ipaddress.IPv6Address((0x64FF9B << 96) + number),
        ipaddress.IPv6Address((0x2002 << 112) + (number << 80)),
    ]
    if any(address in network for network in PRIVATE) or address.is_multicast:
        assert not is_public(address)
    if not is_public(address):
        assert not any(map(is_public, inside))


@given(st.ip_addresses(v=6))
def test_an_open_address_is_nothing_else(address: ipaddress.IPv6Address) -> None:
    if is_public(address):
        assert not any((address.is_private, address.is_loopback, address.is_link_local, address.is_multicast))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
def test_this_machine_is_refused_however_it_is_written(web: Any, host: str) -> None:
    web.pages["/"] = (200, {}, b"inside")

    with pytest.raises(InputError):
        Fetcher(FetchRules(tries=1)).fetch(web.url("/", host))
    assert web.asked == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://a.example/x", "is no http(s) address"),
        ("file:///etc/passwd", "is no http(s) address"),
        ("http:///x", "names no host"),
        ("http://a b/", "is not a usable URL"),
        ("http://a.example/\n", "is not a usable URL"),
        ("http://[::1/", "is not a usable URL"),
        ("http://a.example:99999/", "names no host that can be asked"),
        ("http://me:secret@a.example/", "holds a name or a password"),
        ("http://" + "a" * 5000, "is not a usable URL"),
    ],
)
def test_urls_that_are_none(url: str, reason: str) -> None:
    with pytest.raises(UrlRefused) as error:
        local().fetch(url)
    assert reason in sentence(error)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_as_a_url(start: str, rest: str) -> None:
    for address in (start, f"http://{start}/{rest}", f"https://{start}@{rest}"):
        try:
            url = check_url(address)
        except UrlRefused as error:
            assert str(error).isprintable()  # noqa: PT017
        else:
            assert url.scheme in ("http", "https")
            assert url.raw_host
            assert not url.userinfo


@given(st.text("secret0123456789", min_size=9), st.sampled_from(["", "/a", "/a/b.png"]))
def test_what_may_be_secret_is_not_shown(secret: str, path: str) -> None:
    for url in (
        f"https://u:{secret}@h.example{path}",
        f"https://h.example{path}?k={secret}",
        f"https://h{path}#{secret}",
    ):
        assert secret not in shown(url)


def test_a_page(web: Any) -> None:
    web.pages["/a.png"] = (200, {"Content-Type": "Image/PNG; x=y"}, b"bytes")

    found = local().fetch(web.url("/a.png?token=1"))

    assert (found.data, found.content_type, found.fresh) == (b"bytes", "image/png", True)
    assert found.url == web.url("/a.png?token=1")
    ((path, headers),) = web.asked
    assert path == "/a.png?token=1"
    assert headers["host"] == f"public.example:{web.port}"
    assert "cookie" not in headers
    assert "authorization" not in headers


def test_the_host_is_asked_for_once_and_that_address_is_taken(web: Any) -> None:
    """DNS rebinding: a name that means a public address when it is checked and this machine when it is connected to."""
    web.pages["/"] = (200, {}, b"inside")
    answers = [["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1"]]
    asked = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return answers[len(asked) - 1]

    assert local(resolver=resolver).fetch(web.url("/")).data == b"inside"
    assert asked == [("public.example", web.port)], "nobody else resolves the name again"

    with pytest.raises(UrlRefused) as error:
        Fetcher(QUICK, resolver=lambda host, port: ["93.184.216.34", "127.0.0.1"]).fetch(web.url("/"))
    assert "private or reserved address" in sentence(error)
    assert len(web.asked) == 1


def test_redirects_are_checked_one_by_one(web: Any) -> None:
    web.pages["/a"] = (302, {"Location": "/b?x=secret"}, b"")
    web.pages["/b"] = (301, {"Location": web.url("/c", "inner.example")}, b"")
    web.pages["/c"] = (200, {}, b"found")
    open_hosts = {"public.example": "127.0.0.1", "inner.example": "127.0.0.2"}

    def fetcher(inner: bool) -> Fetcher:
        return local(
            resolver=lambda host, port: [open_hosts[host] if not inner else "127.0.0.1"],
            allowed=lambda address: str(address) == "127.0.0.1",
        )

    assert fetcher(inner=True).fetch(web.url("/a")).url == web.url("/c", "inner.example")
    asked = len(web.asked)
    with pytest.raises(UrlRefused) as error:
        fetcher(inner=False).fetch(web.url("/a"))
    assert "private or reserved" in sentence(error)
    assert [path for path, _ in web.asked[asked:]] == ["/a", "/b?x=secret"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://u:secret@public.example/", "//", "http://[::1"])
def test_redirects_to_what_is_no_address(web: Any, location: str) -> None:
    web.pages["/a"] = (302, {"Location": location}, b"")

    with pytest.raises(InputError) as error:
        local(FetchRules(tries=1)).fetch(web.url("/a"))
    sentence(error)


def test_redirects_without_end(web: Any) -> None:
    web.pages["/a"] = (302, {"Location": "/a"}, b"")

    with pytest.raises(FetchError, match="redirected more than 2 times"):
        local(FetchRules(redirects=2)).fetch(web.url("/a"))
    assert len(web.asked) == 3


def test_hosts_that_are_allowed(web: Any) -> None:
    web.pages["/a"] = (302, {"Location": web.url("/b", "cdn.other.example")}, b"")
    web.pages["/b"] = (200, {}, b"found")

    def fetch(*hosts: str) -> bytes:
        return local(FetchRules(hosts=hosts)).fetch(web.url("/a")).data

    assert fetch("public.example", ".other.example") == b"found"
    for hosts in (("other.example",), ("public.example", "other.example"), ("lic.example",)):
        with pytest.raises(UrlRefused, match="not among those allowed"):
            fetch(*hosts)


def test_too_much(web: Any) -> None:
    rules = FetchRules(max_bytes=1000)
    web.pages["/fits"] = (200, {}, b"x" * 1000)
    web.pages["/big"] = (200, {}, b"x" * 1001)
    web.pages["/quiet"] = (200, {"Content-Length": "", "Transfer-Encoding": "chunked"}, b"3e9\r\n" + b"x" * 1001)
    web.pages["/bomb"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(10**7)))
    web.pages["/flat"] = (200, {"Content-Encoding": "deflate"}, zlib.compress(bytes(10**7)))

    assert len(local(rules).fetch(web.url("/fits")).data) == 1000
    for path in ("/big", "/bomb", "/flat"):
        with pytest.raises(FetchError, match="has more than") as error:
            local(rules).fetch(web.url(path))
        sentence(error)


def test_what_is_packed(web: Any) -> None:
    web.pages["/gzip"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(b"words" * 100))
    web.pages["/broken"] = (200, {"Content-Encoding": "gzip"}, b"words")
    web.pages["/other"] = (200, {"Content-Encoding": "br"}, b"words")

    assert local().fetch(web.url("/gzip")).data == b"words" * 100
    with pytest.raises(FetchError, match="packed and damaged"):
        local().fetch(web.url("/broken"))
    with pytest.raises(FetchError, match="was not asked for"):
        local().fetch(web.url("/other"))


def test_the_first_bytes_decide_whether_the_rest_is_wanted(web: Any) -> None:
    web.pages["/a"] = (200, {}, b"<html>" + b"x" * 100_000)

    def refuse(head: bytes) -> None:
        assert head.startswith(b"<html>")
        raise FetchError("is no picture")

    with pytest.raises(FetchError, match="is no picture"):
        local().fetch(web.url("/a"), refuse)


def test_a_server_that_cannot_just_now_is_asked_again(web: Any) -> None:
    answers = iter([503, 429, 200])
    web.pages["/a"] = lambda headers: (next(answers), {}, b"at last")
    web.pages["/b"] = (404, {}, b"")
    web.pages["/c"] = (500, {}, b"secret")

    assert local().fetch(web.url("/a")).data == b"at last"
    with pytest.raises(FetchError, match="status 404"):
        local().fetch(web.url("/b"))
    with pytest.raises(FetchError) as error:
        local().fetch(web.url("/c?key=secret"))
    assert "status 500" in sentence(error)
    assert [path for path, _ in web.asked] == ["/a"] * 3 + ["/b"] + ["/c?key=secret"] * 3


def test_a_server_that_is_slow_or_away(web: Any) -> None:
    gate = threading.Event()

    def slow(headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        gate.wait(120)
        return 200, {}, b"late"

    web.pages["/slow"] = slow
    with pytest.raises(FetchError, match=r"took longer than 0\.1 s"):
        local(FetchRules(seconds=0.1, tries=1)).fetch(web.url("/slow"))
    gate.set()
    with pytest.raises(FetchError, match="cannot be fetched"):
        local().fetch("http://public.example:1/")

    def nobody(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    with pytest.raises(FetchError, match="a host without an address"):
        local(resolver=nobody).fetch(web.url("/"))


def test_what_has_not_changed_is_not_sent_again(web: Any, tmp_path: Path) -> None:
    state = {"etag": '"1"', "body": b"first"}

    def page(headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if headers.get("if-none-match") == state["etag"]:
            return 304, {}, b""
        return 200, {"ETag": str(state["etag"])}, bytes(state["body"])  # type: ignore[arg-type]

    web.pages["/a"] = page
    web.pages["/moved"] = (302, {"Location": "/a"}, b"")
    web.pages["/plain"] = (200, {}, b"without a tag")

    def fetch(path: str) -> tuple[bytes, bool]:
        found = local(store=UrlStore(tmp_path / "urls")).fetch(web.url(path))
        return found.data, found.fresh

    assert [fetch("/a"), fetch("/a")] == [(b"first", True), (b"first", False)]
    assert [fetch("/moved"), fetch("/moved")] == [(b"first", True), (b"first", False)]
    assert "if-none-match" not in next(headers for path, headers in web.asked if path == "/moved")
    state.update(etag='"2"', body=b"second")
    assert [fetch("/a"), fetch("/a")] == [(b"second", True), (b"second", False)]
    assert [fetch("/plain"), fetch("/plain")] == [(b"without a tag", True)] * 2
    for file in (tmp_path / "urls").iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert fetch("/a") == (b"second", True), "what was damaged on the disk is fetched anew"


def test_the_store_stays_small_and_never_matters(tmp_path: Path, web: Any) -> None:
    web.pages["/a"] = (200, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, b"x" * 100)
    folder = tmp_path / "urls"
    for number in range(4):
        local(store=UrlStore(folder)).fetch(web.url(f"/a?{number}"))
    assert len(list(folder.iterdir())) == 4
    UrlStore(folder, max_bytes=700)
    assert 1 <= len(list(folder.iterdir())) < 4
    (tmp_path / "file").write_text("no folder")
    assert local(store=UrlStore(tmp_path / "file")).fetch(web.url("/a")).fresh


def test_the_certificate_is_that_of_the_host_and_not_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes to the address, and TLS is told the name."""
    import httpx

    seen: list[httpx.Request] = []

    async def send(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(b"found"))

    monkeypatch.setattr(httpx.AsyncClient, "send", send)
    for ip in ("93.184.216.34", "2606:4700::1111"):
        found = Fetcher(resolver=lambda host, port, ip=ip: [ip]).fetch("https://Host.example/a?b#c")  # type: ignore[misc]
        assert found.data == b"found"
    assert [str(request.url) for request in seen] == ["https://93.184.216.34/a?b", "https://[2606:4700::1111]/a?b"]
    assert {request.extensions["sni_hostname"] for request in seen} == {"host.example"}
    assert {request.headers["host"] for request in seen} == {"host.example"}


def test_what_is_a_url() -> None:
    assert is_url("HTTPS://a")
    assert not any(map(is_url, ("a/http://b", Path("http:/a"), "file:///a", "http:/a")))
