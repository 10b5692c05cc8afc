"""What a kind of collection stores beside vectors, in the same step as them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmseek.index.ledger import Transaction


def _nothing(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Files that are written, and belong to nothing until the transaction that names them.

    Args:
        write: what the transaction says of them.
        settled: called once it is durable.
    """

    write: Callable[[Transaction], None] = _nothing
    settled: Callable[[], None] = _nothing
