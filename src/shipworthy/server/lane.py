"""One version of one model that is served: admission, and the way of its rows to the engine and back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from ..contract import BATCH, Arrays
from ..errors import InputError, Problem
from ..runtime.feeds import Gate
from ..scheduling import Bounds, Curve, Part, Queue, Refusal
from .dispatch import Dispatcher, RefusedError, StoppedError, Streams, clock
from .engine import Engine
from .incoming import Reading, give_way
from .place import Place
from .settings import Settings

if TYPE_CHECKING:
    from threading import Thread

    from ..predict import Predictor
    from ..predict.answers import Naming
    from .observe.protocol import LaneRecorder
    from .routing import Watch

T = TypeVar("T")

INLINE_S = 0.5e-3
"""A model whose largest batch takes no longer is run on the event loop: handing it to a thread would cost as much."""
ANSWERING_S = 4e-3
"""Of the target, at most so much is left for writing the answer, and for the way here: where all cores compute, either
may wait for a slice of some milliseconds."""
INLINE_BATCH = 65_536
"""Where a batch has more numbers, the answers are written beside the event loop, all of them by the first that asks."""
DEFAULT_TARGET_MS = 50.0
"""Where neither the operator nor the contract says how soon an answer is to be given."""


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
        naming: Naming | None = None,
        watch: Watch | None = None,
    ) -> None:
        """`naming` gives the ids of its answers; by default they are random. `watch` sees what it answers."""
        self.predictor = predictor
        self.model = model
        self.version = predictor.version
        self.settings = settings
        self.metrics = metrics
        self.naming = naming
        self.watch = watch
        self.rows = predictor.codec.rows if predictor.mixes else None
        """Converts the numbers of several requests together; None also where rows must not share a batch."""
        self.closed = False
        self.reading: Reading = {}
        self.borrowers: list[Thread] = []
        """Threads that run the predictor too; it is not closed before they have ended."""
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
        self.aim_s = self.target_s - min(ANSWERING_S, self.target_s / 10)
        """When an answer has to leave the engine, after the headers came."""
        self.inline = inline
        self.express = inline and self.rows is not None and _values(predictor) * curve.largest <= INLINE_BATCH
        """Whether requests for one instance may be answered as soon as their batch has run, by whoever ran it."""
        self._mixes = predictor.mixes
        self._gate = Gate(predictor.manifest.signature)
        self._dynamic = any(dim.name != BATCH for dim in predictor.manifest.signature.dynamic())
        self._typical = _typical(predictor)
        self._dispatcher = dispatcher
        self._decoders = decoders
        dispatcher.add(self.queue, Streams(Engine(predictor, watch), metrics, 0 if inline else point.streams))
        metrics.in_flight = lambda: self.queue.requests
        metrics.waiting = lambda: self.queue.rows

    def admit(self, size: int, timeout_s: float | None = None) -> Place:
        """Take a request on whose body has `size` bytes, to be answered within its own time or the server's target.

        Raises RefusedError where it could not be, or where too much waits already; StoppedError at the end."""
        if self.closed:
            self.metrics.refused("draining")
            raise StoppedError
        now = clock()
        due = now + (timeout_s or self.aim_s)
        refusal = self._dispatcher.admit(self.queue, now, size, due)
        if refusal is not None and refusal.reason != "deadline":
            refusal = self._make_room(refusal, now, size, due)
        if refusal is not None:
            self.metrics.refused(refusal.reason)
            raise RefusedError(refusal)
        return Place(self, size, now, timeout_s)

    def _make_room(self, refusal: Refusal, now: float, size: int, due: float) -> Refusal | None:
        """Take a request on in the place of those whose bodies hardly come; who only announces one holds no place."""
        while give_way(self.reading, now):
            found = self._dispatcher.admit(self.queue, now, size, due)
            if found is None or found.reason == "deadline":
                return found
        return refusal

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
        self._dispatcher.offer(self.queue, parts, clock())

    def withdraw(self, parts: Sequence[Part]) -> None:
        """Nobody wants these parts any more."""
        self._dispatcher.withdraw(self.queue, parts)

    def check(self, feeds: Arrays) -> None:
        """Raises InputError with every fault where the inputs do not fit the model, or have no row."""
        self._gate.accept(feeds)
        name, array = next(iter(feeds.items()))
        if not len(array):
            raise InputError([Problem(0, name, "has no rows")])

    def key(self, feeds: Arrays) -> tuple[Hashable, float]:
        """What rows must have in common to share a batch: their shapes, padded where the contract allows that; and what
        a row of these shapes may cost, in multiples of those that the batches were timed with."""
        if not self._mixes:
            return object(), 1.0
        if not self._dynamic:
            return None, 1.0
        padding = self.predictor.padding
        shapes = tuple(array.shape[1:] for array in feeds.values()) if padding is None else padding.padded_key(feeds)
        return shapes, 1.0 if self._typical is None else sum(map(math.prod, shapes)) / self._typical

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
        while self.queue.requests or self.queue.running or self._borrowed():
            await asyncio.sleep(0.005)

    async def close(self, within_s: float = math.inf) -> bool:
        """Take no more, give up what waits, and finish what runs. A second call does nothing.

        False where the engine has not come back `within_s` seconds, so that it cannot be freed."""
        if self.closed:
            return True
        self.closed = True
        self._dispatcher.give_up(self.queue)
        end = clock() + within_s
        while self.queue.running or self._borrowed():
            if clock() > end:
                return False
            await asyncio.sleep(0.001)
        await self._dispatcher.remove(self.queue)
        self.metrics.close()
        if self.watch is not None:
            self.watch.close()
        return True

    def _borrowed(self) -> bool:
        return any(thread.is_alive() for thread in self.borrowers)


def _typical(predictor: Predictor) -> int | None:
    """Numbers in a row of the first golden case, with which the batches were timed; None where they were not."""
    if predictor.costs is None:
        return None
    return max(1, sum(math.prod(array.shape[1:]) for array in predictor.package.golden.cases[0].inputs.values()))


def _values(predictor: Predictor) -> float:
    """Numbers in the outputs of a row; infinite where that depends on the row."""
    total = 0.0
    for spec in predictor.contract.outputs.values():
        sizes = [size for size in spec.shape if isinstance(size, int)]
        total += math.prod(sizes) if len(spec.shape) - len(sizes) <= spec.batched else math.inf
    return total
