"""Who runs what, and when: the event loop, and threads that take their next batch themselves."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from shipworthy.scheduling import Batch, Curve, Part, Queue
from shipworthy.server import dispatch
from shipworthy.server.dispatch import Dispatcher, StoppedError, Streams
from shipworthy.server.engine import Outcome, Run, Work
from shipworthy.server.observe.metrics import Metrics

pytestmark = pytest.mark.anyio


class Runs:
    """An engine that notes what it runs."""

    def __init__(self, seconds: float = 0.0, go: threading.Event | None = None) -> None:
        self.seconds, self.go = seconds, go
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def run(self, batch: Batch) -> Outcome:
        self.batches.append(batch.rows)
        self.threads.add(threading.get_ident())
        if self.go is not None:
            assert self.go.wait(10)
        time.sleep(self.seconds)
        ran = Run(batch.rows, batch.bucket, [0.0] * len(batch.parts), self.seconds or 1e-4, failed=False)
        return Outcome([object() for _ in batch.parts], [ran], batch.bucket)  # type: ignore[misc]


@pytest.fixture
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def added(dispatcher: Dispatcher, engine: Runs, *, threads: int, name: str = "m") -> Queue:
    queue = Queue(name, Curve({1: 1e-3, 4: 2e-3}), streams=max(1, threads), cores=1.0 if threads else 0.0)
    streams = Streams(engine, Metrics().lane(name, "1"), threads)  # type: ignore[arg-type]
    dispatcher.add(queue, streams)
    return queue


def part(waiter: object, due: float | None = None) -> Part:
    feeds = {"x": np.zeros((1, 1), np.float32)}
    return Part(1, dispatch.clock() + 60 if due is None else due, Work(waiter, feeds))  # type: ignore[arg-type]


def offered(dispatcher: Dispatcher, queue: Queue, count: int) -> list[asyncio.Future[object]]:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[object]] = [loop.create_future() for _ in range(count)]
    dispatcher.offer(queue, [part(future) for future in futures], dispatch.clock())
    return futures


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


async def test_what_is_given_up_never_runs(quick_switches: None) -> None:
    """Threads take batches while the queue is emptied."""
    dispatcher = Dispatcher(4.0)
    engine = Runs()
    queue = added(dispatcher, engine, threads=4)
    for _ in range(60):
        engine.batches.clear()
        futures = offered(dispatcher, queue, 200)
        await asyncio.sleep(0.0005)
        dispatcher.give_up(queue)
        await until(lambda: not queue.running)
        results = await asyncio.gather(*futures, return_exceptions=True)
        stopped = [one for one in results if isinstance(one, StoppedError)]
        assert sum(engine.batches) == len(results) - len(stopped)
        assert queue.rows == 0
    await dispatcher.remove(queue)


async def test_parts_expire_while_threads_work(quick_switches: None) -> None:
    dispatcher = Dispatcher(2.0)
    engine = Runs(1e-4)
    queue = added(dispatcher, engine, threads=2)
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[object]] = []
    for number in range(2000):
        future: asyncio.Future[object] = loop.create_future()
        futures.append(future)
        one = part(future, dispatch.clock() + (1e-3 if number % 2 else 60))
        one.expires = one.due
        dispatcher.offer(queue, [one], dispatch.clock())
    results = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 30)
    late = sum(isinstance(one, dispatch.DeadlineError) for one in results)
    assert late and not any(isinstance(one, dispatch.DeadlineError) for one in results[::2])
    assert sum(engine.batches) == len(results) - late
    await dispatcher.remove(queue)


async def test_two_models_share_their_threads_turns() -> None:
    """A thread that draws a batch of another model hands it on."""
    dispatcher = Dispatcher(1.0)
    engines = [Runs(1e-3), Runs(1e-3)]
    queues = [added(dispatcher, engine, threads=1, name=name) for engine, name in zip(engines, "ab", strict=True)]
    futures = [future for queue in queues for future in offered(dispatcher, queue, 100)]
    await asyncio.wait_for(asyncio.gather(*futures), 20)
    assert [sum(engine.batches) for engine in engines] == [100, 100]
    assert all(len(engine.threads) == 1 for engine in engines) and not engines[0].threads & engines[1].threads
    for queue in queues:
        await dispatcher.remove(queue)


async def test_threads_leave_the_event_loops_models_to_it() -> None:
    dispatcher = Dispatcher(1.0)
    heavy, light = Runs(2e-3), Runs()
    busy, quick = added(dispatcher, heavy, threads=1, name="a"), added(dispatcher, light, threads=0, name="b")
    futures = offered(dispatcher, busy, 60)
    while not all(future.done() for future in futures):
        await asyncio.gather(*offered(dispatcher, quick, 3))
        await asyncio.sleep(0)
    assert light.threads == {threading.get_ident()} and sum(heavy.batches) == 60
    for queue in (busy, quick):
        await dispatcher.remove(queue)


async def test_a_busy_stream_keeps_nothing_of_batches_that_are_done() -> None:
    dispatcher = Dispatcher(1.0)
    go = threading.Event()
    engine = Runs(go=go)
    queue = added(dispatcher, engine, threads=1)
    futures = offered(dispatcher, queue, 1)
    await until(lambda: engine.batches)
    part = weakref.ref(queue.running[0].parts[0].payload)
    go.set()
    go.clear()
    later = offered(dispatcher, queue, 8)
    await asyncio.gather(*futures)
    await until(lambda: len(engine.batches) == 2 and part() is None)
    assert not any(future.done() for future in later)
    go.set()
    await asyncio.gather(*later)
    await dispatcher.remove(queue)


async def test_the_event_loop_sleeps_where_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher = Dispatcher(1.0)
    queue = added(dispatcher, Runs(), threads=0)
    looked = 0
    linger = Dispatcher._linger

    def counted(self: Dispatcher) -> None:
        nonlocal looked
        looked += 1
        linger(self)

    monkeypatch.setattr(Dispatcher, "_linger", counted)
    monkeypatch.setattr(dispatch, "SPIN_S", 0.01)
    await asyncio.sleep(0.02)
    await asyncio.gather(*offered(dispatcher, queue, 1))
    assert not looked, "nothing had come before"
    await asyncio.gather(*offered(dispatcher, queue, 1))
    await asyncio.sleep(0.05)
    assert looked > 1, "the second came soon after the first"
    so_far = looked
    await asyncio.sleep(0.05)
    assert looked == so_far, "and then none"
    await asyncio.gather(*offered(dispatcher, queue, 4))
    assert looked == so_far
    await dispatcher.remove(queue)
