"""One process that serves a plan: its packages, its models, its web server, and the order in which they come and go."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import threading
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import ServeError, ShipworthyError
from .loading import Loading, served, share_of_cores
from .plan import Plan, Served
from .sockets import SPREADS, let_no_more_in

if TYPE_CHECKING:
    from ..predict import Predictor
    from .catalog import Catalog
    from .observe import Log, Tracer
    from .reporting import Reporter
    from .routing import Parts
    from .v2.grpc_server import GrpcServer

HURRY_S = 2.0
"""So long an engine may run on, or be opened, in a server that is told to stop twice."""
PARTING_S = 0.2
"""So long a server that is told to stop still takes connections, and so long again requests on those that it has. One
that closed them at once would lose what was already on its way to it."""
SETTLING_S = 0.05
"""So long connections that have begun may take to be complete, when no others begin."""

YOUNG = 10_000
"""So many new objects are alive before garbage is looked for among them."""

_LOG = logging.getLogger("shipworthy.server")


class Process:
    """Serves the models of a plan on a socket. Made and used on one event loop."""

    def __init__(
        self, plan: Plan, listening: socket, loading: Loading, log: Log | None = None, parts: Parts | None = None
    ) -> None:
        """Requests have a line in `log` where the plan says so. `parts` are what other rooms put in. Raises
        MissingExtra where traces cannot be sent."""
        from .access import Access
        from .app import assemble
        from .catalog import Catalog
        from .connections import bounded
        from .observe.metrics import Metrics
        from .observe.tracing import open_tracer
        from .web import web_server

        share = plan.share
        metrics = Metrics(Path(share.counters), share.slot) if share is not None else Metrics()
        if log is not None:
            metrics.lines_lost = lambda: log.dropped
        self._log = log
        self.catalog: Catalog = Catalog(
            plan.settings, metrics=metrics, sources=loading.sources, parts=parts, cores=share_of_cores(plan)
        )
        self._parts = parts
        self._plan = plan
        self._listening = listening
        self._loading = loading
        self._access = Access(plan.token, loopback=plan.loopback)
        tracer = self._tracer = open_tracer(plan.logs.otel_endpoint)
        if tracer is not None:
            metrics.traces_lost = lambda: tracer.dropped
        self._reporter = _reporter(log if plan.logs.access else None, self._tracer)
        connections = bounded()
        metrics.connections_ended = lambda: connections.watch.refused
        self._web = web_server(assemble(self.catalog, self._access, self._reporter), plan, connections)
        self._grpc: GrpcServer | None = None
        self._grpc_left: asyncio.Task[None] | None = None
        self._leaving = asyncio.Event()
        self._hurried = asyncio.Event()
        self._last = False
        self._reloading = asyncio.Lock()
        self._thresholds: tuple[int, int, int] | None = None
        """Of the garbage collector, before the models were served."""
        self.loaded: tuple[Served, ...] = ()
        """What was loaded at the start."""

    @property
    def served(self) -> tuple[Served, ...]:
        """Every version that is served."""
        models = self.catalog.models.values()
        return tuple(served(lane.predictor) for model in models for lane in model.versions.values())

    def leave(self, *, last: bool = True) -> None:
        """Drain. Where this process is not the `last` to have its socket, connections may go on to wait in it."""
        self._last = self._last or last
        if self._parts is not None:
            self._parts.drain()
        self._loading.give_up()
        self._leaving.set()

    def hurry(self) -> None:
        """Drain, and wait neither for requests in flight nor for a package that is being opened."""
        self._web.force_exit = True
        self._hurried.set()
        self.leave()

    @property
    def leaving(self) -> bool:
        return self._leaving.is_set()

    async def run(
        self,
        ready: Callable[[Sequence[Predictor]], None],
        *,
        admitted: Callable[[], Awaitable[None]] | None = None,
        listen_at_once: bool = True,
    ) -> None:
        """Serve until told to leave; then finish what is in flight. Raises what refuses a package.

        When all is loaded and `admitted` lets it, the models are served, and `ready` is called with what was loaded.
        Before that, connections are told that the server is starting, or wait in the socket's own queue where it shall
        not `listen_at_once`."""
        left = asyncio.create_task(self._leaving.wait())
        flushing = asyncio.create_task(self.catalog.metrics.keep_flushing())
        serving = asyncio.create_task(self._serve()) if listen_at_once else None
        opening = asyncio.create_task(self._open(ready, admitted))
        try:
            await _first(opening, left, serving)
            if opening.done():
                opening.result()
            if self.catalog.ready:
                serving = serving or asyncio.create_task(self._serve())
                await _first(left, serving)
                await self._part()
        finally:
            opening.cancel()
            left.cancel()
            self._web.should_exit = True
            try:
                if serving is not None:
                    await serving
                await self._dismiss()
            finally:
                flushing.cancel()
                self.catalog.metrics.close()
                self._thaw()

    async def load(self, package: str | Path) -> None:
        """Load the packages of a name anew, or take up the package at a path. ServeError where there is neither."""
        name, sources = str(package), self._loading.sources
        known = sources.has(Path(package))
        named = isinstance(package, Path) or (name not in sources.names() and Path(name).exists())
        if named:
            name = await asyncio.to_thread(sources.add, Path(package))
        try:
            with _problems_as_errors(name):
                await self.catalog.command("load", name)
        except BaseException:
            # The next load of this name shall not fail for it again.
            if named and not known:
                sources.remove(Path(package))
            raise

    async def unload(self, name: str) -> None:
        """Take a model out. ServeError where there is none of the name."""
        with _problems_as_errors(name):
            await self.catalog.command("unload", name)

    async def reload(self) -> list[Exception]:
        """Read all packages anew, those of models that were not known before too, and give what failed: that leaves
        what is served as it is."""
        failures: list[Exception] = []
        if not self.catalog.ready:
            return failures
        async with self._reloading:
            known = set(self._loading.sources.names())
            for name in list(self.catalog.models):
                # It may have been taken out while others were loaded.
                if name in self.catalog.models:
                    await self._reload_one(name, failures)
            try:
                await asyncio.to_thread(self._loading.sources.look)
            except ShipworthyError as error:
                _LOG.error("no new models were looked for: %s", error)
                failures.append(error)
            for name in self._loading.sources.names():
                if name not in known:
                    await self._reload_one(name, failures)
        return failures

    async def _reload_one(self, name: str, failures: list[Exception]) -> None:
        from .problems import ProblemError

        try:
            lane = await self.catalog.load(name)
        except (ShipworthyError, ProblemError) as error:
            _LOG.error("model %r was not reloaded, what is served stays: %s", name, error)
            failures.append(error)
        else:
            _LOG.info("model %r: version %s is current", name, lane.version)

    async def _open(
        self, ready: Callable[[Sequence[Predictor]], None], admitted: Callable[[], Awaitable[None]] | None
    ) -> None:
        predictors = await asyncio.wrap_future(self._loading.outcome)
        self.loaded = tuple(map(served, predictors))
        if admitted is not None:
            await admitted()
        if self.leaving:
            return
        if predictors or self._plan.share is None or self._plan.share.models is None:
            self.catalog.open((predictor.contract.name, predictor) for predictor in predictors)
        else:
            # All models were taken out before the worker that this one replaces had died.
            self.catalog.state = "healthy"
        if self._plan.grpc is not None:
            self._grpc = await self._start_grpc(self._plan.grpc)
        if self._parts is not None:
            self._parts.begin(self.catalog)
        if threading.current_thread() is threading.main_thread():
            self._freeze()
        ready(predictors)

    def _freeze(self) -> None:
        """What was imported and loaded stays: to look through it for garbage takes 30 ms, several times a second."""
        self._thresholds = gc.get_threshold()
        gc.collect()
        gc.freeze()
        # Requests under way are no garbage: with the usual 700, a burst of thirty is looked through.
        gc.set_threshold(YOUNG)

    def _thaw(self) -> None:
        """Leave the collector as it was: the process may be another program's, which goes on."""
        if self._thresholds is not None:
            gc.unfreeze()
            gc.set_threshold(*self._thresholds)

    async def _start_grpc(self, address: str) -> GrpcServer:
        from .v2.grpc_server import server_credentials, start

        tls = self._plan.tls
        credentials = None
        if tls is not None:
            credentials = server_credentials(Path(tls.cert).read_bytes(), Path(tls.key).read_bytes())
        return await start(
            self.catalog,
            address,
            access=self._access,
            credentials=credentials,
            shared=SPREADS,
            reporter=self._reporter,
        )

    async def _serve(self) -> None:
        await self._web.serve(sockets=[self._listening])

    async def _part(self) -> None:
        """Leave in an order that loses nothing: be not ready, then take no new connections, then let clients go.

        Clients are asked to leave their connections only when they can make no new ones, for a connection that is made
        just when the socket is closed is reset."""
        self.catalog.drain()
        await asyncio.sleep(PARTING_S)
        if self._last and let_no_more_in(self._listening):
            await asyncio.sleep(SETTLING_S)
        for listener in self._web.servers:
            listener.close()
        self.catalog.part()
        if self._grpc is not None:
            self._grpc_left = asyncio.create_task(self._grpc.drain(self._plan.settings.drain_s))
        await asyncio.sleep(PARTING_S)

    def _patience_s(self) -> float:
        """How long an engine may take to come back at the end. One that is part of another program is waited for."""
        if threading.current_thread() is not threading.main_thread():
            return math.inf
        return HURRY_S if self._web.force_exit else self._plan.settings.drain_s

    def _break_off(self, hung: Sequence[str]) -> NoReturn:
        """End the process at once: a thread that an engine does not give back can neither be ended nor waited for."""
        _LOG.critical("ended without the engines of %s, which do not come back", ", ".join(hung))
        if self._parts is not None:
            # Whose engine it is, nobody asks.
            self._parts.drain()
        if self._log is not None:
            self._log.close()
        os._exit(1)

    async def _dismiss(self) -> None:
        """Give up the requests that were not waited for, and close the catalog and what it serves."""
        self.catalog.drain()
        for task in (given_up := list(self._web.server_state.tasks)):
            task.cancel()
        # A response that nobody reads any longer may fail in any way.
        await asyncio.gather(*given_up, return_exceptions=True)
        if self._grpc is not None and self._web.force_exit:
            await self._grpc.drain(0)
        if self._grpc_left is not None:
            await self._grpc_left
        if self._parts is not None:
            await self._parts.end()
        await self._end_loading()
        if hung := await self.catalog.close(self._patience_s()):
            self._break_off(hung)
        lanes = [lane for model in self.catalog.models.values() for lane in model.versions.values()]
        for lane in lanes:
            await asyncio.to_thread(lane.predictor.close)
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close)

    async def _end_loading(self) -> None:
        """Wait for the package that is being opened: here, where a second signal is still heard, and does not."""
        outcome, hurried = asyncio.wrap_future(self._loading.outcome), asyncio.create_task(self._hurried.wait())
        await _first(outcome, hurried)
        hurried.cancel()
        if not outcome.done():
            await asyncio.wait([outcome], timeout=HURRY_S)
        if not outcome.done():
            self._break_off(["packages that are being opened"])
        # Whoever opens them tells what went wrong.
        outcome.exception()


@contextmanager
def _problems_as_errors(name: str) -> Iterator[None]:
    """What is a problem over HTTP is an error of the one who calls a function."""
    from .problems import ProblemError

    try:
        yield
    except ProblemError as error:
        raise ServeError(f"model {name!r}", error.detail, "name a package that the server knows") from None


async def _first(*awaited: asyncio.Future[Any] | None) -> None:
    await asyncio.wait([one for one in awaited if one is not None], return_when=FIRST_COMPLETED)


def _reporter(log: Log | None, tracer: Tracer | None) -> Reporter | None:
    """None where nobody listens, which costs requests nothing."""
    if log is None and tracer is None:
        return None
    from .reporting import Reporter

    return Reporter(log, tracer)
