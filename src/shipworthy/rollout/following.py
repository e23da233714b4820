"""A server that follows a registry: its models are what aliases name, and its trials are the rollouts that run."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING
from uuid import uuid4

from ..errors import RegistryError, ShipworthyError
from ..server.asking import Asking
from ..server.problems import ProblemError
from .observed import Observed

if TYPE_CHECKING:
    from ..registry import Registry
    from ..server.catalog import Catalog
    from .live import Router
    from .store import Rollouts

POLL_S = 0.4
"""So often a server looks whether the registry has changed: one query of the newest event's number."""
TELL_S = 2.0
"""So often it tells what it saw of a rollout. A telling keeps Python busy for some milliseconds, in which no request is
answered."""
RETRY_S = 15.0
"""So long after a failed load the next one is tried; twice as long after each further one, but no longer than:"""
LONGEST_S = 600.0
UNTOLD = 30
"""Of what could not be told, as while the registry is out of reach, so many tellings are kept: a minute."""
LAST_S = 5.0
"""So long a server that ends waits for the registry to hear what it saw last."""
CHANGES = frozenset(("alias-moved", "rollout-started", "rollout-stage", "rollout-ended"))
"""Kinds of events after which a server may have to serve something else."""

_LOG = logging.getLogger("shipworthy.rollout")


@dataclass(slots=True)
class Telling:
    """What was seen of a rollout between two tellings."""

    number: int
    observe: Callable[[], Observed]
    observed: Observed | None = None
    """Once it was put into arrays."""


class Follower:
    """Keeps a server's models and trials as the registry says. Used on the event loop; asks in threads of its own."""

    def __init__(
        self, registry: Registry, rollouts: Rollouts, router: Router, fetch: Callable[[str], None] = lambda name: None
    ) -> None:
        """What changes from now on will be seen. `fetch` brings the packages of a model near, before it is loaded.
        RegistryError where the registry cannot be reached."""
        self._registry, self._rollouts, self._router, self._fetch = registry, rollouts, router, fetch
        # A telling waits for other writers, and a look must not wait for it.
        self._asking, self._telling = Asking("shipworthy-registry"), Asking("shipworthy-telling")
        self._newest = registry.newest_event()
        self._again: dict[str, float] = {}
        """Models that were not loaded, and when that is tried again."""
        self._failures: Counter[str] = Counter()
        """So often in a row."""
        self._loads: dict[str, asyncio.Task[None]] = {}
        """Of the models that are being loaded."""
        self._untold: dict[int, deque[Telling]] = {}
        """By rollout."""
        self._ended: set[int] = set()
        """Rollouts that are to be forgotten."""
        self._name, self._numbers = uuid4().hex, count(1)
        """With them, a telling whose answer was lost counts once."""
        self._lost: set[str] = set()
        """What cannot be done while the registry is out of reach."""
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, catalog: Catalog) -> None:
        """Several tasks: what is seen is told also while a version is loaded, and does not gather where it was seen
        while the registry does not answer."""
        loop = asyncio.get_running_loop()
        # What a process has died of, or could not be had at the start, is tried beside what is served.
        self._again = {name: -math.inf for name in [*self._router.running] if name not in self._router.trials}
        self._tasks = [
            loop.create_task(self._repeat("follow", POLL_S, lambda: self._turn(catalog))),
            loop.create_task(self._repeat("collect", TELL_S, self._collect_on)),
            loop.create_task(self._repeat("tell", TELL_S, self._tell)),
        ]

    async def end(self) -> None:
        """Tell what was seen last, and let go of the registry."""
        under_way = [*self._tasks, *self._loads.values()]
        for task in under_way:
            task.cancel()
        for task in under_way:
            with suppress(asyncio.CancelledError):
                await task
        if self._tasks:
            self._collect()
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    await self._careful("tell", self._tell())
        self._router.close()
        self._asking.close()
        self._telling.close()
        self._registry.close()

    async def _repeat(self, what: str, pause_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(pause_s)
            await self._careful(what, work())

    async def _turn(self, catalog: Catalog) -> None:
        for name in await self._asking.ask(self._look):
            self._again[name] = -math.inf
            self._failures[name] = 0
        for name in [name for name, at in self._again.items() if time.monotonic() > at]:
            if name not in self._loads:
                self._loads[name] = asyncio.create_task(self._load_one(catalog, name))

    async def _load_one(self, catalog: Catalog, name: str) -> None:
        """Others are followed meanwhile, and so is what happens to this one: that is looked at when it has ended."""
        try:
            await self._careful(f"load {name}", self._load(catalog, name))
        finally:
            del self._loads[name]

    async def _careful(self, what: str, work: Awaitable[None]) -> None:
        """The server goes on without its registry, and says once that it is gone, and that it is back."""
        try:
            await work
        except RegistryError as error:
            if not self._lost:
                _LOG.error("the registry is out of reach; what is served stays: %s", error)
            self._lost.add(what)
        # Nothing that goes wrong here may end the task: the server would follow no longer, and not say so.
        except Exception:  # noqa: BLE001
            _LOG.exception("following the registry failed, and goes on")
        else:
            if self._lost == {what}:
                _LOG.info("the registry is back")
            self._lost.discard(what)

    def _look(self) -> list[str]:
        """Models that something has happened to since the last look."""
        if self._registry.newest_event() == self._newest:
            return []
        events = self._registry.events_after(self._newest)
        if events:
            self._newest = events[-1].number
        return list(dict.fromkeys(event.model for event in events if event.kind in CHANGES))

    async def _load(self, catalog: Catalog, name: str) -> None:
        if name not in catalog.models or not catalog.ready:
            self._again.pop(name, None)
            return
        # Whatever ends the attempt, there is another one.
        due = time.monotonic() + min(LONGEST_S, RETRY_S * 2 ** min(self._failures[name], 30))
        self._again[name] = due
        self._failures[name] += 1
        before = catalog.models[name].current.version
        try:
            await self._bring(name)
            lane = await catalog.load(name)
        except (ShipworthyError, ProblemError) as error:
            _LOG.error("model %r: version %s stays, because another cannot be loaded: %s", name, before, error)
        else:
            # Not where something has happened to the model since.
            if (name in self._router.running) == (name in self._router.trials) and self._again.get(name) == due:
                self._again.pop(name, None)
                self._failures.pop(name, None)
            if lane.version != before:
                _LOG.info("model %r: version %s is current", name, lane.version)

    async def _bring(self, name: str) -> None:
        """Fetch a model's packages, before it holds the lock of the catalog; in a thread that keeps nobody."""
        fetching = Asking("shipworthy-fetch")
        try:
            await fetching.ask(partial(self._fetch, name))
        finally:
            fetching.close()

    async def _collect_on(self) -> None:
        self._collect()

    def _collect(self) -> None:
        """Take what was seen of each rollout."""
        trials = self._router.trials
        taken = [(rollout, trial.take) for rollout, trial in trials.values()]
        # One that nobody can try here, as its champion has changed, is to notice that, and when its time is over.
        taken += [
            (rollout, lambda: Observed) for name, rollout in [*self._router.running.items()] if name not in trials
        ]
        for number in self._untold.keys() - {rollout.id for rollout, _ in taken}:
            del self._untold[number]
            self._ended.add(number)
        for rollout, take in taken:
            self._collect_of(rollout.id, take)

    def _collect_of(self, number: int, take: Callable[[], Callable[[], Observed]]) -> None:
        try:
            observe = take()
        # What is not taken gathers where it was seen; so it must not be that of other rollouts too.
        except Exception:  # noqa: BLE001
            _LOG.exception("rollout %d: what was seen was not taken, and is tried again", number)
            return
        self._untold.setdefault(number, deque(maxlen=UNTOLD)).append(Telling(next(self._numbers), observe))

    async def _tell(self) -> None:
        """Merge what was taken; what is decided then is followed as other events are."""
        lost: RegistryError | None = None
        while self._ended:
            await self._telling.ask(partial(self._rollouts.forget, self._ended.pop()))
        for number, waiting in list(self._untold.items()):
            try:
                while waiting:
                    await self._tell_of(number, waiting)
            except RegistryError as error:
                lost = error
        if lost is not None:
            raise lost

    async def _tell_of(self, number: int, waiting: deque[Telling]) -> None:
        first = waiting[0]
        try:
            await self._telling.ask(partial(self._merge, number, first))
        except RegistryError:
            raise
        # What cannot be told now will never be; it must not stand before all that comes later.
        except Exception:  # noqa: BLE001
            _LOG.exception("rollout %d: what was seen is lost", number)
        # It may have given way to later ones meanwhile.
        if waiting and waiting[0] is first:
            waiting.popleft()

    def _merge(self, number: int, telling: Telling) -> None:
        if telling.observed is None:
            telling.observed = replace(telling.observe(), worker=self._name, number=telling.number)
        self._rollouts.merge(number, telling.observed)
