"""A request's place in a lane, from its headers to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.types import Receive

from ..contract import Array, Arrays
from ..scheduling import Part
from .dispatch import clock
from .engine import Ran, Waiter, Work
from .head import WHOLE, Head
from .incoming import Incoming

if TYPE_CHECKING:
    from ..predict.answers import Row
    from .lane import Lane


class Place(Incoming):
    """A request's place in a lane, from its headers to its answer. Leaving it early withdraws what still waits."""

    __slots__ = ("_announced", "_lane", "_parts", "_size", "_timeout_s")

    def __init__(self, lane: Lane, size: int, since: float, timeout_s: float | None) -> None:
        super().__init__(since)
        self._lane = lane
        self._size = size
        self._timeout_s = timeout_s
        self._announced = True
        self._parts: Sequence[Part] = ()

    def weigh(self, size: int) -> None:
        """The body is there, and has so many bytes. Until then, one that comes in chunks counts as the longest one."""
        self._lane.queue.bytes += size - self._size
        self._size = size

    def within(self, timeout_s: float) -> None:
        """The body asks for less time than the headers did."""
        self._timeout_s = timeout_s if self._timeout_s is None else min(timeout_s, self._timeout_s)

    async def body(self, head: Head, receive: Receive) -> bytes:
        """The whole body. Raises ClientGone, ProblemError where it is too long, and RefusedError where it comes so
        slowly that its place was given to another."""
        # A web server that hands over whole bodies tells of their pieces itself.
        count = None if WHOLE in head.extensions else self.count
        lane = self._lane
        return await self._read(lane.reading, receive, lane.settings.max_body_bytes, count)

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
            key, scale = lane.key(feeds)
            cuts = lane.cut(len(next(iter(feeds.values()))), self._due(), firm=self._timeout_s is not None)
            made.append([self._part(loop, feeds, key, scale, *cut) for cut in cuts])
        self._offer([part for parts in made for part in parts])
        futures = [part.payload.future for part in self._parts]
        try:
            await asyncio.gather(*futures)
        finally:
            # Where one has failed, nobody asks for the others.
            for future in futures:
                future.cancel()
        return [_joined([part.payload.future.result() for part in parts]) for parts in made]

    def numbers(self, numbers: list[Any], instance: object, waiter: Waiter) -> None:
        """Tell `waiter` the outcome for the numbers of one instance, which are converted together with those of
        others."""
        part = Part(1, self._due(), Work(waiter, None, numbers, instance))
        if self._timeout_s is not None:
            part.expires = part.due
        self._offer((part,))

    def _part(
        self,
        loop: asyncio.AbstractEventLoop,
        feeds: Arrays,
        key: Hashable,
        scale: float,
        start: int,
        stop: int,
        due: float,
    ) -> Part:
        rows = {name: array[start:stop] for name, array in feeds.items()}
        count = min(stop - start, self._lane.queue.curve.largest)
        part = Part(count, due, Work(loop.create_future(), rows), key=key, scale=scale)
        if self._timeout_s is not None:
            part.expires = due
        return part

    def _due(self) -> float:
        """When the answer is to be given. Where the caller set no time, one whose body took long to come has at least
        half of the time from then on: it shall not push aside those that were quick."""
        if self._timeout_s is not None:
            return self.since + self._timeout_s
        return max(self.since + self._lane.aim_s, clock() + self._lane.aim_s / 2)

    def _offer(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._lane.queue.arrived()
        self._announced = False
        self._lane.send(parts)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._lane.withdraw(self._parts)
        self.close()

    def close(self) -> None:
        """Leave it to another."""
        # A part knows whom to tell, who knows the place.
        self._parts = ()
        if not self._given_up:
            self._withdraw()

    def _withdraw(self) -> None:
        queue = self._lane.queue
        if self._announced:
            queue.arrived()
        queue.leave(self._size)


class Joined:
    """What several batches gave for the rows of one request; as `Ran`."""

    def __init__(self, runs: Sequence[Ran]) -> None:
        self._runs = runs
        self.queue_s = max(run.queue_s for run in runs)
        self.compute_s = sum(run.compute_s for run in runs)
        self.batch = max(run.batch for run in runs)

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
