"""A server that follows a registry: its models are what aliases name, and its trials are the rollouts that run."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING
from uuid import uuid4

from ..errors import RegistryError, ServeError, ShipworthyError
from ..registry import Reference, parse
from ..registry.names import CHAMPION
from ..server.asking import Asking
from ..server.problems import ProblemError
from ..server.routing import Offered
from .observed import Observed

if TYPE_CHECKING:
    from ..registry import Registry
    from ..server.catalog import Catalog
    from .live import Router
    from .store import Rollouts

POLL_S = 0.4
"""So often a server looks whether the registry has changed: one query of the newest event's number."""
TELL_S = 1.0
"""So often it tells what it saw of a rollout."""
RETRY_S = 15.0
"""So long after a failed load the next one is tried; twice as long after each further one, but no longer than:"""
LONGEST_S = 600.0
UNTOLD = 60
"""Of what could not be told, as while the registry is out of reach, so many seconds are kept."""
LAST_S = 5.0
"""So long a server that ends waits for the registry to hear what it saw last."""
CHANGES = frozenset(("alias-moved", "rollout-started", "rollout-stage", "rollout-ended"))
"""Kinds of events after which a server may have to serve something else."""

_LOG = logging.getLogger("shipworthy.rollout")


class Followed:
    """The models that were named, each with the version that its name means now. Called from threads."""

    def __init__(self, registry: Registry, rollouts: Rollouts, router: Router, names: Sequence[str]) -> None:
        """RegistryError where a name is none, ServeError where two name the same model."""
        self._registry, self._rollouts, self._router = registry, rollouts, router
        self._references: dict[str, Reference] = {}
        self._told: set[tuple[str, str, str]] = set()
        for name in names:
            reference = parse(name)
            if reference.model in self._references:
                both = f"{self._references[reference.model]} and {reference}"
                raise ServeError(f"model {reference.model!r}", f"is named twice: {both}", "serve one of them")
            self._references[reference.model] = reference

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._references)

    def offered(self, name: str) -> Sequence[Offered]:
        reference = self._references[name]
        version = self._registry.version(reference)
        rollout = self._rollouts.active(name) if reference.alias == CHAMPION else None
        offered = [self._pulled(name, version.number)]
        if rollout is None:
            self._router.running.pop(name, None)
            return offered
        self._router.running[name] = rollout
        if rollout.champion == version.number:
            try:
                offered.insert(0, self._pulled(name, rollout.challenger, spare=True))
            except ShipworthyError as error:
                _LOG.error("model %r: version %d is not tried here: %s", name, rollout.challenger, error)
        return offered

    def _pulled(self, name: str, number: int, *, spare: bool = False) -> Offered:
        """A version, as it is served here. Raises what keeps it from coming, which is recorded."""
        try:
            return Offered(str(number), self._registry.pull(Reference(name, number=number)), spare=spare)
        except ShipworthyError as error:
            self.refused(name, str(number), error)
            raise

    def refused(self, name: str, version: str, error: ShipworthyError) -> None:
        """Recorded once for each kind of failure; a challenger that cannot be served has lost, but not one whose files
        are only out of reach."""
        # Not by its words: they may tell of measurements, which are others each time.
        said = name, version, f"{type(error).__name__} {getattr(error, 'culprit', '')}"
        if said in self._told:
            return
        self._told.add(said)
        details = {"node": socket.gethostname(), "process": os.getpid()}
        try:
            self._registry.note(name, "load-failed", version=int(version), why=str(error), details=details)
            rollout = self._router.running.get(name) if not isinstance(error, RegistryError) else None
            if rollout is not None and str(rollout.challenger) == version:
                self._rollouts.fail(rollout.id, f"a server refuses {name}:{version}: {error}")
        except RegistryError as lost:
            # To be told when it is refused again.
            self._told.discard(said)
            _LOG.error("the registry was not told that %s:%s is refused: %s", name, version, lost)


@dataclass(slots=True)
class Telling:
    """What was seen of a rollout in a second."""

    number: int
    observe: Callable[[], Observed]
    observed: Observed | None = None
    """Once it was put into arrays."""


class Follower:
    """Keeps a server's models and trials as the registry says. Used on the event loop; asks in a thread of its own."""

    def __init__(self, registry: Registry, rollouts: Rollouts, router: Router) -> None:
        """What changes from now on will be seen. RegistryError where the registry cannot be reached."""
        self._registry, self._rollouts, self._router = registry, rollouts, router
        self._asking = Asking("shipworthy-registry")
        self._newest = registry.newest_event()
        self._again: dict[str, float] = {}
        """Models that were not loaded, and when that is tried again."""
        self._failures: Counter[str] = Counter()
        """So often in a row."""
        self._untold: dict[int, deque[Telling]] = {}
        """By rollout."""
        self._name, self._numbers = uuid4().hex, count(1)
        """With them, a telling whose answer was lost counts once."""
        self._lost: set[str] = set()
        """What cannot be done while the registry is out of reach."""
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, catalog: Catalog) -> None:
        """Several tasks: what is seen is told also while a version is loaded, and does not gather where it was seen
        while the registry does not answer."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._repeat("follow", POLL_S, lambda: self._turn(catalog))),
            loop.create_task(self._collect_on()),
            loop.create_task(self._repeat("tell", TELL_S, self._tell)),
        ]

    async def end(self) -> None:
        """Tell what was seen last, and let go of the registry."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        if self._tasks:
            self._collect()
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    await self._careful("tell", self._tell())
        self._router.close()
        self._asking.close()
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
            await self._load(catalog, name)

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
        self._again[name] = time.monotonic() + min(LONGEST_S, RETRY_S * 2 ** min(self._failures[name], 30))
        self._failures[name] += 1
        before = catalog.models[name].current.version
        try:
            lane = await catalog.load(name)
        except (ShipworthyError, ProblemError) as error:
            _LOG.error("model %r: version %s stays, because another cannot be loaded: %s", name, before, error)
        else:
            if (name in self._router.running) == (name in self._router.trials):
                self._again.pop(name, None)
                self._failures.pop(name, None)
            if lane.version != before:
                _LOG.info("model %r: version %s is current", name, lane.version)

    async def _collect_on(self) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            self._collect()

    def _collect(self) -> None:
        """Take what was seen of each rollout."""
        trials = self._router.trials
        taken = [(rollout, trial.take()) for rollout, trial in trials.values()]
        # One that nobody can try here, as its champion has changed, is to notice that, and when its time is over.
        taken += [(rollout, Observed) for name, rollout in [*self._router.running.items()] if name not in trials]
        for number in self._untold.keys() - {rollout.id for rollout, _ in taken}:
            del self._untold[number]
        for rollout, observe in taken:
            waiting = self._untold.setdefault(rollout.id, deque(maxlen=UNTOLD))
            waiting.append(Telling(next(self._numbers), observe))

    async def _tell(self) -> None:
        """Merge what was taken; what is decided then is followed as other events are."""
        lost: RegistryError | None = None
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
            await self._asking.ask(partial(self._merge, number, first))
        except RegistryError:
            raise
        # What cannot be told now will never be; it must not stand before all that comes later.
        except Exception:  # noqa: BLE001
            _LOG.exception("rollout %d: what was seen in a second is lost", number)
        # It may have given way to later ones meanwhile.
        if waiting and waiting[0] is first:
            waiting.popleft()

    def _merge(self, number: int, telling: Telling) -> None:
        if telling.observed is None:
            telling.observed = replace(telling.observe(), worker=self._name, number=telling.number)
        self._rollouts.merge(number, telling.observed)
