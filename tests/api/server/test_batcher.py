"""The queue before a model: order, bounds, deadlines, what is dropped and what is kept."""

import threading
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek._types import Content, Encoded, EncodeRequest
from mmseek.api.server.batching import Batcher, BatcherOptions, RequestScope, batcher_of_encoder
from mmseek.api.server.batching.batcher import Model
from mmseek.api.server.batching.queue import FairQueue, Group, Ticket
from mmseek.api.server.errors import ClientGone, DeadlineExceeded, ServerBusy, ServerStopping
from mmseek.api.server.metrics import Metrics
from mmseek.errors import ConfigError, EncodeError
from mmseek.testing import FakeEncoder

LATER = 1e12
PATIENCE = 120  # seconds


def group(client, costs, deadline=LATER):
    made = Group(client, deadline, [None] * len(costs), len(costs), sum(costs), 0.0)
    made.waiting.extend(Ticket(made, place, (client, place), cost) for place, cost in enumerate(costs))
    return made


def drain(queue, budget):
    taken = []
    while queue:
        tickets, _ = queue.take(budget, 0.0)
        taken.append([ticket.request for ticket in tickets])
    return [each for each in taken if each]


def test_a_crowd_does_not_keep_a_single_one_waiting():
    queue = FairQueue()
    queue.add(group("crowd", [1] * 1000))
    queue.take(10, 0.0)
    queue.add(group("single", [1]))
    tickets, _ = queue.take(10, 0.0)
    assert ("single", 0) in [ticket.request for ticket in tickets]


def test_turns_are_of_equal_cost_and_not_of_equal_number():
    queue = FairQueue()
    queue.add(group("long", [100] * 50))
    queue.add(group("short", [10] * 500))
    counts = Counter(client for batch in drain(queue, 1000)[:4] for client, _ in batch)
    assert counts["short"] / counts["long"] == pytest.approx(10, rel=0.15)


def test_the_nearest_deadline_of_a_client_is_first_and_the_passed_are_told():
    queue = FairQueue()
    late, soon, passed = group("a", [1], 30.0), group("a", [1], 20.0), group("a", [1], 5.0)
    for each in (late, soon, passed):
        queue.add(each)
    tickets, expired = queue.take(1, now=10.0)
    assert [ticket.group for ticket in tickets] == [soon]
    assert expired == [passed]
    assert not passed.waiting


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 50), min_size=1, max_size=8)), max_size=12),
    st.integers(1, 60),
)
def test_everything_is_taken_once_in_order_and_within_the_budget(calls, budget):
    queue = FairQueue()
    groups = [group(client, costs) for client, costs in calls]
    for each in groups:
        queue.add(each)
    seen = Counter()
    while queue:
        tickets, expired = queue.take(budget, 0.0)
        assert not expired
        assert len(tickets) <= 1 or sum(ticket.cost for ticket in tickets) <= budget
        for ticket in tickets:
            assert ticket.position == seen[id(ticket.group)]
            seen[id(ticket.group)] += 1
    assert seen == Counter({id(each): each.missing for each in groups})


class Held:
    """A model that works when it is told to, and remembers its batches."""

    def __init__(self):
        self.go = threading.Event()
        self.inside = threading.Event()
        self.batches = []

    def stream(self, requests):
        requests = list(requests)
        self.batches.append(requests)
        self.inside.set()
        assert self.go.wait(PATIENCE)
        yield from (Encoded(error=EncodeError(str(each))) for each in requests)


@pytest.fixture
def held():
    return Held()


@pytest.fixture
def make(held):
    made = []

    def make(**options):
        batcher = Batcher(Model("encoder", held.stream, lambda _: 1, "probe"), BatcherOptions(**options))
        made.append(batcher)
        return batcher

    yield make
    held.go.set()
    for batcher in made:
        batcher.close()


def scope(client="a", seconds=600.0):
    return RequestScope(client, time.monotonic() + seconds)


def told(future):
    return [str(outcome.error) for outcome in future.result(PATIENCE)]


def test_a_batch_gathers_while_the_model_is_busy(make, held):
    batcher = make(batch_cost=8)
    first = batcher.submit(["1"], scope=scope())
    assert held.inside.wait(PATIENCE)
    rest = [batcher.submit([str(number)], scope=scope(str(number))) for number in range(2, 8)]
    held.go.set()
    assert told(first) == ["1"]
    assert [told(future) for future in rest] == [[str(number)] for number in range(2, 8)]
    assert [len(batch) for batch in held.batches] == [1, 6]


def test_the_bound_refuses_and_says_when_to_come_again(make, held):
    batcher = make(max_waiting=2, max_waiting_cost=1000)
    futures = [batcher.submit(["x"] * 10, scope=scope()) for _ in range(2)]
    with pytest.raises(ServerBusy) as refused:
        batcher.submit(["y"], scope=scope())
    assert 1 <= refused.value.retry_after <= 60
    held.go.set()
    for future in futures:
        future.result(PATIENCE)
    assert batcher.submit(["y"], scope=scope()).result(PATIENCE)


def test_one_call_of_any_cost_is_taken_when_nothing_waits(make, held):
    batcher = make(max_waiting_cost=5, batch_cost=3)
    held.go.set()
    assert len(batcher.submit(["x"] * 20, scope=scope()).result(PATIENCE)) == 20
    held.go.clear()
    batcher.submit(["x"], scope=scope())
    with pytest.raises(ServerBusy):
        batcher.submit(["x"] * 5, scope=scope())


def test_what_a_client_that_hung_up_had_waiting_is_never_encoded(make, held):
    batcher = make(batch_cost=1)
    batcher.submit(["first"], scope=scope())
    assert held.inside.wait(PATIENCE)
    left = scope("left")
    gone = batcher.submit(["gone"], scope=left)
    kept = batcher.submit(["kept"], scope=scope("kept"))
    left.client_gone()
    with pytest.raises(ClientGone):
        gone.result(PATIENCE)
    held.go.set()
    kept.result(PATIENCE)
    assert held.batches == [["first"], ["kept"]]
    with pytest.raises(ClientGone):  # what comes after is dropped at once
        batcher.submit(["more"], scope=left).result(PATIENCE)


def test_a_caller_that_gives_up_makes_room(make, held):
    batcher = make(max_waiting=1)
    batcher.submit(["a"], scope=scope()).cancel()
    held.go.set()
    assert told(batcher.submit(["b"], scope=scope())) == ["b"]


def test_what_waited_past_its_deadline_is_told_so(make, held):
    batcher = make(batch_cost=1)
    batcher.submit(["first"], scope=scope())
    assert held.inside.wait(PATIENCE)
    late = batcher.submit(["late"], scope=scope(seconds=0.01))
    time.sleep(0.02)
    held.go.set()
    with pytest.raises(DeadlineExceeded):
        late.result(PATIENCE)
    assert ["late"] not in held.batches


async def test_waiting_ends_at_the_deadline_though_the_model_goes_on(make, held):
    from mmseek.api.server.batching.scope import enter_scope

    batcher = make(max_waiting=1)
    enter_scope(scope(seconds=0.05))
    with pytest.raises(DeadlineExceeded):
        await batcher.outcomes(["slow"])
    held.go.set()
    enter_scope(scope())
    assert len(await batcher.outcomes(["next"])) == 1  # there is room again


def test_closing_tells_those_that_wait(make, held):
    batcher = make(batch_cost=1)
    futures = [batcher.submit([str(number)], scope=scope()) for number in range(3)]
    assert held.inside.wait(PATIENCE)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    for future in futures:  # told while the model still has the first of them
        with pytest.raises(ServerStopping):
            future.result(PATIENCE)
    held.go.set()
    closing.join(PATIENCE)
    with pytest.raises(ServerStopping):
        batcher.submit(["x"], scope=scope())


def test_equal_requests_are_encoded_once_and_then_answered_at_once():
    encoder = FakeEncoder(fail_on="bad")
    batcher = batcher_of_encoder(encoder, None, Metrics(), cache_bytes=10_000)
    requests = [
        EncodeRequest(Content.of("x")),
        EncodeRequest(Content.of("x"), "query"),
        EncodeRequest(Content.of("bad")),
    ]
    first = batcher.submit(requests, scope=scope()).result(PATIENCE)
    assert encoder.calls == 3
    again = batcher.submit(requests[:2], scope=scope())
    assert again.done()
    assert [outcome.vector.tolist() for outcome in again.result()] == [each.vector.tolist() for each in first[:2]]
    batcher.submit(requests[2:], scope=scope()).result(PATIENCE)
    assert encoder.calls == 4  # errors are not kept
    batcher.close()


def test_the_cache_is_bounded_and_keeps_what_was_used_last():
    from mmseek.api.server.batching import VectorCache

    encoder = FakeEncoder(dim=25)  # 100 bytes and the overhead of 400
    cache = VectorCache(1000)
    outcomes = [Encoded(vector=row) for row in encoder.encode_document([Content.of(str(n)) for n in range(3)])]
    cache.put(b"0", outcomes[0])
    cache.put(b"1", outcomes[1])
    assert cache.get(b"0") is outcomes[0]
    cache.put(b"2", outcomes[2])
    assert (len(cache), cache.get(b"1")) == (2, None)
    assert cache.get(b"0") is outcomes[0]


@pytest.mark.parametrize("name", ["batch_cost", "max_waiting", "stuck_seconds", "backoff_seconds"])
def test_options_are_above_zero(name):
    with pytest.raises(ConfigError, match=name):
        BatcherOptions(**{name: 0})
