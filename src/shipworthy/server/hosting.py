"""Putting packages on an address: in this process, or in several that a supervisor looks after."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Unpack

from ..errors import ServeError
from .binding import Binding, Options
from .plan import WORKER, Logs, Plan, Served
from .signals import early_signals
from .sockets import allow_many_files

if TYPE_CHECKING:
    from ..predict import Predictor
    from .loading import Loading
    from .observe import Log
    from .process import Process
    from .routing import Parts


class Serving(Protocol):
    """A server that is ready, as whoever waits for that is told of it."""

    url: str
    """Where it answers, such as http://127.0.0.1:8000."""
    grpc_address: str | None
    """Host and port of gRPC, where it is served."""

    @property
    def served(self) -> tuple[Served, ...]:
        """Every version that is served."""
        ...


class Server:
    """Packages served over HTTP. The address is bound at once, so a port in use is found before anything is loaded.

    As a context manager it serves in a thread, and has loaded every model when the block begins:

        with Server("digits.ship", port=0) as server:
            httpx.get(server.url + "/health")
    """

    def __init__(
        self,
        packages: str | Path | Sequence[str | Path] = (),
        *,
        on_ready: Callable[[Serving], None] | None = None,
        compose: Callable[[Plan], Parts | None] | None = None,
        **options: Unpack[Options],
    ) -> None:
        """`compose` gives what other rooms put into the process of a plan. Raises ServeError where the address cannot
        be bound, or may not be without a token."""
        self._compose = compose
        self._bound = Binding(packages, 1, options)
        self._on_ready = on_ready
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._up = threading.Event()
        self._told = threading.Event()
        self._guard = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, Process] | None = None
        self.url = self._bound.url
        self.grpc_address = self._bound.grpc_address
        self.predictors: tuple[Predictor, ...] = ()
        """What was loaded at the start, once it is ready."""
        self.log: Log | None = None
        """Where requests are logged, if `logs` says so; `serve` sets it up."""

    @property
    def logs(self) -> Logs:
        """What was asked of its log. A server in a thread leaves logging as it is."""
        return self._bound.plan.logs

    @property
    def served(self) -> tuple[Served, ...]:
        """Every version that is served."""
        running = self._running
        return running[1].served if running is not None else ()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then drain, close, and return. SIGHUP reads all packages anew. Raises what
        refuses a package.

        A signal while packages are loaded ends the server with the package that is being read, whose engine cannot be
        interrupted safely; a second signal waits two seconds for it at most, and ends the process with exit code 1."""
        from .loading import Loading

        allow_many_files()
        try:
            with early_signals(self._told):
                # Packages are read and proven while the web server is imported and comes up.
                parts = None if self._compose is None else self._compose(self._bound.plan)
                loading = Loading(self._bound.plan, None if parts is None else parts.upstream)
                import uvloop

                try:
                    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                        runner.run(self._main(loading, parts))
                finally:
                    loading.close()
        finally:
            self._bound.close()

    def start(self) -> None:
        """Serve in a thread; returns when every model is ready. Raises what refuses a package, and ServeError where
        the server is stopped before."""
        self._thread = threading.Thread(target=self._run_in_thread, name="shipworthy-server", daemon=True)
        self._thread.start()
        self._up.wait()
        if self._failure is not None or not self.predictors:
            self._thread.join()
            self._raise_failure()
            raise ServeError("server", "was stopped before it was ready", "start another one")

    def stop(self) -> None:
        """Drain and close what `start` began, and raise what ended it early, if anything did. A second call does
        nothing."""
        self._told.set()
        with self._guard:
            if self._running is not None:
                loop, process = self._running
                loop.call_soon_threadsafe(process.leave)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._raise_failure()

    def load(self, package: str | Path) -> None:
        """Read the packages of a model anew: by its name, or by the path of a package, new ones included.

        They take over between two batches, when they are proven. Raises what refuses a package, and ServeError where
        none is known by the name; then what is served stays as it is. Not for the event loop's own thread."""
        self._ask(lambda process: process.load(package)).result()

    def unload(self, name: str) -> None:
        """Take a model out, when it has finished what it was asked. ServeError where there is none of the name."""
        self._ask(lambda process: process.unload(name)).result()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _ask(self, work: Callable[[Process], Coroutine[Any, Any, None]]) -> Future[None]:
        with self._guard:
            if self._running is None or not self._up.is_set():
                raise ServeError("server", "does not run", "start it first")
            loop, process = self._running
            return asyncio.run_coroutine_threadsafe(work(process), loop)

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run_in_thread(self) -> None:
        try:
            self.run()
        # Whatever it is, it is raised again in the thread that calls `start` or `stop`.
        except BaseException as error:  # noqa: BLE001
            self._failure = error
        finally:
            self._up.set()

    async def _main(self, loading: Loading, parts: Parts | None) -> None:
        from .process import Process

        with self._signals():
            process = Process(self._bound.plan, self._bound.sockets[0], loading, self.log, parts)
            with self._reachable(process):
                await process.run(self._ready)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGTERM or SIGINT drains; a second one waits neither for requests in flight nor for a package
        that is being opened. SIGHUP reloads."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop, reloads = asyncio.get_running_loop(), set[asyncio.Task[object]]()

        def leave() -> None:
            process = self._running[1] if self._running is not None else None
            if process is not None:
                (process.hurry if process.leaving else process.leave)()
            self._told.set()

        def reload() -> None:
            if self._running is not None:
                task: asyncio.Task[object] = loop.create_task(self._running[1].reload())
                reloads.add(task)
                task.add_done_callback(reloads.discard)

        handlers = {signal.SIGTERM: leave, signal.SIGINT: leave, signal.SIGHUP: reload}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    @contextmanager
    def _reachable(self, process: Process) -> Iterator[None]:
        """Other threads may call upon the process, while its loop is there to hear it."""
        with self._guard:
            self._running = asyncio.get_running_loop(), process
            if self._told.is_set():
                process.leave()
        try:
            yield
        finally:
            with self._guard:
                self._running = None

    def _ready(self, predictors: Sequence[Predictor]) -> None:
        self.predictors = tuple(predictors)
        if self._on_ready is not None:
            self._on_ready(self)
        self._up.set()


def serve(
    packages: str | Path | Sequence[str | Path] = (),
    *,
    workers: int = 1,
    on_ready: Callable[[Serving], None] | None = None,
    compose: Callable[[Plan], Parts | None] | None = None,
    worker: str = WORKER,
    **options: Unpack[Options],
) -> None:
    """Serve packages (folders or `.ship` files) until SIGTERM or SIGINT; then finish what is in flight, and return. A
    second signal does not wait, and may end the process.

    With several `workers`, each is a process with an engine of its own, and one that dies is replaced. `on_ready` is
    called once, when every model is loaded and proven. `compose` gives what other rooms put into a process, and
    `worker` is the module that does so in those of workers. Raises ServeError where the address cannot be used, and
    PackageError where a package is refused."""
    if workers < 1:
        raise ServeError("workers", f"is {workers}", "give a whole number above zero")
    if workers == 1:
        server = Server(packages, on_ready=on_ready, compose=compose, **options)
        with _logging(server.logs) as server.log:
            server.run()
        return
    from .supervisor import Supervisor

    bound = Binding(packages, workers, options)
    with _logging(bound.plan.logs):
        Supervisor(bound, on_ready=on_ready, worker=worker).run()


@contextmanager
def _logging(logs: Logs) -> Iterator[Log]:
    """Send what is logged to the server's log while it runs, and then to where it went before."""
    from .observe.logs import LOGGERS, configure

    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    log = configure(logs.format, access=logs.access)
    try:
        yield log
    finally:
        log.close()
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
