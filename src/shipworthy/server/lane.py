"""One version of one model that is served: admission, and the way of its rows to the engine and back."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..contract import BATCH, Array, Arrays
from ..runtime.feeds import Gate
from ..scheduling import Bounds, Curve, Part, Queue, Refusal
from .dispatch import Dispatcher, StoppedError, Streams, clock
from .engine import Engine, Ran, Work
from .settings import Settings

if TYPE_CHECKING:
    from ..predict import Predictor
    from ..predict.answers import Row
    from .observe.protocol import LaneRecorder

T = TypeVar("T")

INLINE_S = 0.5e-3
"""A model whose largest batch takes no longer is run on the event loop: handing it to a thread would cost as much."""
DEFAULT_TARGET_MS = 50.0
"""Where neither the operator nor the contract says how soon an answer is to be given."""


class RefusedError(Exception):
    """The request is not taken on; nothing of it was read."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.reason)


class Lane:
    """A model that is served. Used on one event loop."""

    def __init__(
        self,
        model: str,
        predictor: Predictor,
        dispatcher: Dispatcher,
        decoders: ThreadPoolExecutor,
        settings: Settings,
        metrics: LaneRecorder,
    ) -> None:
        self.predictor = predictor
        self.model = model
        self.version = predictor.version
        self.settings = settings
        self.metrics = metrics
        self.rows = predictor.codec.rows
        self.closed = False
        costs = predictor.costs
        curve = Curve(costs or predictor.stated_costs)
        inline = costs is not None and max(costs.values()) <= INLINE_S
        point = predictor.point
        self.queue = Queue(
            self.model,
            curve,
            streams=1 if inline else point.streams,
            cores=0.0 if inline else point.threads / point.streams,
            bounds=Bounds(settings.max_waiting, settings.max_waiting_bytes),
        )
        self.target_s = (settings.target_ms or predictor.contract.limits.p99_ms or DEFAULT_TARGET_MS) / 1e3
        self.inline = inline
        self._mixes = predictor.mixes
        self._gate = Gate(predictor.manifest.signature)
        self._dynamic = any(dim.name != BATCH for dim in predictor.manifest.signature.dynamic())
        self._dispatcher = dispatcher
        self._decoders = decoders
        dispatcher.add(self.queue, Streams(Engine(predictor), metrics, 0 if inline else point.streams))
        metrics.in_flight = lambda: self.queue.requests
        metrics.waiting = lambda: self.queue.rows

    def admit(self, size: int, timeout_s: float | None = None) -> Place:
        """Take a request on whose body has `size` bytes, to be answered within its own time or the server's target.

        Raises RefusedError where it could not be, or where too much waits already; StoppedError at the end."""
        if self.closed:
            raise StoppedError
        now = clock()
        refusal = self.queue.admit(now, size, now + (timeout_s or self.target_s))
        if refusal is not None:
            self.metrics.refused(refusal.reason)
            raise RefusedError(refusal)
        return Place(self, size, now, timeout_s)

    async def beside(self, work: Callable[[], T]) -> T:
        """Do `work` in a thread, because it would keep the event loop from others."""
        waiting = [work]
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, lambda: waiting.pop()())
        finally:
            # A caller that leaves early takes its body along; the thread pool would keep it until its turn comes.
            waiting.clear()

    def send(self, parts: Sequence[Part]) -> None:
        """Let parts wait for their turn. Raises StoppedError where the lane was closed meanwhile."""
        if self.closed:
            raise StoppedError
        now = clock()
        for part in parts:
            self.queue.offer(part, now)
        self._dispatcher.kick()

    def check(self, feeds: Arrays) -> None:
        """Raises InputError with every fault where the inputs do not fit the model."""
        self._gate.accept(feeds)

    def key(self, feeds: Arrays) -> Hashable:
        """What rows must have in common to share a batch: their shapes, padded where the contract allows that."""
        if not self._mixes:
            return object()
        if not self._dynamic:
            return None
        padding = self.predictor.padding
        return tuple(array.shape[1:] for array in feeds.values()) if padding is None else padding.padded_key(feeds)

    def cut(self, rows: int, due: float, *, firm: bool) -> Iterator[tuple[int, int, float]]:
        """The parts of a request: from, to, and when each should be done.

        Later parts may take the time of those before them, unless the caller gave a `firm` one, so that a large
        request is not refused for its own work and does not stand before others."""
        if not self._mixes:
            yield 0, rows, due
            return
        start = 0
        for count, later in self.queue.cut(rows, due):
            yield start, start + count, due if firm else later
            start += count

    async def drain(self) -> None:
        """Finish the requests that were taken on. No new ones come: nobody finds the lane any more."""
        while self.queue.requests or self.queue.running:
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """Take no more, give up what waits, and finish what runs. A second call does nothing."""
        if self.closed:
            return
        self.closed = True
        self._dispatcher.give_up(self.queue)
        while self.queue.running:
            await asyncio.sleep(0.001)
        await self._dispatcher.remove(self.queue)
        self.metrics.close()


class Place:
    """A request's place in a lane, from its headers to its answer. Leaving it early withdraws what still waits."""

    __slots__ = ("_announced", "_lane", "_parts", "_size", "_timeout_s", "since")

    def __init__(self, lane: Lane, size: int, since: float, timeout_s: float | None) -> None:
        self.since = since
        """When it was taken on."""
        self._lane = lane
        self._size = size
        self._timeout_s = timeout_s
        self._announced = True
        self._parts: Sequence[Part] = ()

    def within(self, timeout_s: float) -> None:
        """The body asks for less time than the headers did."""
        self._timeout_s = timeout_s if self._timeout_s is None else min(timeout_s, self._timeout_s)

    async def run(self, feeds: Arrays) -> Ran | Joined:
        """Outputs for inputs [n, ...] by name, which may run in several batches.

        Raises InputError where they do not fit the model, what the engine raises, and StoppedError."""
        return (await self.run_all([feeds]))[0]

    async def run_all(self, groups: Sequence[Arrays]) -> list[Ran | Joined]:
        """The same for several sets of inputs, each of one shape."""
        lane = self._lane
        loop = asyncio.get_running_loop()
        made: list[list[Part]] = []
        for feeds in groups:
            lane.check(feeds)
            due = self.since + (self._timeout_s or lane.target_s)
            key = lane.key(feeds)
            cuts = lane.cut(len(next(iter(feeds.values()))), due, firm=self._timeout_s is not None)
            made.append([self._part(loop, feeds, key, *cut) for cut in cuts])
        self._offer([part for parts in made for part in parts])
        futures = [part.payload.future for part in self._parts]
        try:
            await asyncio.gather(*futures)
        finally:
            # Where one has failed, nobody asks for the others.
            for future in futures:
                future.cancel()
        return [_joined([part.payload.future.result() for part in parts]) for parts in made]

    def numbers(self, numbers: list[Any], instance: object) -> Future[Ran]:
        """The outcome for the numbers of one instance, which are converted together with those of others."""
        future: Future[Ran] = asyncio.get_running_loop().create_future()
        due = self.since + (self._timeout_s or self._lane.target_s)
        self._offer((Part(1, due, Work(future, numbers=numbers, instance=instance), expires=self._expires()),))
        return future

    def _part(
        self, loop: asyncio.AbstractEventLoop, feeds: Arrays, key: Hashable, start: int, stop: int, due: float
    ) -> Part:
        rows = {name: array[start:stop] for name, array in feeds.items()}
        count = min(stop - start, self._lane.queue.curve.largest)
        return Part(count, due, Work(loop.create_future(), feeds=rows), key=key, expires=self._expires())

    def _expires(self) -> float:
        return self.since + self._timeout_s if self._timeout_s is not None else float("inf")

    def _offer(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._lane.queue.arrived()
        self._announced = False
        self._lane.send(parts)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        queue = self._lane.queue
        if self._announced:
            queue.arrived()
        if kind is not None:
            for part in self._parts:
                queue.withdraw(part)
        queue.leave(self._size)


class Joined:
    """What several batches gave for the rows of one request; as `Ran`."""

    def __init__(self, runs: Sequence[Ran]) -> None:
        self._runs = runs
        self.queue_s = max(run.queue_s for run in runs)
        self.compute_s = sum(run.compute_s for run in runs)

    @property
    def outputs(self) -> dict[str, Array]:
        parts = [run.outputs for run in self._runs]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @property
    def values(self) -> int:
        return sum(run.values for run in self._runs)

    @property
    def answers(self) -> list[Row]:
        return [row for run in self._runs for row in run.answers]


def _joined(runs: Sequence[Ran]) -> Ran | Joined:
    return runs[0] if len(runs) == 1 else Joined(runs)
