"""How many of a picture's visual tokens the language model of a vision-language model reads, and which.

Written after the model in a spec, `vlm2vec:MODEL?visual-tokens=0.5`, because vectors of fewer tokens are other vectors:
the encoder's name and fingerprint say so, and an index never mixes them with others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mmseek.errors import SpecError

if TYPE_CHECKING:
    from mmseek.models.spec import Spec

__all__ = ["METHODS", "VisualTokens", "parse_visual_tokens", "with_fewer"]

# To be raised by any change that leaves other tokens of the same picture.
_VERSION: Final = 1
METHODS: Final = ("merge", "rank", "rows")


@dataclass(frozen=True, slots=True)
class VisualTokens:
    """A rule for all pictures.

    Args:
        amount: a share of each picture's tokens, above 0 and below 1, or a number of them, from 1.
        method: of `METHODS`; see `mmseek.models.token_reduction`.
    """

    amount: float
    method: str = "merge"

    def kept(self, tokens: int) -> int:
        """How many of a picture's tokens are left, at least one."""
        return min(tokens, max(1, math.ceil(self.amount * tokens) if self.amount < 1 else int(self.amount)))

    def __str__(self) -> str:
        amount = f"{self.amount:g}" if self.amount < 1 else str(int(self.amount))
        return amount if self.method == "merge" else f"{amount}:{self.method}"


def parse_visual_tokens(text: str) -> VisualTokens | None:
    """`0.5`, `256`, `0.5:rank`; None for all tokens, which is a share of 1 written with a point.

    Raises:
        SpecError: it is none of these.
    """
    amount, _, method = text.strip().partition(":")
    method = method or "merge"
    try:
        number = float(amount)
    except ValueError:
        number = math.nan
    whole = amount.isdecimal()
    if method not in METHODS or not (0 < number <= 1 or (whole and 1 <= number < 10**9)):
        raise SpecError(
            f"visual-tokens is {text!r}: write the share to keep, such as 0.5, or how many a picture, such as 256, and "
            f"perhaps :METHOD after it, one of {', '.join(METHODS)}"
        )
    if number == 1 and not whole:
        return None
    return VisualTokens(number, method)


def with_fewer(recipe: str, spec: Spec) -> str:
    """A recipe, for the fingerprint, with the spec's visual tokens if it does not ask for all."""
    return recipe if spec.visual_tokens is None else f"{recipe} visual-tokens {_VERSION} {spec.visual_tokens}"
