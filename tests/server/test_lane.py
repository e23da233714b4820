"""A lane: who is taken on, what a request that leaves takes along, and how requests share batches."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from server_cases import PRICES, predictor

from shipworthy.contract import Array, Arrays
from shipworthy.errors import InputError
from shipworthy.server import dispatch
from shipworthy.server.catalog import Catalog
from shipworthy.server.dispatch import DeadlineError, StoppedError
from shipworthy.server.lane import Lane, RefusedError
from shipworthy.server.settings import Settings

pytestmark = pytest.mark.anyio


class Held:
    """A model that waits to be let go, and notes how many rows each run had."""

    def __init__(self, held: bool = True) -> None:
        self.go = threading.Event()
        self.sizes: list[int] = []
        if not held:
            self.go.set()

    def __call__(self, feeds: Arrays) -> dict[str, Array]:
        self.sizes.append(len(feeds["row"]))
        assert self.go.wait(30)
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}


@asynccontextmanager
async def served(run: Callable[[Arrays], dict[str, Array]], **settings: Any) -> AsyncIterator[Lane]:
    catalog = Catalog(Settings(**settings))
    catalog.open([("prices", predictor(PRICES, run))])
    lane = catalog.lane("prices")
    try:
        yield lane
    finally:
        if isinstance(run, Held):
            run.go.set()
        await catalog.close()
        assert (lane.queue.requests, lane.queue.bytes, lane.queue.rows) == (0, 0, 0)


def rows(*values: float) -> dict[str, Array]:
    return {"row": np.array([[value, value] for value in values], np.float32)}


async def ask(lane: Lane, feeds: Arrays, timeout_s: float | None = None, size: int = 8) -> list[float]:
    with lane.admit(size, timeout_s) as place:
        ran = await place.run(feeds)
    return [float(value) for value in ran.outputs["price"][:, 0]]


async def running(model: Held, count: int = 1) -> None:
    while len(model.sizes) < count:
        await asyncio.sleep(0.001)


async def test_requests_that_wait_share_a_batch() -> None:
    model = Held()
    async with served(model) as lane:
        first = asyncio.create_task(ask(lane, rows(1)))
        await running(model)
        others = [asyncio.create_task(ask(lane, rows(value), 30)) for value in range(2, 7)]
        await asyncio.sleep(0.01)
        model.go.set()
        assert await first == [2.0]
        assert [await other for other in others] == [[2.0 * value] for value in range(2, 7)]
    assert model.sizes[0] == 1
    assert sum(model.sizes[1:]) >= 5
    assert len(model.sizes) <= 3


async def test_stream_goes_on_while_the_event_loop_is_busy() -> None:
    model = Held()
    async with served(model) as lane:
        first = asyncio.create_task(ask(lane, rows(1)))
        await running(model)
        others = [asyncio.create_task(ask(lane, rows(value), 30)) for value in range(2, 20)]
        while lane.queue.rows < len(others):
            await asyncio.sleep(0.001)
        model.go.set()
        end = time.monotonic() + 10
        while sum(model.sizes) < 19 and time.monotonic() < end:
            time.sleep(0.001)
        assert sum(model.sizes) >= 19 and not first.done(), "several batches have run, and nobody was told"
        assert len(model.sizes) >= 3
        assert [await one for one in (first, *others)] == [[2.0 * value] for value in range(1, 20)]


async def test_large_request_runs_in_several_batches_in_order() -> None:
    model = Held(held=False)
    async with served(model) as lane:
        assert await ask(lane, rows(*range(100))) == [2.0 * value for value in range(100)]
    assert max(model.sizes) == 8


async def test_large_request_on_the_event_loop_leaves_turns_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TURN_S", 0.0)
    async with served(Held(held=False)) as lane:
        lane._dispatcher._streams[lane.queue].threads = None
        large = asyncio.create_task(ask(lane, rows(*range(10_000)), 30))
        turns = 0
        while not large.done():
            await asyncio.sleep(0)
            turns += 1
        assert await large == [2.0 * value for value in range(10_000)]
        assert turns > 1_000


async def test_request_that_would_be_late_is_refused_at_the_door() -> None:
    model = Held()
    async with served(model, target_ms=50) as lane:
        first = asyncio.create_task(ask(lane, rows(1), 30))
        await running(model)
        # The run has taken so long by now that it is not expected to end soon.
        await asyncio.sleep(0.2)
        with pytest.raises(RefusedError) as refused:
            lane.admit(8)
        assert refused.value.refusal.reason == "deadline"
        assert refused.value.refusal.retry_s > 0
        model.go.set()
        assert await first == [2.0]


async def test_lone_request_is_never_refused() -> None:
    async with served(Held(held=False), target_ms=1, max_waiting_bytes=1) as lane:
        assert await ask(lane, rows(1), timeout_s=None, size=10**6) == [2.0]


@pytest.mark.parametrize(("bounds", "reason"), [({"max_waiting": 2}, "requests"), ({"max_waiting_bytes": 20}, "bytes")])
async def test_bounds_of_what_waits(bounds: dict[str, int], reason: str) -> None:
    model = Held()
    async with served(model, **bounds) as lane:
        tasks = [asyncio.create_task(ask(lane, rows(1), 30)) for _ in range(2)]
        await running(model)
        with pytest.raises(RefusedError) as refused:
            lane.admit(8, 30)
        assert refused.value.refusal.reason == reason
        model.go.set()
        await asyncio.gather(*tasks)
        assert await ask(lane, rows(1)) == [2.0]


async def test_body_in_chunks_counts_as_the_longest_until_it_is_there() -> None:
    model = Held()
    async with served(model, max_waiting_bytes=2000) as lane:
        first = asyncio.create_task(ask(lane, rows(1), 30))
        await running(model)
        with lane.admit(1500, 30) as place:
            with pytest.raises(RefusedError):
                lane.admit(1500, 30)
            place.weigh(20)
            with lane.admit(1500, 30):
                assert lane.queue.bytes == 8 + 20 + 1500
        model.go.set()
        assert await first == [2.0]


async def test_caller_that_leaves_frees_its_place_and_is_not_run() -> None:
    model = Held()
    async with served(model) as lane:
        first = asyncio.create_task(ask(lane, rows(1), 30))
        await running(model)
        leaving = [asyncio.create_task(ask(lane, rows(*range(8)), 30)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert lane.queue.requests == 4
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        assert (lane.queue.requests, lane.queue.rows) == (1, 0)
        model.go.set()
        assert await first == [2.0]
    assert model.sizes == [1]


async def test_part_whose_time_is_over_is_not_run() -> None:
    model = Held()
    async with served(model) as lane:
        first = asyncio.create_task(ask(lane, rows(1), 30))
        await running(model)
        with lane.admit(8, 0.05) as place:
            late = asyncio.create_task(place.run(rows(2)))
            await asyncio.sleep(0.1)
            model.go.set()
            with pytest.raises(DeadlineError):
                await late
        assert await first == [2.0]
    assert model.sizes == [1]


async def test_inputs_are_checked_before_they_wait() -> None:
    async with served(Held(held=False)) as lane:
        with lane.admit(8) as place, pytest.raises(InputError, match="float32"):
            await place.run({"row": np.zeros((1, 2))})


async def test_nothing_is_taken_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    model, refused = Held(), list[str]()
    async with served(model) as lane:
        monkeypatch.setattr(lane.metrics, "refused", refused.append)
        first = asyncio.create_task(ask(lane, rows(1), 30))
        await running(model)
        waiting = asyncio.create_task(ask(lane, rows(*range(8)), 30))
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(lane.close())
        with pytest.raises(StoppedError):
            await waiting
        with pytest.raises(StoppedError):
            lane.admit(8)
        assert refused == ["draining"]
        model.go.set()
        assert await first == [2.0]
        await closing


async def test_drained_lane_has_answered_everything() -> None:
    async with served(Held(held=False)) as lane:
        asked = [asyncio.create_task(ask(lane, rows(value), 30)) for value in range(20)]
        await asyncio.sleep(0)
        await lane.drain()
        assert all(task.done() for task in asked)
        assert [task.result() for task in asked] == [[2.0 * value] for value in range(20)]
