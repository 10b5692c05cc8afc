"""A pair as a prompt, and as the sequence of tokens that a model reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from mmseek._types import Image
from mmseek.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek.rerank.mllm.backbone import Backbone, Picture

__all__ = ["Parts", "Prompt", "Tokens", "numbered"]

# A shorter beginning is not worth a pass of its own.
_LEAST_SHARED: Final = 8

Parts: TypeAlias = tuple["str | Image", ...]
# Cuts the numbers of tokens to what a model takes.
Fit: TypeAlias = Callable[["NDArray[np.int64]"], "NDArray[np.int64]"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model reads of a pair, pictures where they stand.

    Args:
        shared: the beginning, which other pairs with the same query (or the same document) have too.
        rest: what follows.
    """

    shared: Parts
    rest: Parts

    @property
    def images(self) -> tuple[Image, ...]:
        """All pictures, in order."""
        return tuple(part for part in (*self.shared, *self.rest) if isinstance(part, Image))

    def text(self, picture: str) -> str:
        """As one string, `picture` standing for each picture."""
        return _joined((*self.shared, *self.rest), picture)

    def shared_text(self, picture: str) -> str:
        """The beginning as one string."""
        return _joined(self.shared, picture)


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """One sequence, ready for the model.

    Args:
        numbers: of the tokens (n,).
        is_picture: (n,), whether a token is a visual one.
        positions: (axes, n).
        pictures: in the order of their tokens.
        shared: how many tokens from the first other pairs have too; 0 if none.
        key: equal for equal beginnings.
        reuse: whether the beginning is worth a pass of its own, or worth keeping.
    """

    numbers: NDArray[np.int64]
    is_picture: NDArray[np.bool_]
    positions: NDArray[np.int64]
    pictures: tuple[Picture, ...]
    shared: int = 0
    key: bytes = b""
    reuse: bool = False

    def __len__(self) -> int:
        return len(self.numbers)

    def beginning(self) -> Tokens:
        """The shared tokens alone."""
        held, count = [], 0
        for picture in self.pictures:
            if count + picture.tokens > int(self.is_picture[: self.shared].sum()):
                break
            held.append(picture)
            count += picture.tokens
        cut = slice(0, self.shared)
        return Tokens(self.numbers[cut], self.is_picture[cut], self.positions[:, cut], tuple(held))


def numbered(prompt: Prompt, pictures: Sequence[Picture], backbone: Backbone, fit: Fit | None = None) -> Tokens:
    """Token numbers and positions of a prompt; `fit` may cut the numbers.

    Raises:
        InputError: the text holds the mark of a picture, or there are more tokens than the model takes.
    """
    whole = prompt.text(backbone.picture_text)
    if whole.count(backbone.picture_mark) != len(pictures):
        raise InputError(
            f"the text holds {backbone.picture_mark}, which is the model's mark for a picture: take it out"
        )
    short = backbone.encode(whole)
    # Cut where the tokens of the beginning alone are no longer those of the whole: a token may reach over its end.
    shared = _common(short, backbone.beginning(prompt.shared_text(backbone.picture_text)))
    mark = backbone.picture_token
    counts = np.ones(len(short), dtype=np.int64)
    counts[short == mark] = [picture.tokens for picture in pictures]
    numbers = np.repeat(short, counts)
    shared = int(counts[:shared].sum())
    if fit is not None:
        numbers = fit(numbers)
        shared = min(shared, _common(numbers, np.repeat(short, counts)))
    if len(numbers) > backbone.max_tokens:
        raise InputError(f"the pair has {len(numbers)} tokens and the model takes {backbone.max_tokens}: shorten it")
    is_picture = numbers == mark
    positions = backbone.positions(is_picture, [picture.grid for picture in pictures])
    if shared < _LEAST_SHARED or not backbone.may_share:
        return Tokens(numbers, is_picture, positions, tuple(pictures))
    # The last token is never shared, for its state is what is scored.
    shared = min(shared, len(numbers) - 1)
    tokens = Tokens(numbers, is_picture, positions, tuple(pictures), shared)
    state = hashlib.sha256(numbers[:shared].tobytes())
    for picture in tokens.beginning().pictures:
        state.update(picture.key + repr(picture.grid).encode())
    return Tokens(numbers, is_picture, positions, tuple(pictures), shared, state.digest())


def _joined(parts: Parts, picture: str) -> str:
    return "".join(picture if isinstance(part, Image) else part for part in parts)


def _common(one: NDArray[np.int64], two: NDArray[np.int64]) -> int:
    """How many tokens from the first are equal."""
    length = min(len(one), len(two))
    different = np.flatnonzero(one[:length] != two[:length])
    return int(different[0]) if len(different) else length
