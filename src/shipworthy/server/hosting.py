"""Putting the application on an address: bind, load, serve, drain, close."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ServeError
from .settings import Settings
from .sockets import bind, is_loopback, read_token, url

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from ..predict import Predictor
    from .service import Service

T = TypeVar("T")

PARTING_S = 0.2
"""So long a server that is told to stop still takes connections, and so long again requests on those that it has. One
that closed them at once would lose what was already on its way to it."""


class Server:
    """Packages served over HTTP. The address is bound at once, so a port in use is found before anything is loaded.

    As a context manager it serves in a thread, and has loaded every model when the block begins:

        with Server("digits.ship", port=0) as server:
            httpx.get(server.url + "/health")
    """

    def __init__(
        self,
        packages: str | Path | Sequence[str | Path],
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        allow_code: bool = False,
        token_file: str | Path | None = None,
        no_auth: bool = False,
        settings: Settings | None = None,
        on_ready: Callable[[Server], None] | None = None,
    ) -> None:
        """Raises ServeError where the address cannot be bound, or may not be without a token."""
        self._packages = [packages] if isinstance(packages, str | Path) else list(packages)
        self._allow_code = allow_code
        self._token = read_token(token_file) if token_file is not None else None
        self._settings = settings or Settings()
        self._on_ready = on_ready
        if self._token is None and not no_auth and not is_loopback(host):
            raise ServeError(
                f"host {host}",
                "can be reached by others, and no token is set",
                "give token_file, or no_auth to serve anybody",
            )
        # Without a token, the name that is asked for is what tells this machine's own callers from a web page's.
        self._local_only = self._token is None and is_loopback(host)
        self._socket = bind(host, port)
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._up = threading.Event()
        self._told = threading.Event()
        self._guard = threading.Lock()
        self._wake: Callable[[], object] | None = None
        self.url = url(host, self._socket)
        """Where it answers, such as http://127.0.0.1:8000."""
        self.predictors: tuple[Predictor, ...] = ()
        """What is served, once it is ready."""

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then drain, close, and return. Raises what refuses a package.

        A signal while packages are loaded ends the server with the package that is being read, whose engine cannot be
        interrupted safely; a second signal does not wait for that."""
        # Packages are read and proven while the web server is imported and comes up.
        loading = _in_background(partial(_load, self._packages, self._allow_code, self._told))
        import uvloop

        try:
            with self._socket, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._main(loading))
        finally:
            self._told.set()
            if loading.exception() is None:
                for predictor in loading.result():
                    predictor.close()

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
            if self._wake is not None:
                self._wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._raise_failure()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

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

    async def _main(self, loading: Future[list[Predictor]]) -> None:
        from .app import assemble
        from .service import Service

        service = Service(self._settings)
        web = _web_server(assemble(service, self._token, local_only=self._local_only), self._settings)
        loaded = asyncio.wrap_future(loading)
        with self._leaving() as leaving, _signals(leaving, web):
            left = asyncio.create_task(leaving.wait())
            serving = asyncio.create_task(web.serve(sockets=[self._socket]))
            try:
                awaited: set[asyncio.Future[Any]] = {loaded, left, serving}
                await asyncio.wait(awaited, return_when=FIRST_COMPLETED)
                predictors = loaded.result() if loaded.done() else []
                if predictors and not leaving.is_set():
                    self._open(service, predictors)
                    await asyncio.wait({left, serving}, return_when=FIRST_COMPLETED)
                    await _part(service, web)
            finally:
                loaded.cancel()
                left.cancel()
                web.should_exit = True
                await serving
                await _dismiss(service, web)

    def _open(self, service: Service, predictors: list[Predictor]) -> None:
        service.open((predictor.manifest.name, predictor) for predictor in predictors)
        self.predictors = tuple(predictors)
        self._ready()

    @contextmanager
    def _leaving(self) -> Iterator[asyncio.Event]:
        """Set in the running loop when `stop` is called, from whatever thread, while the loop is there to hear it."""
        leaving, loop = asyncio.Event(), asyncio.get_running_loop()
        with self._guard:
            self._wake = partial(loop.call_soon_threadsafe, leaving.set)
            if self._told.is_set():
                leaving.set()
        try:
            yield leaving
        finally:
            with self._guard:
                self._wake = None

    def _ready(self) -> None:
        if self._on_ready is not None:
            self._on_ready(self)
        self._up.set()


def serve(
    packages: str | Path | Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_code: bool = False,
    token_file: str | Path | None = None,
    no_auth: bool = False,
    settings: Settings | None = None,
    on_ready: Callable[[Server], None] | None = None,
) -> None:
    """Serve packages (folders or `.ship` files) until SIGTERM or SIGINT; then finish what is in flight, and return.

    `port` 0 takes a free one. Another address than loopback needs `token_file`, whose content callers must send as
    `Authorization: Bearer <token>`, or `no_auth`. `on_ready` is called once, when every model is loaded and proven.
    Raises ServeError where the address cannot be used, and PackageError where a package is refused."""
    Server(
        packages,
        host=host,
        port=port,
        allow_code=allow_code,
        token_file=token_file,
        no_auth=no_auth,
        settings=settings,
        on_ready=on_ready,
    ).run()


def _in_background(work: Callable[[], T]) -> Future[T]:
    """The outcome of `work`, done in a thread that does not keep the process from ending."""
    future: Future[T] = Future()
    # From now on, it cannot be cancelled by who stops waiting for it.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        # Whatever it is, it is raised again where the result is asked for.
        except BaseException as error:  # noqa: BLE001
            future.set_exception(error)

    threading.Thread(target=run, name="shipworthy-load", daemon=True).start()
    return future


def _load(packages: Sequence[str | Path], allow_code: bool, unwanted: threading.Event) -> list[Predictor]:
    """A predictor for each package; none where they are `unwanted` before all are there."""
    from ..predict import load

    with ExitStack() as opened:
        predictors = []
        for package in packages:
            if unwanted.is_set():
                return []
            predictors.append(opened.enter_context(load(package, allow_code=allow_code)))
        opened.pop_all()
    return predictors


def _web_server(app: FastAPI, settings: Settings) -> uvicorn.Server:
    import uvicorn

    # It warns of every malformed form, which is its sender's doing.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)

    class WebServer(uvicorn.Server):
        """Leaves signals to `Server`, which drains first."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return WebServer(
        uvicorn.Config(
            app,
            loop="none",
            http="httptools",
            ws="none",
            # The service is closed by `_dismiss`, also when the web server is made to leave at once.
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=settings.drain_s,
        )
    )


async def _part(service: Service, web: uvicorn.Server) -> None:
    """Leave in an order that loses nothing: be not ready, then take no new connections, then let clients go.

    Clients are asked to leave their connections only when they can make no new ones, for a connection that is made
    just when the socket is closed is reset."""
    service.drain()
    await asyncio.sleep(PARTING_S)
    for listener in web.servers:
        listener.close()
    service.part()
    await asyncio.sleep(PARTING_S)


async def _dismiss(service: Service, web: uvicorn.Server) -> None:
    """Give up the requests that were not waited for, and close the service."""
    service.drain()
    for task in (given_up := list(web.server_state.tasks)):
        task.cancel()
    # A response that nobody reads any longer may fail in any way.
    await asyncio.gather(*given_up, return_exceptions=True)
    await asyncio.to_thread(service.close)


@contextmanager
def _signals(leaving: asyncio.Event, web: uvicorn.Server) -> Iterator[None]:
    """The first SIGTERM or SIGINT drains; a second one does not wait for requests in flight."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave() -> None:
        web.force_exit = leaving.is_set()
        leaving.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
