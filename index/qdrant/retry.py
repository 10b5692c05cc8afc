"""Requests to a Qdrant server, tried again where that can help, and its failures in one sentence each.

Every request of ours may be sent twice with the effect of once: points are stored under the hash of their document's
id. So a request is repeated when the connection breaks, even if the server may have carried it out.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from mmseek._network import PASSING, retry_after
from mmseek.errors import CollectionError, StorageError

Answer = TypeVar("Answer")

# Every request may be sent twice, so that also a fault of the server is worth another try.
_AGAIN = PASSING | {500}
_REFUSED = frozenset({401, 403})
_TOO_LARGE = 413


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a failing server is asked again.

    Args:
        attempts: requests in all.
        first: seconds before the second; each further wait is up to twice as long, with jitter.
        longest: seconds of one wait at most, also where the server names a longer one.
        sleep: how to wait.
    """

    attempts: int = 6
    first: float = 0.25
    longest: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next attempt: what the server asks for, or longer each time."""
        error = state.outcome.exception() if state.outcome is not None else None
        asked = _retry_after(error)
        if asked is not None:
            return min(asked, self.longest)
        widest = min(self.first * 2.0 ** (state.attempt_number - 1), self.longest)
        return widest * random.uniform(0.5, 1.0)  # noqa: S311  # no secret: it only spreads the clients


DEFAULT_POLICY = RetryPolicy()


def ask(request: Callable[[], Answer], place: str, policy: RetryPolicy) -> Answer:
    """Send a request until it is answered.

    Raises:
        StorageError: the server cannot be reached, is too slow or too busy, or fails, at every attempt.
        CollectionError: it refuses the key or the request.
    """
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.attempts),
        wait=policy.wait,
        retry=tenacity.retry_if_exception(_may_pass),
        sleep=policy.sleep,
        reraise=True,
    )
    try:
        return retrying(request)
    except (ResponseHandlingException, UnexpectedResponse, QdrantException) as error:
        raise _sentence(error, place, policy) from error


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _AGAIN
    # A busy server's answer; where it names a date to wait for, qdrant-client raises the base class.
    return isinstance(error, ResponseHandlingException | QdrantException)


def _retry_after(error: BaseException | None) -> float | None:
    if isinstance(error, ResourceExhaustedResponse):
        return float(error.retry_after_s)
    if isinstance(error, UnexpectedResponse) and error.headers is not None:
        return retry_after(error.headers.get("retry-after"))
    return None


def _sentence(error: Exception, place: str, policy: RetryPolicy) -> CollectionError:
    tried = f"asked {policy.attempts} times"
    if isinstance(error, QdrantException):
        return StorageError(f"{place} is too busy ({tried}): nothing is lost, run it again later")
    if isinstance(error, UnexpectedResponse):
        return _refusal(error, place, tried)
    cause = type(getattr(error, "source", error)).__name__
    if "Timeout" in cause:
        return StorageError(
            f"{place} does not answer in time ({tried}): see that the server is well, or give it longer with ?timeout=N"
        )
    return StorageError(
        f"{place} cannot be reached ({cause}, {tried}): see that the server runs there; what was acknowledged is stored"
    )


def _refusal(error: UnexpectedResponse, place: str, tried: str) -> CollectionError:
    status = error.status_code
    if status in _REFUSED:
        return CollectionError(f"{place} refuses the key (HTTP {status}): name its file in MMSEEK_QDRANT_API_KEY_FILE")
    if status == _TOO_LARGE:
        return StorageError(f"{place} takes no request of this size (HTTP 413): index with a smaller --batch-size")
    if status == 429:
        return StorageError(f"{place} is too busy ({tried}): nothing is lost, run it again later")
    if status in _AGAIN:
        return StorageError(f"{place} fails (HTTP {status}, {tried}): see the server's log, then run it again")
    return CollectionError(f"{place} refuses the request (HTTP {status}: {_reason(error)})")


def _reason(error: UnexpectedResponse) -> str:
    """What the server says is wrong, on one line."""
    try:
        said = str(json.loads(error.content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        said = error.reason_phrase
    return " ".join(said.split())[:300]
