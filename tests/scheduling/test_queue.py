"""What a queue takes on, and what it runs next: known answers."""

from __future__ import annotations

from math import inf

import pytest

from shipworthy.scheduling import Batch, Bounds, Curve, Part, Queue, Refusal, cut
from shipworthy.scheduling.demand import Demand
from shipworthy.scheduling.margin import Margin
from shipworthy.scheduling.plan import best

RESNET = {1: 0.010, 2: 0.018, 4: 0.034, 8: 0.066, 16: 0.130}
HUNGRY = {bucket: 0.001 + 0.00005 * bucket for bucket in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)}


def queue(seconds: dict[int, float] = RESNET, **settings: object) -> Queue:
    return Queue("m", Curve(seconds), **settings)  # type: ignore[arg-type]


def ask(queue: Queue, now: float, due: float, rows: int = 1, **settings: object) -> Part:
    """A request of one part that is admitted, and arrives at once."""
    assert queue.admit(now, 10, due) is None
    queue.arrived()
    part = Part(rows, due, None, **settings)  # type: ignore[arg-type]
    queue.offer(part, now)
    return part


def taken(queue: Queue, now: float, idle: int = 1, longest: float = inf) -> Batch:
    batch = queue.take(now, idle, longest)
    assert batch is not None
    return batch


def test_an_idle_stream_takes_what_is_there_at_once() -> None:
    line = queue()
    part = ask(line, 0.0, 0.05)
    batch = taken(line, 0.0)
    assert (batch.parts, batch.rows, batch.bucket, batch.expected) == ([part], 1, 1, 0.010)
    assert part.state == "running" and part.queued == 0.0
    assert line.take(0.0) is None and line.rows == 0


def test_the_earliest_deadline_comes_first() -> None:
    line = queue()
    parts = [ask(line, 0.0, due) for due in (1.3, 1.1, 1.4, 1.2)]
    assert [taken(line, 0.0, longest=0.0).parts for _ in parts] == [[parts[place]] for place in (1, 3, 0, 2)]


def test_parts_of_one_time_keep_their_order() -> None:
    line = queue()
    parts = [ask(line, 0.0, 1.0) for _ in range(4)]
    assert taken(line, 0.0).parts == parts


def test_keys_never_share_a_batch() -> None:
    line = queue()
    a, b, c = (ask(line, 0.0, 1.0 + place, key=key) for place, key in enumerate("aba"))
    assert taken(line, 0.0).parts == [a, c]
    assert taken(line, 0.0).parts == [b]


def test_the_largest_bucket_that_keeps_the_oldest_in_time() -> None:
    line = queue()
    for _ in range(64):
        line.admit(0.0, 0, 1.0)
        line.arrived()
        line.leave(0)
    for due, bucket in ((0.200, 8), (0.040, 4), (0.020, 2), (0.012, 1)):
        busy = queue()
        busy.plan.bucket = 8
        for place in range(20):
            busy.offer(Part(1, due if place < 20 else 1.0, None), 0.0)
        assert taken(busy, 0.0).bucket == bucket


def test_one_that_is_late_anyway_does_not_make_the_batch_small() -> None:
    line = queue(HUNGRY)
    line.plan.bucket = 256
    line.offer(Part(1, 0.0011, None), 0.0)
    for _ in range(255):
        line.offer(Part(1, 0.05, None), 0.0)
    assert taken(line, 0.0).bucket == 256


def test_padding_is_not_worth_it() -> None:
    line = queue()
    line.plan.bucket = 4
    for _ in range(3):
        line.offer(Part(1, 1.0, None), 0.0)
    # Two in 18 ms are more rows a second than three in the 34 ms of four.
    assert [taken(line, 0.0).bucket, taken(line, 0.0).bucket] == [2, 1]


def test_idle_streams_share_the_work() -> None:
    line = queue(streams=2)
    for _ in range(2):
        line.offer(Part(1, 1.0, None), 0.0)
    assert [taken(line, 0.0, idle=2).rows, taken(line, 0.0, idle=1).rows] == [1, 1]
    cheap = queue(HUNGRY, streams=2)
    cheap.plan.bucket = 64
    for _ in range(2):
        cheap.offer(Part(1, 1.0, None), 0.0)
    assert taken(cheap, 0.0, idle=2).rows == 2


def test_a_part_larger_than_is_worth_it_still_runs() -> None:
    line = queue()
    line.offer(Part(16, 0.02, None), 0.0)
    assert taken(line, 0.0).bucket == 16


def test_a_run_is_no_longer_than_others_can_wait() -> None:
    line = queue()
    line.plan.bucket = 16
    for _ in range(16):
        line.offer(Part(1, 9.0, None), 0.0)
    assert taken(line, 0.0, longest=0.04).bucket == 4
    assert taken(line, 0.0, longest=0.001).bucket == 1


def test_what_cannot_be_in_time_is_refused_and_says_when() -> None:
    line = queue()
    for _ in range(4):
        ask(line, 0.0, 0.05)
    taken(line, 0.0)
    refusal = line.admit(0.0, 10, 0.03)
    assert isinstance(refusal, Refusal) and refusal.reason == "deadline"
    assert 0.0 < refusal.retry_s < 0.1
    assert line.requests == 4


def test_an_idle_server_refuses_nobody() -> None:
    line = queue(streams=2)
    ask(line, 0.0, 0.001)
    taken(line, 0.0)
    # One stream is left: nothing could serve it sooner, though it is late.
    ask(line, 0.0, 0.001)
    taken(line, 0.0)
    assert line.admit(0.0, 10, 0.001) is not None


def test_a_sooner_deadline_does_not_wait_for_later_ones() -> None:
    line = queue()
    for _ in range(60):
        ask(line, 0.0, 9.0)
    taken(line, 0.0)
    assert line.predict(0.0, 1, 0.05) < line.predict(0.0, 1, 9.5)


def test_bounds_by_count_and_bytes() -> None:
    line = queue(bounds=Bounds(requests=2, bytes=100))
    assert line.admit(0.0, 1000, 9.0) is None, "alone, however large"
    assert (refusal := line.admit(0.0, 1, 9.0)) is not None and refusal.reason == "bytes"
    line.arrived()
    line.leave(1000)
    assert line.admit(0.0, 50, 9.0) is None and line.admit(0.0, 50, 9.0) is None
    assert (refusal := line.admit(0.0, 0, 9.0)) is not None and refusal.reason == "requests"
    assert (line.requests, line.bytes) == (2, 100)


def test_work_that_waits_is_bounded() -> None:
    line = queue(bounds=Bounds(seconds=1.0))
    ask(line, 0.0, 0.05)
    for place in range(200):
        line.offer(Part(1, 100.0 + place, None), 0.0)
    assert (refusal := line.admit(0.0, 1, 0.5)) is not None and refusal.retry_s == pytest.approx(0.81, rel=0.01)


def test_what_came_too_late_is_given_back_and_never_runs() -> None:
    line = queue()
    first = ask(line, 0.0, 0.05, expires=0.05)
    second = ask(line, 0.0, 0.06)
    batch = taken(line, 0.05)
    assert batch.parts == [second]
    line.done(batch, 0.06, 0.01)
    assert line.expired == [first] and first.state == "gone"
    line.expired.clear()
    ask(line, 0.1, 0.15, expires=0.12)
    assert line.take(0.2) is None and len(line.expired) == 1 and line.rows == 0


def test_what_was_withdrawn_never_runs() -> None:
    line = queue()
    first, second, third = (ask(line, 0.0, 1.0 + place) for place in range(3))
    line.withdraw(second)
    line.withdraw(first)
    assert line.rows == 1 and line.waiting() == [third]
    batch = taken(line, 0.0)
    assert batch.parts == [third]
    line.withdraw(third)
    line.done(batch, 0.01, 0.01)
    assert line.rows == 0 and not line.running and line.take(0.0) is None


def test_those_that_left_leave_nothing_behind() -> None:
    """Requests of much time and of a shape of their own, which are given up while others wait."""
    line = queue()
    first = ask(line, 0.0, 1.0)
    for number in range(5_000):
        line.withdraw(ask(line, 0.0, 3600.0 - number / 10, key=number))
        line.leave(10)
    assert len(line._waiting._order) < 200
    second = ask(line, 0.0, 0.5, key="other")
    assert [taken(line, 0.0).parts for _ in range(2)] == [[second], [first]]


def test_a_failed_batch_says_nothing_of_what_batches_cost() -> None:
    line = queue()
    ask(line, 0.0, 0.05)
    line.done(taken(line, 0.0), 5.0, None)
    assert line.curve.mean(1) == RESNET[1] and not line.running


def test_failed_batches_that_make_others_late_make_it_more_careful() -> None:
    line = queue()
    before = line._margin.factor
    for _ in range(4):
        ask(line, 0.0, 0.05)
        line.done(taken(line, 0.0), 0.2, None)
    assert line._margin.factor > before + 0.5


def test_a_batch_that_is_overdue_is_expected_to_stay_so() -> None:
    line = queue()
    ask(line, 0.0, 0.05)
    taken(line, 0.0)
    # It was expected at 10 ms and has now taken 90 ms more: it may well take another 90 ms.
    assert line.predict(0.100, 1, 9.0) > 0.19


def test_slow_bodies_do_not_keep_others_out() -> None:
    line = queue()
    for _ in range(500):
        line._demand.coming.append(0.0)
        line.requests += 1
    assert line.admit(0.01, 10, 0.06) is not None, "they may come any moment"
    assert line.admit(5.0, 10, 5.05) is None


def test_what_a_key_costs_is_learned() -> None:
    line = queue()
    for turn in range(40):
        line.offer(Part(1, turn + 1.0, None, key="long", scale=2.0), float(turn))
        line.done(taken(line, float(turn)), turn + 0.05, 0.05)
        line.offer(Part(1, turn + 1.0, None, key="short"), turn + 0.5)
        line.done(taken(line, turn + 0.5), turn + 0.6, 0.01)
    line.offer(Part(1, 99.0, None, key="long", scale=2.0), 98.0)
    assert taken(line, 98.0).expected - 98.0 == pytest.approx(0.05, rel=0.1)


def test_costs_of_keys_are_not_remembered_for_ever() -> None:
    line = queue()
    for turn in range(1000):
        line.offer(Part(1, 1.0, None, key=turn), 0.0)
        line.done(taken(line, 0.0), 0.01, 0.01)
    assert len(line._waiting._factors) <= 256 and not line._waiting.groups and not line._waiting._order


def test_a_large_request_is_cut() -> None:
    assert cut(10, 1.0, 4, 0.5, 2.0) == [(4, 1.0), (4, 3.5), (2, 4.0)]
    assert cut(3, 1.0, 4, 0.5) == [(3, 1.0)]
    line = queue(streams=2)
    for _ in range(64):
        line.admit(0.0, 0, 0.05)
        line.arrived()
        line.leave(0)
    line._renew()
    parts = line.cut(100, 0.05)
    assert sum(rows for rows, _ in parts) == 100 and max(rows for rows, _ in parts) == line.plan.bucket == 2
    assert parts[0][1] == 0.05 and parts[1][1] - 0.05 == pytest.approx(3 * RESNET[2] / 2)


@pytest.mark.parametrize(
    ("seconds", "slack", "streams", "bucket"),
    [(RESNET, 0.05, 2, 2), (RESNET, 0.3, 2, 8), (RESNET, 0.005, 2, 1), (HUNGRY, 0.05, 1, 256), (HUNGRY, 0.1, 1, 512)],
)
def test_the_planned_bucket_leaves_time_to_wait_for_a_stream(
    seconds: dict[int, float], slack: float, streams: int, bucket: int
) -> None:
    assert best(Curve(seconds), [slack] * 64, streams, Margin(), 1) == bucket


def test_the_planned_bucket_leaves_room_for_the_margin() -> None:
    seconds = Curve({1: 0.008, 2: 0.0137, 4: 0.0256, 8: 0.051})
    slacks = [0.048] * 64
    assert best(seconds, slacks, 2, Margin(0.0), 1) == 4, "without one, the larger batch is the better"
    assert best(seconds, slacks, 2, Margin(0.5), 4) == 2, (
        "with one, requests for it would be refused while the engine idles"
    )
    assert best(seconds, slacks, 2, Margin(0.5, taken=0.5), 4) == 4, (
        "but for where enough come in the time that is left"
    )
    assert best(seconds, slacks, 2, Margin(1.5), 2) == 2, "what is so rare is as long beside a smaller one"


def test_the_planned_bucket_is_found_where_everybody_is_refused() -> None:
    margin = Margin()
    for _ in range(300_000):
        margin.decided(True)
    assert best(Curve(RESNET), [0.05] * 64, 2, margin, 1) in RESNET


def test_a_few_impatient_callers_do_not_make_the_server_slow() -> None:
    slacks = [0.002] * 6 + [0.05] * 58
    assert best(Curve(HUNGRY), slacks, 1, Margin(), 1) == 256
    assert best(Curve(RESNET), [0.05] * 32 + [1.0] * 32, 2, Margin(), 1) == 2


def test_the_margin_settles_where_few_are_late() -> None:
    margin = Margin()
    for _ in range(20_000):
        margin.observe(0.0)
    assert margin.factor == 0.0
    for _ in range(100):
        margin.observe(1.0)
    widest = margin.factor
    assert widest == 1.5
    margin.observe(0.0)
    assert margin.factor < widest


def test_demand_remembers_the_last_requests_only() -> None:
    demand = Demand()
    news = [demand.see(0.1) for _ in range(64)] + [demand.see(0.2) for _ in range(64)]
    assert set(demand.slacks) == {0.2} and [place for place, new in enumerate(news) if new] == [0, 64]
