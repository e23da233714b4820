"""The policy at work: batches that the scheduler gives run on the event loop where they are short, else in threads."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from ..scheduling import Batch, Part, Queue, Refusal, Scheduler
from .engine import Engine, Outcome, Work

if TYPE_CHECKING:
    from .observe.protocol import LaneRecorder

clock = time.perf_counter

_LOG = logging.getLogger("shipworthy.server")
TURN_S = 2e-3
"""So long batches run on the event loop one after another, before what else has come has its turn there."""

SPIN_S = 150e-6
"""Where the last request came so soon after the one before, the event loop looks for the next for as long before it
sleeps. To be woken takes a core that sleeps 50 to 100 microseconds, and it finds its caches cold."""


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
    """Carries out what the scheduler decides: on one event loop, and in the threads of streams, which take their next
    batch themselves."""

    def __init__(self, cores: float) -> None:
        self._scheduler = Scheduler(cores)
        self._streams: dict[Queue, Streams] = {}
        self._called = False
        self._rested = 0.0
        """When there was last nothing left to do."""
        self._soon = False
        """Whether something has come soon after that."""
        self._guard = threading.Lock()
        """Whoever asks the scheduler or a queue what to do next has it."""

    def add(self, queue: Queue, streams: Streams) -> None:
        self._streams[queue] = streams
        with self._guard:
            self._scheduler.add(queue)

    async def remove(self, queue: Queue) -> None:
        """Forget a queue that is empty, and whose batches have ended."""
        with self._guard:
            self._scheduler.remove(queue)
        await asyncio.to_thread(self._streams.pop(queue).close)

    def admit(self, queue: Queue, now: float, size: int, due: float) -> Refusal | None:
        """See `Queue.admit`."""
        with self._guard:
            return queue.admit(now, size, due)

    def offer(self, queue: Queue, parts: Sequence[Part], now: float) -> None:
        """Let parts wait for their turn."""
        with self._guard:
            for part in parts:
                queue.offer(part, now)
        self.kick()

    def withdraw(self, queue: Queue, parts: Sequence[Part]) -> None:
        """Nobody wants these parts any more."""
        with self._guard:
            for part in parts:
                queue.withdraw(part)

    def give_up(self, queue: Queue) -> None:
        """Withdraw what waits; those who asked are told that the model takes no more."""
        with self._guard:
            parts = queue.waiting()
            for part in parts:
                queue.withdraw(part)
        for part in parts:
            if not part.payload.future.done():
                part.payload.future.set_exception(StoppedError())

    def kick(self) -> None:
        """Something waits. It is looked at when every request that has come by now is there, so that they can share
        a batch."""
        if not self._called:
            self._called = True
            self._soon = clock() - self._rested < SPIN_S
            asyncio.get_running_loop().call_soon(self._gather)

    def _gather(self) -> None:
        """Once more around the event loop: what is in the sockets by now is read before a batch keeps it waiting.

        It makes batches half as large again where many ask at once, and costs a few microseconds where one does."""
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._called = False
        until = clock() + TURN_S
        rows = 0
        while (batch := self._next(clock())) is not None:
            self._begin(batch)
            rows += batch.rows
            if clock() > until:
                self.kick()
                break
        for queue in self._streams:
            if queue.expired:
                self._expire(queue)
        if not self._called:
            self._rested = clock()
            # Of many who ask at once one would be met alone; and an engine that runs has more use for the core.
            if self._soon and rows == 1 and not any(queue.running for queue in self._streams):
                self._linger()

    def _linger(self) -> None:
        """Look for the next request without sleeping."""
        if not self._called and clock() - self._rested < SPIN_S:
            asyncio.get_running_loop().call_soon(self._linger)

    def _next(self, now: float) -> Batch | None:
        with self._guard:
            return self._scheduler.next(now)

    def _begin(self, batch: Batch) -> None:
        streams = self._streams[batch.queue]
        if streams.threads is not None:
            loop = asyncio.get_running_loop()
            streams.threads.submit(self._stream, [batch], streams, loop).add_done_callback(_check)
            return
        outcome = streams.engine.run(batch)
        with self._guard:
            self._scheduler.done(batch, clock(), outcome.seconds, outcome.spent)
        _deliver(batch, streams, outcome)

    def _stream(self, first: list[Batch], streams: Streams, loop: asyncio.AbstractEventLoop) -> None:
        """Run batches of one queue until it has none, or it is another's turn.

        `first` is taken out of its list, so that nobody keeps it as long as this goes on."""
        batch: Batch | None = first.pop()
        while batch is not None:
            batch = self._run(batch, streams, loop)

    def _run(self, batch: Batch, streams: Streams, loop: asyncio.AbstractEventLoop) -> Batch | None:
        """Run a batch; gives the next one of its queue, if there is one. That starts before anybody is told of the
        last: the event loop may be some time in coming."""
        outcome = streams.engine.run(batch)
        following: Batch | None = None
        try:
            with self._guard:
                now = clock()
                self._scheduler.done(batch, now, outcome.seconds, outcome.spent)
                following = self._scheduler.next(now, threaded=True)
        finally:
            mine = following is None or following.queue is batch.queue
            loop.call_soon_threadsafe(self._freed, batch, streams, outcome, None if mine else following)
        return following if mine else None

    def _freed(self, batch: Batch, streams: Streams, outcome: Outcome, other: Batch | None) -> None:
        try:
            if other is not None:
                self._begin(other)
            self._look()
        finally:
            _deliver(batch, streams, outcome)

    def _expire(self, queue: Queue) -> None:
        with self._guard:
            parts, queue.expired = queue.expired, []
        for part in parts:
            work: Work = part.payload
            if not work.future.done():
                work.future.set_exception(DeadlineError())


def _check(ended: Future[None]) -> None:
    if (error := ended.exception()) is not None:
        _LOG.critical("a stream has ended", exc_info=error)


def _deliver(batch: Batch, streams: Streams, outcome: Outcome) -> None:
    for part, result in zip(batch.parts, outcome.results, strict=True):
        work: Work = part.payload
        if work.future.done():
            continue
        if isinstance(result, Exception):
            work.future.set_exception(result)
        else:
            work.future.set_result(result)
    for run in outcome.runs:
        if not run.failed:
            streams.metrics.ran(run.rows, run.bucket, len(run.waited), run.waited, run.seconds)
