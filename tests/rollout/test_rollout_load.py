"""How busy a thread is, seen from another; and what a shadow leaves to a busy process."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

import pytest
from live_cases import lane, rollout, same, scores

from shipworthy.contract import Array, Arrays
from shipworthy.rollout import shadow
from shipworthy.rollout.load import WINDOW_S, Load
from shipworthy.rollout.shadow import Shadow

CLOCKED = pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="threads have no clock here")


class Clocks:
    """Both clocks, in the test's hands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.spent = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(time, "clock_gettime", lambda clock: self.spent)
        monkeypatch.setattr(time, "pthread_getcpuclockid", lambda ident: 5, raising=False)

    def go(self, seconds: float, busy: float) -> None:
        self.now += seconds
        self.spent += seconds * busy


def test_it_is_judged_by_a_whole_window_of_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch)
    seen = Load()
    for _ in range(10):
        clocks.go(WINDOW_S / 10.5, 0.9)
        seen.rested()
        assert not seen.busy
        # It would look half idle, as the other one was at work.
        clocks.go(WINDOW_S, 0.5)
        seen.worked()
    clocks.go(WINDOW_S / 10, 0.9)
    seen.rested()
    assert seen.busy
    clocks.go(WINDOW_S, 0.7)
    seen.rested()
    assert not seen.busy
    assert not seen.old
    clocks.go(1.5, 0.7)
    assert seen.old


@CLOCKED
def test_a_thread_has_the_processor_when_it_computes_and_not_when_it_waits() -> None:
    compute, ends, ready = threading.Event(), threading.Event(), threading.Event()
    made: list[Load] = []

    def work() -> None:
        made.append(Load())
        ready.set()
        while not ends.is_set():
            if compute.is_set():
                hashlib.sha256(bytes(2**18))
            else:
                ends.wait(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(10)
    [seen] = made
    before = seen._read()
    time.sleep(0.2)
    assert seen._read() - before < 0.1
    compute.set()
    until(lambda: seen._read() - before > 0.3)
    seen.worked()
    ends.set()
    thread.join(10)
    assert not thread.is_alive()
    # Of a thread that has ended there is no clock any more.
    spent = seen._last_spent
    time.sleep(2 * WINDOW_S)
    seen.rested()
    assert (seen.busy, seen._last_spent) == (False, spent)


def test_where_threads_have_no_clock_nobody_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "pthread_getcpuclockid", raising=False)
    seen = Load()
    end = time.perf_counter() + 1.5 * WINDOW_S
    while time.perf_counter() < end:
        pass
    seen.rested()
    assert not seen.busy


@pytest.mark.parametrize("full", ["loop", "streams", None])
def test_a_busy_process_is_left_nine_tenths_of_the_budget(full: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    spent: list[float] = []

    def slow(feeds: Arrays) -> dict[str, Array]:
        started = time.perf_counter()
        # Long beside what a busy machine adds between this clock and the other one.
        time.sleep(0.02)
        spent.append(time.perf_counter() - started)
        return same(feeds)

    monkeypatch.setattr(shadow, "TIMED", 0.0)
    champion, challenger = lane(), lane(run=slow, version=2)
    if full == "streams":
        champion.queue.running = [object()]
    made = Shadow(champion, challenger, rollout("shadow", shadow_budget=0.5).spec)
    monkeypatch.setattr(made._load, "rested", lambda: None)
    made._load.busy = full == "loop"
    note_rests(made, rests, monkeypatch)
    for _ in range(5):
        made.offer(made.copy([{"x": scores(0)}], [{"predicted_class": 0}], [b"A" * 88], 0))
    until(lambda: len(rests) == 5)
    made.close()
    made._thread.join(10)
    for rest, work in zip(rests, spent, strict=True):
        # What it works is a part of all the time, and it rests for the remainder.
        part = work / (work + rest)
        assert part <= (0.05 if full else 0.5)
        assert part >= (0.02 if full else 0.2)


def test_a_whole_core_for_a_budget_still_leaves_time_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    monkeypatch.setattr(shadow, "TIMED", 0.0)
    made = Shadow(lane(), lane(version=2), rollout("shadow", shadow_budget=1.0).spec)
    note_rests(made, rests, monkeypatch)
    monkeypatch.setattr(made._load, "rested", lambda: None)
    made._load._judged = -100.0
    made.offer(made.copy([{"x": scores(0)}], [{"predicted_class": 0}], [b"A" * 88], 0))
    until(lambda: rests)
    made.close()
    made._thread.join(10)
    assert rests == [WINDOW_S]


def note_rests(made: Shadow, rests: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not rest, and says how long it would have."""

    def wait(seconds: float) -> bool:
        rests.append(seconds)
        return made._closed.is_set()

    monkeypatch.setattr(made._closed, "wait", wait)


def until(holds: Callable[[], object], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come to hold in time"
        time.sleep(0.002)
