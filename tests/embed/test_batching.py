from hypothesis import given
from hypothesis import strategies as st

from mmseek.embed.batching import Budget, cut_by_cost, shared_budget

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


def cut(costs: list[int], budget: Budget) -> list[list[int]]:
    batches = []
    while costs:
        count = cut_by_cost(costs, budget)
        batches.append(costs[:count])
        costs = costs[count:]
    return batches


@given(COSTS, BUDGETS, st.integers(1, 4))
def test_lanes_share_what_there_is(costs: list[int], budget: Budget, lanes: int) -> None:
    costs.sort(reverse=True)
    shared = shared_budget(costs, budget, lanes)
    assert shared.cost <= budget.cost
    assert shared.packed == budget.packed
    plain, even = cut(costs, budget), cut(costs, shared)
    assert len(plain) <= len(even)
    assert len(even) < len(plain) + lanes or len(even) <= lanes * -(-budget.of(costs) // (lanes * budget.cost))
    if lanes == 1:
        assert even == plain


def test_two_lanes_get_half_each() -> None:
    texts = Budget(1000, packed=True)
    assert list(map(len, cut([10] * 8, shared_budget([10] * 8, texts, 2)))) == [4, 4]
    assert cut([60, 30, 30], shared_budget([60, 30, 30], texts, 2)) == [[60], [30, 30]]
    assert list(map(len, cut([100] * 21, shared_budget([100] * 21, texts, 2)))) == [6, 6, 6, 3]
    assert list(map(len, cut([1] * 6, shared_budget([1] * 6, Budget(16), 2)))) == [3, 3]
    assert shared_budget([10], texts, 2) == texts
