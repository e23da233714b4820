"""A server that follows a registry: its models are what aliases name, and its trials are the rollouts that run."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from ..errors import RegistryError, ServeError, ShipworthyError
from ..registry import Reference, parse
from ..registry.names import CHAMPION
from ..server.problems import ProblemError
from ..server.routing import Offered

if TYPE_CHECKING:
    from ..registry import Registry
    from ..server.catalog import Catalog
    from .live import Router
    from .observed import Observed
    from .record import Rollout
    from .store import Rollouts

T = TypeVar("T")

POLL_S = 0.4
"""So often a server looks whether the registry has changed: one query of the newest event's number."""
TELL_S = 1.0
"""So often it tells what it saw of a rollout."""
RETRY_S = 15.0
"""So long after a failed load the next one is tried."""
UNTOLD = 60
"""Of what could not be told, as while the registry is out of reach, so many seconds are kept."""
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
        offered = [Offered(str(version.number), self._registry.pull(version.name))]
        if rollout is not None and rollout.champion == version.number:
            self._router.running[name] = rollout
            challenger = Reference(name, number=rollout.challenger)
            try:
                offered.insert(0, Offered(str(rollout.challenger), self._registry.pull(challenger), spare=True))
            except ShipworthyError as error:
                self.refused(name, str(rollout.challenger), error)
        else:
            self._router.running.pop(name, None)
        return offered

    def refused(self, name: str, version: str, error: ShipworthyError) -> None:
        """Recorded once for each reason; a challenger that cannot be served has lost."""
        if (name, version, str(error)) in self._told:
            return
        self._told.add((name, version, str(error)))
        details = {"node": socket.gethostname(), "process": os.getpid()}
        try:
            self._registry.note(name, "load-failed", version=int(version), why=str(error), details=details)
            rollout = self._router.running.get(name)
            if rollout is not None and str(rollout.challenger) == version:
                self._rollouts.fail(rollout.id, f"a server refuses {name}:{version}: {error}")
        except RegistryError as lost:
            _LOG.error("the registry was not told that %s:%s is refused: %s", name, version, lost)


class Follower:
    """Keeps a server's models and trials as the registry says. Used on the event loop; asks in a thread of its own."""

    def __init__(self, registry: Registry, rollouts: Rollouts, router: Router) -> None:
        """What changes from now on will be seen. RegistryError where the registry cannot be reached."""
        self._registry, self._rollouts, self._router = registry, rollouts, router
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shipworthy-registry")
        self._newest = registry.newest_event()
        self._told = time.monotonic()
        self._again: dict[str, float] = {}
        """Models that were not loaded, and when that is tried again."""
        self._untold: dict[int, deque[Observed]] = {}
        self._name, self._numbers = uuid4().hex, count(1)
        """With them, a telling whose answer was lost counts once."""
        self._lost = False
        self._catalog: Catalog | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._task = asyncio.get_running_loop().create_task(self._follow(catalog))

    async def end(self) -> None:
        """Tell what was seen last, and let go of the registry."""
        if self._task is not None and self._catalog is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            await self._careful(self._tell(self._catalog, last=True))
        for _, trial in self._router.trials.values():
            trial.close()
        self._thread.shutdown(wait=True)
        self._registry.close()

    async def _follow(self, catalog: Catalog) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self._careful(self._turn(catalog))

    async def _turn(self, catalog: Catalog) -> None:
        changed = await self._ask(self._look)
        due = [name for name, at in self._again.items() if time.monotonic() > at]
        for name in dict.fromkeys([*changed, *due]):
            await self._load(catalog, name)
        if time.monotonic() - self._told >= TELL_S:
            await self._tell(catalog)

    async def _careful(self, work: Awaitable[None]) -> None:
        """The server goes on without its registry, and says once that it is gone, and that it is back."""
        try:
            await work
        except RegistryError as error:
            if not self._lost:
                _LOG.error("the registry is out of reach; what is served stays: %s", error)
            self._lost = True
        # Nothing that goes wrong here may end the task: the server would follow no longer, and not say so.
        except Exception:  # noqa: BLE001
            _LOG.exception("following the registry failed, and goes on")
        else:
            if self._lost:
                _LOG.info("the registry is back")
            self._lost = False

    async def _ask(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _look(self) -> list[str]:
        """Models that something has happened to since the last look."""
        if self._registry.newest_event() == self._newest:
            return []
        events = self._registry.events_after(self._newest)
        if events:
            self._newest = events[-1].number
        return list(dict.fromkeys(event.model for event in events if event.kind in CHANGES))

    async def _load(self, catalog: Catalog, name: str) -> None:
        self._again.pop(name, None)
        if name not in catalog.models or not catalog.ready:
            return
        before = catalog.models[name].current.version
        try:
            lane = await catalog.load(name)
        except (ShipworthyError, ProblemError) as error:
            self._again[name] = time.monotonic() + RETRY_S
            _LOG.error("model %r: version %s stays, because another cannot be loaded: %s", name, before, error)
        else:
            if lane.version != before:
                _LOG.info("model %r: version %s is current", name, lane.version)

    async def _tell(self, catalog: Catalog, *, last: bool = False) -> None:
        """Merge what was seen of each rollout, and follow what was decided."""
        self._told = time.monotonic()
        for name, (rollout, trial) in list(self._router.trials.items()):
            observed = trial.take()
            merged = await self._ask(partial(self._merge, rollout, observed))
            if not last and (not merged.running or merged.share != rollout.share):
                await self._load(catalog, name)

    def _merge(self, rollout: Rollout, observe: Callable[[], Observed]) -> Rollout:
        waiting = self._untold.setdefault(rollout.id, deque(maxlen=UNTOLD))
        waiting.append(replace(observe(), worker=self._name, number=next(self._numbers)))
        merged = rollout
        while waiting:
            merged = self._rollouts.merge(rollout.id, waiting[0])
            waiting.popleft()
        return merged
