"""How many items make a batch: as many as their cost allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["Budget", "cut_by_cost", "shared_budget"]


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


def shared_budget(costs: Sequence[int], budget: Budget, lanes: int) -> Budget:
    """A budget that cuts items into batches of about one cost, so many that no lane has less to do than another.

    Args:
        costs: of the items, the largest first.
        budget: the largest that a batch may be.
        lanes: batches that run at once.
    """
    if lanes < 2 or len(costs) < 2:
        return budget
    total = budget.of(costs)
    pieces = lanes * math.ceil(total / (lanes * budget.cost))
    target = max(math.ceil(total / pieces), costs[0])
    # Items are whole, so the even share may give a batch too many.
    while target < budget.cost and _batches(costs, budget.at_most(target)) > pieces:
        target += max(target // 16, 1)
    return budget.at_most(target)


def _batches(costs: Sequence[int], budget: Budget) -> int:
    count = 0
    while costs:
        costs, count = costs[cut_by_cost(costs, budget) :], count + 1
    return count
