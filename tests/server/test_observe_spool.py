"""The spool: what is left in it is handed on in order, or counted as lost; never in the way of who leaves it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shipworthy.server.observe.spool import Spool


class Taker:
    """Keeps what it is handed, while it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered, self.go = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, items: list[int]) -> None:
        self.entered.set()
        assert self.go.wait(10)
        self.batches.append(items)

    @property
    def items(self) -> list[int]:
        return [item for batch in self.batches for item in batch]


@contextmanager
def spooling(taker: Taker, batch: int = 8, linger_s: float = 60.0) -> Iterator[Spool[int]]:
    spool: Spool[int] = Spool("test-spool", taker, batch=batch, linger_s=linger_s)
    yield spool
    taker.go.set()
    spool.close(10)
    assert not [one for one in threading.enumerate() if one.name == "test-spool"]


def test_all_is_handed_on_in_its_order_and_never_too_much_at_once() -> None:
    taker = Taker()
    with spooling(taker) as spool:
        for number in range(100):
            spool.put(number, 1000)
        assert spool.flush(10)
    assert taker.items == list(range(100))
    assert max(map(len, taker.batches)) <= 8 and min(map(len, taker.batches)) >= 1
    assert spool.dropped == 0


def test_nothing_is_handed_on_before_it_lingered_or_was_woken() -> None:
    taker = Taker()
    with spooling(taker) as spool:
        spool.put(1, 10)
        assert not taker.entered.wait(0.05)
        assert spool.waiting == 1
        spool.wake()
        assert taker.entered.wait(10)
    slow = Taker()
    with spooling(slow, linger_s=0.02) as spool:
        spool.put(2, 10)
        assert slow.entered.wait(10)
    assert (taker.items, slow.items) == ([1], [2])


def test_what_finds_no_room_is_counted() -> None:
    taker = Taker()
    with spooling(taker) as spool:
        for number in range(10):
            spool.put(number, 4)
        spool.put(10, 5)  # others may have more room
        assert (spool.waiting, spool.dropped) == (5, 6)
        assert spool.flush(10)
    assert taker.items == [0, 1, 2, 3, 10]


def test_a_taker_that_takes_long_holds_nobody_up_and_is_waited_for_by_who_flushes() -> None:
    taker = Taker()
    taker.go.clear()
    with spooling(taker) as spool:
        spool.put(1, 10)
        spool.wake()
        assert taker.entered.wait(10)
        assert spool.waiting == 0
        started = time.perf_counter()
        spool.put(2, 10)
        assert time.perf_counter() - started < 1.0
        assert spool.flush(0.05) is False, "the first is still being handed on"
        taker.go.set()
        assert spool.flush(10)
        assert taker.items == [1, 2]


def test_the_end_waits_as_long_as_it_is_told_and_drops_what_comes_later() -> None:
    taker = Taker()
    taker.go.clear()
    with spooling(taker) as spool:
        spool.put(1, 10)
        started = time.perf_counter()
        spool.close(0.05)
        assert time.perf_counter() - started < 5.0
        spool.put(2, 10)
        assert spool.dropped == 1
    assert taker.items == [1], "what was left in time is handed on, however late"


@pytest.mark.parametrize("threads", [4])
def test_each_item_is_handed_on_or_counted_once_where_threads_meet(threads: int) -> None:
    each, taker = 5000, Taker()

    def leave() -> None:
        for number in range(each):
            spool.put(number, 64)
            spool.wake()
            spool.drop(1)

    with spooling(taker) as spool:
        leaving = [threading.Thread(target=leave) for _ in range(threads)]
        for one in leaving:
            one.start()
        for one in leaving:
            one.join()
        assert spool.flush(10)
    assert len(taker.items) + spool.dropped == 2 * threads * each
    assert spool.dropped >= threads * each
