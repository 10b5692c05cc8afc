"""Every code that an error may have, and its status. Codes are stable: clients compare with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from mmseek import errors
from mmseek.api.server.errors import STATUS


def _of_classes() -> Iterator[tuple[str, int]]:
    """What is raised: the nearest base with a status decides, as when it is answered."""
    every: list[type[errors.MmseekError]] = [errors.MmseekError]
    for kind in every:
        every += [each for each in kind.__subclasses__() if each not in every]
    for module in ("mmseek.errors", "mmseek.api.server.errors"):  # the server's own classes come last, and count
        for kind in every:
            if kind.__module__ == module:
                yield kind.code, next(STATUS[base] for base in kind.__mro__ if base in STATUS)


# What is answered without an exception of ours: by the gate, the limits, the framework, and for bugs.
_OTHERS: Final[Mapping[str, int]] = {
    "bad_request": 422,
    "bad_json": 400,
    "bad_idempotency_key": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "method_not_allowed": 405,
    "idempotency_in_progress": 409,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "misdirected_request": 421,
    "idempotency_mismatch": 422,
    "rate_limited": 429,
    "internal_error": 500,
}

CODES: Final[Mapping[str, int]] = dict(sorted({**dict(_of_classes()), **_OTHERS}.items()))
