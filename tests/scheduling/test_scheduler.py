"""Which queue has its turn: known answers."""

from __future__ import annotations

import pytest

from shipworthy.scheduling import Curve, Part, Queue, Scheduler


def made(cores: float, *queues: Queue) -> Scheduler:
    scheduler = Scheduler(cores)
    for queue in queues:
        scheduler.add(queue)
    return scheduler


def queue(name: str, seconds: float = 0.01, *, streams: int = 1, cores: float = 1.0) -> Queue:
    return Queue(name, Curve({1: seconds}), streams=streams, cores=cores)


def fill(queue: Queue, parts: int, now: float = 0.0) -> None:
    for _ in range(parts):
        queue.offer(Part(1, now + 1.0, None), now)


def order(scheduler: Scheduler, batches: int) -> str:
    """Run so many batches one after another; the names of their queues."""
    names, now = "", 0.0
    for _ in range(batches):
        batch = scheduler.next(now)
        assert batch is not None and scheduler.next(now) is None
        names += batch.queue.name
        seconds = batch.expected - now
        now += seconds
        scheduler.done(batch, now, seconds)
    return names


def test_queues_get_even_shares_of_time() -> None:
    a, b = queue("a", 0.01), queue("b", 0.03)
    scheduler = made(1, a, b)
    fill(a, 40)
    fill(b, 40)
    names = order(scheduler, 40)
    assert names.count("a") == 30 and names.count("b") == 10


def test_an_idle_queue_has_not_saved_up_time() -> None:
    a, b = queue("a"), queue("b")
    scheduler = made(1, a, b)
    fill(a, 100)
    assert order(scheduler, 50) == "a" * 50
    fill(b, 10)
    names = order(scheduler, 10)
    assert names.count("b") == 5 and "bb" not in names[1:]


def test_what_took_longer_is_paid_later() -> None:
    a, b = queue("a"), queue("b")
    scheduler = made(1, a, b)
    fill(a, 10)
    fill(b, 10)
    batch = scheduler.next(0.0)
    assert batch is not None
    scheduler.done(batch, 0.05, 0.05)
    first = batch.queue
    following = [scheduler.next(0.05)]
    assert following[0] is not None and following[0].queue is not first
    assert first.served == pytest.approx(0.05)


def test_a_wide_stream_is_not_overtaken() -> None:
    narrow, wide = queue("n", streams=2), queue("w", cores=2.0)
    scheduler = made(2, narrow, wide)
    fill(narrow, 10)
    one, two = scheduler.next(0.0), scheduler.next(0.0)
    assert one is not None and two is not None and scheduler.next(0.0) is None
    fill(wide, 2)
    scheduler.done(one, 0.01, 0.01)
    assert scheduler.next(0.01) is None, "a core is free, but it is kept for the one whose turn it is"
    scheduler.done(two, 0.02, 0.02)
    batch = scheduler.next(0.02)
    assert batch is not None and batch.queue is wide


def test_what_is_wider_than_the_host_still_runs() -> None:
    wide = queue("w", cores=8.0)
    scheduler = made(2, wide)
    fill(wide, 1)
    assert scheduler.next(0.0) is not None


def test_short_runs_need_no_core() -> None:
    heavy, light = queue("h"), queue("l", 1e-4, cores=0.0)
    scheduler = made(1, heavy, light)
    fill(heavy, 2)
    fill(light, 1)
    assert {batch.queue.name for batch in (scheduler.next(0.0), scheduler.next(0.0)) if batch} == {"h", "l"}
    fill(light, 1)
    assert scheduler.next(0.0) is None, "its only stream is busy"


def test_what_needs_no_core_is_not_held_up_by_what_waits_for_one() -> None:
    heavy, light = queue("h", streams=2), queue("l", 1e-4, cores=0.0)
    scheduler = made(1, heavy, light)
    fill(heavy, 5)
    assert scheduler.next(0.0) is not None and scheduler.next(0.0) is None
    fill(light, 1)
    batch = scheduler.next(0.0)
    assert batch is not None and batch.queue is light


def test_a_queue_knows_its_share_and_when_a_core_is_free() -> None:
    a, b = queue("a", streams=2), queue("b", streams=2)
    scheduler = made(2, a, b)
    fill(a, 1000)
    fill(b, 1000)
    now = 0.0
    for _ in range(300):
        batches = [scheduler.next(now), scheduler.next(now)]
        now += 0.01
        for batch in batches:
            assert batch is not None
            scheduler.done(batch, now, 0.01)
    assert (a.share, b.share) == (pytest.approx(0.5, rel=0.05), pytest.approx(0.5, rel=0.05))
    assert scheduler.next(now) is not None and scheduler.next(now) is not None
    assert a.opens == b.opens == pytest.approx(now + 0.01)
    assert a.turn == b.turn == pytest.approx(0.01)
    scheduler.remove(b)
    assert (a.share, a.opens, a.turn) == (1.0, 0.0, 0.0)


def test_a_large_batch_leaves_others_their_time() -> None:
    big = Queue("big", Curve({1: 0.01, 8: 0.07, 64: 0.5}))
    small = queue("small", 0.005)
    scheduler = made(1, big, small)
    for _ in range(64):
        big.admit(0.0, 0, 5.0)
        big.arrived()
        small.admit(0.0, 0, 0.1)
        small.arrived()
    fill(small, 1)
    batch = scheduler.next(0.0)
    assert batch is not None and batch.queue is small
    scheduler.done(batch, 0.005, 0.005)
    for _ in range(64):
        big.offer(Part(1, 5.0, None), 0.005)
    batch = scheduler.next(0.005)
    assert batch is not None and batch.bucket == 8


def test_a_failed_batch_frees_its_core() -> None:
    a = queue("a")
    scheduler = made(1, a)
    fill(a, 2)
    batch = scheduler.next(0.0)
    assert batch is not None and scheduler.next(0.0) is None
    scheduler.done(batch, 0.01, None)
    assert scheduler.next(0.01) is not None


def test_what_a_failed_batch_spent_counts_for_its_share_and_not_for_its_curve() -> None:
    a, b = queue("a"), queue("b")
    scheduler = made(1, a, b)
    fill(a, 64)
    fill(b, 64)
    first = scheduler.next(0.0)
    assert first is not None
    before = first.queue.curve.mean(first.bucket)
    scheduler.done(first, 0.5, None, 0.5)
    assert first.queue.curve.mean(first.bucket) == before
    assert first.queue.served == pytest.approx(0.5)
    now, turns = 0.5, []
    for _ in range(4):
        batch = scheduler.next(now)
        assert batch is not None
        turns.append(batch.queue)
        now = batch.expected
        scheduler.done(batch, now, batch.expected - batch.started)
    other = b if first.queue is a else a
    assert turns == [other] * 4, "it is given what the one that failed has used"
