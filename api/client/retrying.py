"""When a request is sent again, and how long to wait before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import tenacity

from mmseek._network import PASSING, retry_after


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a request is sent again.

    Every request of this service may be: what changes something carries an `Idempotency-Key`, by which it is done once.

    Args:
        attempts: at most, the first one included.
        first: seconds before the second attempt; twice that before each further one, and some at random.
        longest: seconds of one wait; a server's `Retry-After` counts where it is shorter.
    """

    attempts: int = 4
    first: float = 0.25
    longest: float = 10.0

    def options(self, again: frozenset[int] = PASSING) -> dict[str, Any]:
        """For tenacity; `again` are the statuses after which a request is sent again.

        The last answer is given as it is; the last exception is raised.
        """
        return {
            "stop": tenacity.stop_after_attempt(self.attempts),
            "wait": self._wait,
            "retry": tenacity.retry_if_exception_type(httpx.TransportError)
            | tenacity.retry_if_result(lambda answer: _is_passing(answer, again)),
            "retry_error_callback": _last,
        }

    def _wait(self, state: tenacity.RetryCallState) -> float:
        asked = _retry_after(state)
        if asked is not None:
            return min(asked, self.longest)
        return tenacity.wait_random_exponential(multiplier=self.first, max=self.longest, min=self.first / 2)(state)


def _is_passing(answer: httpx.Response, again: frozenset[int]) -> bool:
    # 409 with Retry-After: the same request, sent before, is at work still.
    return answer.status_code in again or (answer.status_code == 409 and "retry-after" in answer.headers)


def _last(state: tenacity.RetryCallState) -> Any:
    assert state.outcome is not None
    return state.outcome.result()


def _retry_after(state: tenacity.RetryCallState) -> float | None:
    outcome = state.outcome
    if outcome is None or outcome.failed:
        return None
    return retry_after(outcome.result().headers.get("retry-after"))
