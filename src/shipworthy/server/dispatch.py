"""The policy at work: batches that the scheduler gives run on the event loop where they are short, else in threads."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ..scheduling import Batch, Queue, Refusal, Scheduler
from .engine import Engine, Outcome, Work

if TYPE_CHECKING:
    from .observe.protocol import LaneRecorder

clock = time.perf_counter

TURN_S = 2e-3
"""So long batches run on the event loop one after another, before what else has come has its turn there."""


class DeadlineError(TimeoutError):
    """A request's time was over before its turn came."""


class StoppedError(Exception):
    """The model takes no more requests."""


class RefusedError(Exception):
    """The request is not taken on; nothing of it was read."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.reason)


class Streams:
    """Where the batches of one queue run."""

    def __init__(self, engine: Engine, metrics: LaneRecorder, threads: int) -> None:
        """No `threads`: on the event loop itself, which saves handing over what takes less time than that."""
        self.engine = engine
        self.metrics = metrics
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="shipworthy-stream") if threads else None

    def close(self) -> None:
        if self.threads is not None:
            self.threads.shutdown(wait=True)


class Dispatcher:
    """Carries out what the scheduler decides. Everything but the runs in threads happens on one event loop."""

    def __init__(self, cores: float) -> None:
        self._scheduler = Scheduler(cores)
        self._streams: dict[Queue, Streams] = {}
        self._called = False

    def add(self, queue: Queue, streams: Streams) -> None:
        self._streams[queue] = streams
        self._scheduler.add(queue)

    async def remove(self, queue: Queue) -> None:
        """Forget a queue that is empty, and whose batches have ended."""
        self._scheduler.remove(queue)
        await asyncio.to_thread(self._streams.pop(queue).close)

    def give_up(self, queue: Queue) -> None:
        """Withdraw what waits; those who asked are told that the model takes no more."""
        for part in queue.waiting():
            queue.withdraw(part)
            if not part.payload.future.done():
                part.payload.future.set_exception(StoppedError())

    def kick(self) -> None:
        """Something waits. It is looked at when every request that has come by now is there, so that they can share
        a batch."""
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._gather)

    def _gather(self) -> None:
        """Once more around the event loop: what is in the sockets by now is read before a batch keeps it waiting.

        It makes batches half as large again where many ask at once, and costs a few microseconds where one does."""
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._called = False
        until = clock() + TURN_S
        while (batch := self._scheduler.next(clock())) is not None:
            streams = self._streams[batch.queue]
            if batch.queue.expired:
                _expire(batch.queue)
            if streams.threads is None:
                self._ended(batch, streams, streams.engine.run(batch))
                if clock() > until:
                    self.kick()
                    break
            else:
                self._start(batch, streams, streams.threads)
        for queue in self._streams:
            if queue.expired:
                _expire(queue)

    def _start(self, batch: Batch, streams: Streams, threads: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()

        def run() -> None:
            outcome = streams.engine.run(batch)
            loop.call_soon_threadsafe(self._freed, batch, streams, outcome)

        threads.submit(run)

    def _freed(self, batch: Batch, streams: Streams, outcome: Outcome) -> None:
        # The stream gets its next batch before anybody is told of the last one.
        self._scheduler.done(batch, clock(), outcome.seconds)
        self._look()
        _deliver(batch, streams, outcome)

    def _ended(self, batch: Batch, streams: Streams, outcome: Outcome) -> None:
        self._scheduler.done(batch, clock(), outcome.seconds)
        _deliver(batch, streams, outcome)


def _deliver(batch: Batch, streams: Streams, outcome: Outcome) -> None:
    waited = []
    for part, result in zip(batch.parts, outcome.results, strict=True):
        work: Work = part.payload
        if isinstance(result, Exception):
            if not work.future.done():
                work.future.set_exception(result)
            continue
        waited.append(result.queue_s)
        if not work.future.done():
            work.future.set_result(result)
    if outcome.seconds is not None:
        streams.metrics.ran(batch.rows, batch.bucket, len(batch.parts), waited, outcome.seconds)


def _expire(queue: Queue) -> None:
    for part in queue.expired:
        work: Work = part.payload
        if not work.future.done():
            work.future.set_exception(DeadlineError())
    queue.expired.clear()
