"""How many items make a batch: as many as their cost allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["Budget", "cut_by_cost"]


@dataclass(frozen=True, slots=True)
class Budget:
    """The cost of the largest batch.

    Args:
        cost: in the units of the items' costs, at least 1.
        packed: the model lays items end to end, so a batch costs the sum of its items; if not, all are padded to the
            longest and a batch costs their number times the longest.
    """

    cost: int
    packed: bool = False

    def of(self, costs: Sequence[int]) -> int:
        """What a batch of items of these costs costs."""
        return sum(costs) if self.packed else len(costs) * max(costs, default=0)

    def at_most(self, cost: int) -> Budget:
        """This budget, or a smaller one of `cost`."""
        return replace(self, cost=max(1, min(self.cost, cost)))


def cut_by_cost(costs: Sequence[int], budget: Budget) -> int:
    """How many of the first items make the next batch: at least one, then as many as the budget allows."""
    total = longest = 0
    for count, cost in enumerate(costs):
        total, longest = total + cost, max(longest, cost)
        if count and (total if budget.packed else (count + 1) * longest) > budget.cost:
            return count
    return len(costs)
