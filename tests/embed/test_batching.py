from hypothesis import given
from hypothesis import strategies as st

from mmseek.embed.batching import Budget, cut_by_cost

COSTS = st.lists(st.integers(1, 50), min_size=1, max_size=40)
BUDGETS = st.builds(Budget, st.integers(1, 200), packed=st.booleans())


@given(COSTS, BUDGETS)
def test_a_batch_keeps_to_its_budget_and_is_as_large_as_it_can_be(costs: list[int], budget: Budget) -> None:
    count = cut_by_cost(costs, budget)
    assert 1 <= count <= len(costs)
    assert count == 1 or budget.of(costs[:count]) <= budget.cost
    assert count == len(costs) or budget.of(costs[: count + 1]) > budget.cost


def test_padded_and_packed_costs() -> None:
    assert Budget(9).of([1, 2, 5]) == 15
    assert Budget(9, packed=True).of([1, 2, 5]) == 8
    assert Budget(9).at_most(4) == Budget(4)
    assert Budget(9).at_most(0) == Budget(1)
    assert Budget(9).at_most(20) == Budget(9)
