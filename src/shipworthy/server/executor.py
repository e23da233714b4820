"""Where batches wait for a free stream of the engine, and run."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from ..contract import Array, Arrays


@dataclass(frozen=True, slots=True)
class Done:
    """The outputs of a batch, and how long it waited and ran."""

    outputs: dict[str, Array]
    queue_s: float
    compute_s: float


class QueueFullError(Exception):
    """As many batches wait as may."""


class StoppedError(Exception):
    """The executor takes no more batches."""


class Executor(Protocol):
    """Runs batches. Called from one event loop."""

    async def submit(self, feeds: Arrays) -> Done:
        """Outputs for inputs [n, ...] by name. A caller that is cancelled gives up its place in the queue.

        Raises QueueFullError, StoppedError, and what the engine raises."""
        ...

    def close(self) -> None:
        """Finish what was submitted, and take no more."""
        ...


class ThreadExecutor:
    """One thread for each stream; a batch is run as it was sent, first come, first served."""

    def __init__(self, run: Callable[[Arrays], dict[str, Array]], *, streams: int, max_waiting: int) -> None:
        self._run = run
        self._places = threading.Semaphore(streams + max_waiting)
        self._stopped = False
        self._threads = ThreadPoolExecutor(streams, thread_name_prefix="shipworthy-stream")

    async def submit(self, feeds: Arrays) -> Done:
        if self._stopped:
            raise StoppedError
        if not self._places.acquire(blocking=False):
            raise QueueFullError
        future = self._threads.submit(self._timed, feeds, time.perf_counter())
        # A batch keeps its place until its thread is done with it, even where its caller has left.
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        self._stopped = True
        self._threads.shutdown(wait=True)

    def _timed(self, feeds: Arrays, submitted: float) -> Done:
        started = time.perf_counter()
        outputs = self._run(feeds)
        return Done(outputs, started - submitted, time.perf_counter() - started)
