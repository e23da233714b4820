"""Where batches wait and run."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from shipworthy.contract import Array, Arrays
from shipworthy.server import Executor, QueueFullError, StoppedError, ThreadExecutor

pytestmark = pytest.mark.anyio


async def test_streams_run_at_the_same_time_and_no_more() -> None:
    meeting, running, most = threading.Barrier(2, timeout=10), 0, 0
    lock = threading.Lock()

    def run(feeds: Arrays) -> dict[str, Array]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        meeting.wait()
        with lock:
            running -= 1
        return {"y": feeds["x"]}

    executor: Executor = ThreadExecutor(run, streams=2, max_waiting=10)
    done = await asyncio.gather(*(executor.submit({"x": np.array([i])}) for i in range(6)))
    executor.close()
    assert [int(part.outputs["y"][0]) for part in done] == list(range(6))
    assert most == 2
    assert all(part.queue_s >= 0 and part.compute_s > 0 for part in done)


async def test_queue_is_bounded_and_places_come_back() -> None:
    gate = threading.Event()

    def run(feeds: Arrays) -> dict[str, Array]:
        gate.wait(10)
        return {}

    executor = ThreadExecutor(run, streams=1, max_waiting=1)
    waiting = [asyncio.create_task(executor.submit({})) for _ in range(2)]
    await asyncio.sleep(0.02)
    with pytest.raises(QueueFullError):
        await executor.submit({})
    waiting[1].cancel()
    await asyncio.sleep(0.02)
    waiting.append(asyncio.create_task(executor.submit({})))
    gate.set()
    await waiting[0]
    await waiting[2]
    executor.close()


async def test_failure_reaches_its_caller_only() -> None:
    def run(feeds: Arrays) -> dict[str, Array]:
        if "bad" in feeds:
            raise ArithmeticError("bad")
        return {}

    executor = ThreadExecutor(run, streams=1, max_waiting=5)
    good, bad = await asyncio.gather(executor.submit({}), executor.submit({"bad": np.zeros(1)}), return_exceptions=True)
    assert isinstance(bad, ArithmeticError)
    assert not isinstance(good, BaseException)
    executor.close()


async def test_closing_finishes_what_was_submitted_and_takes_no_more() -> None:
    executor = ThreadExecutor(lambda feeds: {"y": feeds["x"]}, streams=1, max_waiting=5)
    task = asyncio.create_task(executor.submit({"x": np.ones(1)}))
    await asyncio.sleep(0)
    await asyncio.to_thread(executor.close)
    assert (await task).outputs["y"].tolist() == [1.0]
    with pytest.raises(StoppedError):
        await executor.submit({})
    executor.close()
