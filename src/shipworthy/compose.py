"""The one place that knows all production rooms, and puts them together: a server with its registry, its rollouts and
its monitor.

Run as a module, it is a worker process of such a server, or its monitor process."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from .monitor.options import MonitorOptions
from .server.hosting import Server as Host
from .server.plan import Monitoring, Plan

if TYPE_CHECKING:
    from .monitor.keeping import Keeper, Start
    from .monitor.view import View
    from .monitor.watching import Watching
    from .registry import Losses, Registry
    from .rollout.followed import Followed
    from .rollout.following import Follower
    from .rollout.live import Router
    from .rollout.receiving import Receiver
    from .server.binding import Options
    from .server.catalog import Catalog
    from .server.hosting import Serving
    from .server.routing import Parts

FILES, REGISTERED, MONITOR = "files", "registered", "monitor"
"""What a process of a server may be: a worker of packages, one of models from a registry, or the monitor process."""
_WATCHING = ("shipworthy.monitor.watching",)
IMPORTS = {
    FILES: _WATCHING,
    REGISTERED: (
        *_WATCHING,
        "shipworthy.rollout.followed",
        "shipworthy.rollout.following",
        "shipworthy.rollout.live",
        "shipworthy.rollout.receiving",
    ),
}
"""What a worker imports before it is needed."""
WATCHED = MonitorOptions()
LOOK_S = 5.0
"""So often rollouts are told of alarms."""


class Files:
    """What is put into a server process that knows no registry."""

    upstream = router = feedback = None

    def __init__(self, plan: Plan) -> None:
        self.observer: Watching | None = _observer(plan)

    def begin(self, catalog: Catalog) -> None:
        """Nothing follows."""

    def drain(self) -> None:
        """Nothing is to be told."""

    async def end(self) -> None:
        if self.observer is not None:
            await asyncio.to_thread(self.observer.close)


class Registered:
    """What a registry puts into a server process."""

    def __init__(self, plan: Plan) -> None:
        """Raises RegistryError where the registry cannot be reached, or has not what the plan names."""
        from .registry import Registry
        from .rollout import prediction_key
        from .rollout.deaths import Trying
        from .rollout.instance import this_instance

        with ExitStack() as opened:
            registry = opened.enter_context(Registry(plan.registry, create=False))
            key, instance = prediction_key(registry), this_instance(worker=plan.share is not None)
            self._trying = opened.enter_context(closing(Trying(registry.url, key, plan.names, instance)))
            self._compose(registry, key, plan.names)
            # From now on it is the follower that closes the registry.
            opened.pop_all()
        self.observer: Watching | None = _observer(plan)

    def _compose(self, registry: Registry, key: bytes, names: Sequence[str]) -> None:
        from .rollout import Rollouts
        from .rollout.deaths import report
        from .rollout.followed import Followed
        from .rollout.following import Follower
        from .rollout.live import Router
        from .rollout.receiving import Receiver

        rollouts = Rollouts(registry)
        self.router: Router = Router(key, self._trying.routes)
        self.upstream: Followed = Followed(registry, rollouts, self.router, self._trying, names)
        self._follower: Follower = Follower(registry, rollouts, self.router, self.upstream.fetch)
        self.feedback: Receiver = Receiver(registry, key)
        report(self._trying.left(), rollouts, f"the one before process {os.getpid()} on {socket.gethostname()}")

    def begin(self, catalog: Catalog) -> None:
        self.upstream.begin()
        self._follower.begin(catalog)

    def drain(self) -> None:
        self._trying.close()

    async def end(self) -> None:
        try:
            if self.observer is not None:
                await asyncio.to_thread(self.observer.close)
            await asyncio.to_thread(self.feedback.close)
            await self._follower.end()
        finally:
            self._trying.close()


def _observer(plan: Plan) -> Watching | None:
    if plan.monitoring is None:
        return None
    from .monitor.places import Places
    from .monitor.watching import Watching

    said = plan.monitoring
    workers = 1 if plan.share is None else plan.share.workers
    # Of a rate that is no whole row for each of them, each has its part of one.
    rate = said.rate // workers or said.rate / workers
    return Watching(Places(Path(said.folder)), rate=rate, one_in=said.one_in, baseline=said.baseline)


class Labelled:
    """What a registry puts into the monitor process: labels, and rollouts that an alarm may end."""

    def __init__(self, registry: Registry) -> None:
        from .monitor.beside import place_of
        from .rollout import Rollouts

        self.place = place_of(None, registry.url)
        self._registry, self._rollouts = registry, Rollouts(registry)
        self._looked_at = -LOOK_S

    def losses(self, model: str, version: str) -> Losses | None:
        from .registry.losses import losses_of

        return losses_of(self._registry, model, int(version)) if version.isdecimal() else None

    def seen(self, views: Sequence[View]) -> None:
        """An alarm of the challenger that the champion has no part in tells against it."""
        now = time.monotonic()
        alarmed = {view.model for view in views for alarm in view.alarms if alarm.acknowledged is None}
        if not alarmed or now < self._looked_at + LOOK_S:
            return
        self._looked_at = now
        for model in alarmed:
            by_version = {view.version: view for view in views if view.model == model}
            if len(by_version) > 1:
                self._judge(model, by_version)

    def _judge(self, model: str, by_version: Mapping[str, View]) -> None:
        from .monitor.guardrail import lone_alarm, told_of

        rollout = self._rollouts.active(model)
        if rollout is None:
            return
        champion, challenger = (by_version.get(str(number)) for number in (rollout.champion, rollout.challenger))
        if champion is None or challenger is None:
            return
        alarm = lone_alarm(challenger, champion)
        if alarm is not None:
            self._rollouts.alarmed(model, rollout.challenger, alarm.summary, details=told_of(alarm))


@contextmanager
def opened(start: Start) -> Iterator[Labelled]:
    """The registry of a monitor process. Raises RegistryError where it cannot be reached."""
    from .registry import Registry

    with Registry(start.registry, create=False) as registry:
        yield Labelled(registry)


def parts_of(plan: Plan) -> Parts | None:
    """What other rooms put into a process of this plan; None where that is nothing."""
    if plan.names:
        return Registered(plan)
    return Files(plan) if plan.monitoring is not None else None


def serve(
    packages: str | Path | Sequence[str | Path] = (),
    *,
    workers: int = 1,
    on_ready: Callable[[Serving], None] | None = None,
    monitor: MonitorOptions | None = WATCHED,
    **options: Unpack[Options],
) -> None:
    """Serve packages (folders or `.ship` files), and models of a registry (`names`, such as digits@champion), until
    SIGTERM or SIGINT; then finish what is in flight, and return. A second signal does not wait, and may end the
    process.

    A model that was named by an alias follows it: what the alias names next is loaded beside it and takes over between
    two batches. With several `workers`, each is a process with an engine of its own, and one that dies is replaced.
    `on_ready` is called once, when every model is loaded and proven. `monitor` says how versions that have a reference
    are watched, by a process of its own; None watches nothing. Raises ServeError where the address cannot be used,
    PackageError where a package is refused, RegistryError where the registry has not what was named, and MonitorError
    where the place of the monitor's states cannot be one."""
    from .server import serve as host

    with _keeper(monitor, options) as keeper:
        host(
            packages,
            workers=workers,
            on_ready=on_ready,
            compose=parts_of,
            worker=f"shipworthy.compose {REGISTERED if options.get('names') else FILES}",
            **_watched(options, keeper),
        )


class Server(Host):
    """The same in a thread, with one process; see `server.Server`."""

    def __init__(
        self,
        packages: str | Path | Sequence[str | Path] = (),
        *,
        on_ready: Callable[[Serving], None] | None = None,
        monitor: MonitorOptions | None = WATCHED,
        **options: Unpack[Options],
    ) -> None:
        with ExitStack() as kept:
            keeper = kept.enter_context(_keeper(monitor, options))
            super().__init__(packages, on_ready=on_ready, compose=parts_of, **_watched(options, keeper))
            self._kept = kept.pop_all()

    def run(self) -> None:
        with self._kept:
            super().run()


@contextmanager
def _keeper(monitor: MonitorOptions | None, options: Options) -> Iterator[Keeper | None]:
    if monitor is None:
        yield None
        return
    from .monitor.keeping import Keeper

    if monitor.place is not None:
        from .monitor.store import States

        # Now, and not in a process beside the server.
        States(monitor.place)
    logs, registered = options.get("logs"), bool(options.get("names"))
    with Keeper(
        monitor,
        place=monitor.place,
        registered=registered,
        registry=options.get("registry") if registered else None,
        log_format="text" if logs is None else logs.format,
    ) as keeper:
        yield keeper


def _watched(options: Options, keeper: Keeper | None) -> Options:
    if keeper is None:
        return options
    chosen = keeper.options
    folder, baseline = str(keeper.places.folder), bool(chosen.baseline)
    return {**options, "monitoring": Monitoring(folder, chosen.rate, chosen.one_in, baseline)}


def main(role: str) -> None:
    """Be one of the processes of a server; what it is told else stands behind `role` among the program's words."""
    if role == MONITOR:
        from .monitor.running import main as watch

        watch(int(sys.argv[1]), opened)
    else:
        from .server.worker import main as work

        work(parts_of, IMPORTS[role])


if __name__ == "__main__":
    main(sys.argv.pop(1))
