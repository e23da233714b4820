"""Timed loops over a runner, in the process that holds it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..contract import Array, Arrays
from ..runtime.cuda import CudaRunner
from ..runtime.cuda_graphs import RUNS_UNTIL_CAPTURED
from ..runtime.protocol import Runner

MOST_RUNS = 20_000
"""Of one stream in one loop: more would make the answer long, and the quantiles no better."""

Run = Callable[[Arrays], dict[str, Array]]


@dataclass(frozen=True, slots=True)
class Loop:
    """What a closed loop saw: runs per second of all streams together, and the time of each run in seconds."""

    rate: float
    times: tuple[float, ...]


def warm_up(run: Run, feeds: Arrays, *, seconds: float, least: int) -> None:
    """Run until both are reached: engines settle memory, caches and kernels in their first runs."""
    end = time.perf_counter() + seconds
    done = 0
    while done < least or (time.perf_counter() < end and done < MOST_RUNS):
        run(feeds)
        done += 1


def least_warm_up(runner: Runner, asked: int, streams: int) -> int:
    """Runs before any is timed: on a GPU until every stream has captured the size, which takes as long as many runs.

    A runner gives its streams out in turn, so that one caller warms them all."""
    return max(asked, RUNS_UNTIL_CAPTURED * streams) if isinstance(runner, CudaRunner) else asked


def compute_times(runner: Runner, feeds: Arrays, *, runs: int) -> tuple[float, ...] | None:
    """Seconds that the device itself computes in each run, by its own events; None where the graph runs on the CPU.

    A closed loop times the whole answer, with the copies to the device and back."""
    return runner.compute_times(feeds, runs) if isinstance(runner, CudaRunner) else None


def closed_loop(run: Run, feeds: Arrays, *, streams: int, seconds: float, least: int) -> Loop:
    """Each of `streams` callers starts its next run when its last one is done, for `seconds` and at least `least` runs.

    The rate is the sum of the callers' own rates, so that the wait for the last of them does not count."""
    with _no_collection():
        if streams == 1:
            times = _caller(run, feeds, seconds, least)
            return Loop(len(times) / sum(times), tuple(times))
        return _streams(run, feeds, streams, seconds, least)


def _streams(run: Run, feeds: Arrays, streams: int, seconds: float, least: int) -> Loop:
    start = threading.Barrier(streams)
    times: list[list[float]] = [[] for _ in range(streams)]
    errors: list[Exception] = []

    def call(index: int) -> None:
        start.wait()
        try:
            times[index] = _caller(run, feeds, seconds, least)
        except Exception as error:  # noqa: BLE001  carried to the caller's thread, and raised there
            errors.append(error)

    threads = [threading.Thread(target=call, args=(index,)) for index in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return Loop(sum(len(own) / sum(own) for own in times), tuple(seconds for own in times for seconds in own))


def _caller(run: Run, feeds: Arrays, seconds: float, least: int) -> list[float]:
    times: list[float] = []
    now = time.perf_counter()
    end = now + seconds
    while (now < end or len(times) < least) and len(times) < MOST_RUNS:
        before = now
        run(feeds)
        now = time.perf_counter()
        times.append(now - before)
    return times


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's cycle collector would add its pauses to single runs."""
    gc.collect()
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
