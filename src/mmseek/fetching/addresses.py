"""Which addresses are fetched: http(s) URLs of hosts whose every IP address belongs to the public internet."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from mmseek.errors import UrlRefused

if TYPE_CHECKING:
    import httpx

__all__ = ["IpAddress", "check_url", "is_public", "is_url", "resolve", "shown"]

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_SHOWN: Final = 120
_LONGEST: Final = 4096
# NAT64 (RFC 6052), by which networks of IPv6 alone reach IPv4: as public as the address inside.
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
# Not public either, and not known as such to every Python: local NAT64, Teredo, 6to4 (which carry an IPv4 address),
# documentation, segment routing, site-local, discard-only. IPv4-mapped ones are reserved to every Python.
_CLOSED: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        *(
            "64:ff9b:1::/48",
            "2001::/23",
            "2002::/16",
            "2001:db8::/32",
            "3fff::/20",
            "5f00::/16",
            "fec0::/10",
            "100::/64",
        ),
        *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15"),
    )
)


def is_url(source: object) -> bool:
    """Whether this is written as an http(s) URL."""
    return isinstance(source, str) and source[:8].lower().startswith(("http://", "https://"))


def is_public(address: IpAddress) -> bool:
    """Whether an address is one of the public internet, and what it carries inside too.

    Private, loopback, link-local (where clouds keep their secrets), shared, multicast and reserved ones are not.
    """
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    return not any(address in network for network in _CLOSED)


def resolve(host: str, port: int) -> Sequence[str]:
    """The IP addresses of a host, as this machine knows them.

    Raises:
        OSError: there is none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in found))


def check_url(address: str, hosts: Sequence[str] = ()) -> httpx.URL:
    """The parts of a URL, which is http(s), names a host, and holds no name or password.

    Args:
        address: the URL.
        hosts: if any, the host must be one of these, or below one that begins with a dot.

    Raises:
        UrlRefused: says which of these it is not.
    """
    import httpx

    try:
        if len(address) > _LONGEST or not address.isprintable() or " " in address:
            raise UrlRefused(f"{shown(address)} is not a usable URL: write it without blanks, in {_LONGEST} letters")
        url = httpx.URL(address)
        host = url.raw_host.decode("ascii").lower().rstrip(".")
        port = url.port
    except (httpx.InvalidURL, ValueError) as error:
        raise UrlRefused(f"{shown(address)} is not a usable URL: check how it is written") from error
    if url.scheme not in ("http", "https"):
        raise UrlRefused(f"{shown(address)} is no http(s) address: nothing else is fetched")
    if not host or (port is not None and not 0 < port < 65536):
        raise UrlRefused(f"{shown(address)} names no host that can be asked: check how it is written")
    if url.userinfo:
        raise UrlRefused(f"{shown(address)} holds a name or a password, which are not sent: leave them out")
    if hosts and not any(_is_of(host, allowed.lower().rstrip(".")) for allowed in hosts):
        raise UrlRefused(f"{shown(address)} is of a host that is not among those allowed: add {host} to them")
    return url


def _is_of(host: str, allowed: str) -> bool:
    return host == allowed or (allowed.startswith(".") and (host.endswith(allowed) or host == allowed[1:]))


def shown(address: str) -> str:
    """A URL for messages: printable, not endless, and without what may be secret in it (name, password, query)."""
    scheme, mark, rest = address.partition("://")
    place = rest.replace("?", "#", 1).partition("#")
    host, slash, path = place[0].partition("/")
    clean = f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}" if mark else address.partition("?")[0]
    clean += "?..." if mark and "?" in rest else ""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in clean)
    return clean if len(clean) <= _SHOWN else f"{clean[:_SHOWN]}..."
