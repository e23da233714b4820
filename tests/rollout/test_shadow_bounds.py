"""What a shadow costs: time, memory, and nothing to whoever waits for the champion."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from live_cases import KEY, same
from shadow_cases import HEADER, Trial, other_than_0, trials, until, x

from shipworthy.contract import Array, Arrays
from shipworthy.predict.ids import read_id
from shipworthy.rollout import backlog, shadow
from shipworthy.rollout.backlog import HELD, NUMBER, WAITING, Backlog, Copy, Failure
from shipworthy.rollout.live import Copied
from shipworthy.rollout.shadow import Shadow


@pytest.fixture
def trial() -> Iterator[Callable[..., Trial]]:
    with trials() as make:
        yield make


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_it_runs_at_low_priority(trial: Callable[..., Trial]) -> None:
    one = trial()
    one.ask(x(0))
    one.seen(copies=1)
    number = one.thread.native_id
    assert number is not None
    assert os.getpriority(os.PRIO_PROCESS, number) - os.getpriority(os.PRIO_PROCESS, 0) == shadow.NICE


@pytest.mark.parametrize(("budget", "threads"), [(0.25, 1), pytest.param(0.5, 2, marks=pytest.mark.full)])
def test_a_slow_challenger_takes_no_more_than_its_budget(
    budget: float, threads: int, trial: Callable[..., Trial]
) -> None:
    """Of one core, also where its engine keeps several busy."""
    spent: list[float] = []

    def slow(feeds: Arrays) -> dict[str, Array]:
        started = time.perf_counter()
        time.sleep(0.02)
        spent.append(time.perf_counter() - started)
        return same(feeds)

    one = trial(run=slow, shadow_budget=budget, threads=threads)
    started = time.perf_counter()
    while time.perf_counter() - started < 1.2:
        one.ask(x(0))
        time.sleep(0.001)
    elapsed = time.perf_counter() - started
    longest = max(spent)
    used = sum(spent) * threads
    # One copy may run twice, when both versions are timed, and has its rest afterwards.
    assert used <= budget * elapsed + 2 * longest * threads
    assert used >= 0.4 * budget * elapsed, "it uses what it has"


def test_what_it_has_no_time_for_is_not_copied(trial: Callable[..., Trial]) -> None:
    go = threading.Event()

    def stuck(feeds: Arrays) -> dict[str, Array]:
        go.wait(10)
        return same(feeds)

    one = trial(run=stuck)
    copied = [one.ask(x(0), key=b"me") for _ in range(WAITING + 50)]
    # One has been taken out, or is about to be.
    assert copied.count(True) in (WAITING, WAITING + 1) and not copied[-1]
    # Who is not copied has an id of the rollout all the same, and is not told apart from others who are not.
    read = read_id(KEY, one.ids[0].decode())
    assert (read.rollout, read.version, read.key_digest) == (1, 1, 0)
    assert one.shadowed.assign({}) is one.shadowed.assign({HEADER: b"me"})
    go.set()
    assert len(one.seen(copies=copied.count(True))) == copied.count(True)


def held(one: Trial) -> Shadow:
    """Its shadow, whose thread waits for its turn for as long as the test takes."""
    made = one.shadowed._shadow
    one.champion.queue.rows = 1
    made.champion_failed()
    until(lambda: not made._waiting)
    return made


def test_many_that_came_together_do_not_pass_the_bound(
    trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them were to be copied when they came, and are answered later."""
    monkeypatch.setattr(shadow, "PATIENCE_S", 10.0)
    one = trial()
    made = held(one)
    parts = [one.shadowed.assign({}) for _ in range(1000)]
    assert all(isinstance(part, Copied) for part in parts)
    for part in parts:
        part.naming([x(0)])([{"predicted_class": 0}])
        part.answered(0.1)
    assert (len(made._waiting), made._seen.lost) == (WAITING, 1000 - WAITING)
    parts[0].unserved(500, 0.1)
    assert (len(made._waiting), one.seen().lost) == (WAITING, 1001 - WAITING)


def test_copies_of_large_instances_are_fewer(trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    """By what they hold, whatever their contract leaves open."""
    monkeypatch.setattr(shadow, "PATIENCE_S", 10.0)
    one = trial()
    made = held(one)
    large: dict[str, Any] = {"x": [[0.0] * 1000] * 700}
    parts = [one.shadowed.assign({}) for _ in range(WAITING)]
    for part in parts:
        part.naming([large])([{"predicted_class": 0}])
        part.answered(0.1)
    assert len(made._waiting) == HELD // (700_000 * NUMBER) == 2
    assert made._waiting.held == 2 * 700_000 * NUMBER
    one.champion.queue.rows = 0
    until(lambda: not made._waiting)
    assert made._waiting.held == 0
    # One that is larger than all that may wait is copied when nothing does.
    one.champion.queue.rows = 1
    held(one)
    huge: dict[str, Any] = {"x": bytes(HELD + 1)}
    for _ in range(2):
        made.offer(made.copy([huge], [{"predicted_class": 0}], [b""], 0))
    assert (len(made._waiting), made._waiting.held) == (1, HELD + 1)
    assert not made.wants()


def test_a_failure_finds_no_room_where_an_answer_finds_none() -> None:
    """Else the champion's failures would be counted while its answers are dropped, and it would look worse."""
    waiting, size = Backlog(), HELD // 3

    def copy(size: int) -> Copy:
        return Copy({}, (1, 0), b"", 0, size)

    assert [waiting.put(copy(size)) for _ in range(4)] == [True, True, True, False]
    assert waiting.has_room and not waiting.put_failure()
    for _ in range(2):
        waiting.take()
    assert [waiting.put_failure() for _ in range(3)] == [True, True, False]
    assert [type(waiting.take()) for _ in range(3)] == [Copy, Failure, Failure]
    assert (len(waiting), waiting.held) == (0, 0)


def test_of_an_answer_no_more_is_kept_than_what_it_predicts(trial: Callable[..., Trial]) -> None:
    """It may have thousands of probabilities."""
    made = trial().shadowed._shadow
    copy = made.copy([x(0)], [{"predicted_class": 7, "probabilities": [0.0] * 100_000}], [b""], 0)
    assert (copy.predicted, copy.size) == ((1, 7), 3 * NUMBER)
    assert not any(isinstance(getattr(copy, name), dict) for name in copy.__slots__ if name != "instance")


def test_instances_are_measured_by_what_they_hold() -> None:
    array = np.zeros((4, 5), np.float32)
    for value, size in (
        ({"text": "a" * 50, "data": b"1234", "one": 1.0}, 54 + NUMBER),
        ({"x": [[0.0] * 5] * 4}, 20 * NUMBER),
        (["a" * 9, "bc"], 11),
        ([], 0),
        (array, 80),
        (array[0], 80),
        ({"x": [array, array]}, 160),
    ):
        assert backlog.size_of(value) == size, value


def test_nothing_is_copied_while_the_champion_is_busy(trial: Callable[..., Trial]) -> None:
    ran = threading.Event()

    def run(feeds: Arrays) -> dict[str, Array]:
        ran.set()
        return same(feeds)

    one = trial(run=run)
    one.champion.queue.rows = 3
    one.ask(x(0))
    assert one.seen(lost=1).lost == 1
    assert not ran.is_set()
    one.champion.queue.rows = 0
    one.ask(x(0))
    assert len(one.seen(copies=1)) == 1


def test_a_part_of_the_requests_is_copied(trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    one = trial(shadow_rate=0.3)
    one.shadowed._shadow._random.seed(5)
    monkeypatch.setattr(backlog, "WAITING", 10**6)
    copied = sum(one.ask(x(0)) for _ in range(3000))
    assert abs(copied / 3000 - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 3000)
    assert len(one.seen(copies=copied)) == copied


def test_what_is_told_is_taken_at_once(trial: Callable[..., Trial]) -> None:
    """The registry may be away for long; what comes meanwhile is not of that telling, and what is held is bounded by
    whoever gives up old tellings."""
    one = trial(run=other_than_0)
    made = one.shadowed._shadow
    one.ask(x(0))
    until(lambda: made._seen.failed)
    first = one.shadowed.take()
    one.ask(x(0))
    one.ask(x(1))
    until(lambda: len(made._seen.failed) == 2)
    second = one.shadowed.take()
    assert (made._seen.failed, made._seen.pairs, made._seen.slow, made._seen.digests) == ([], [], [], [])
    assert (second().copies.worst.tolist(), first().copies.worst.tolist()) == ([1.0, 0.0], [1.0])
