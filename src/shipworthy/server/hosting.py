"""Putting the application on an address: bind, load, serve, drain, close."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import ServeError
from .settings import Settings
from .sockets import bind, is_loopback, read_token, url

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from ..predict import Predictor
    from .service import Service

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
        self._socket = bind(host, port)
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._up = threading.Event()
        self._leave: Callable[[], object] = lambda: None
        self.url = url(host, self._socket)
        """Where it answers, such as http://127.0.0.1:8000."""
        self.predictors: tuple[Predictor, ...] = ()
        """What is served, once it is ready."""

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then drain, close, and return. Raises what refuses a package."""
        with ThreadPoolExecutor(1, thread_name_prefix="shipworthy-load") as loader:
            # Packages are read and proven while the web server is imported and comes up.
            loading = loader.submit(_load, self._packages, self._allow_code)
            import uvloop

            with self._socket, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._main(loading))

    def start(self) -> None:
        """Serve in a thread; returns when every model is ready. Raises what refuses a package."""
        self._thread = threading.Thread(target=self._run_in_thread, name="shipworthy-server", daemon=True)
        self._thread.start()
        self._up.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Drain and close what `start` began. A second call does nothing."""
        self._leave()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _run_in_thread(self) -> None:
        try:
            self.run()
        # Whatever it is, it is raised again in the thread that called `start`.
        except BaseException as error:  # noqa: BLE001
            self._failure = error
        finally:
            self._up.set()

    async def _main(self, loading: Future[list[Predictor]]) -> None:
        from .app import assemble
        from .service import Service

        service = Service(self._settings)
        web = _web_server(assemble(service, self._token), self._settings)
        leaving = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._leave = partial(loop.call_soon_threadsafe, leaving.set)
        with _signals(loop, leaving, web):
            serving = asyncio.create_task(web.serve(sockets=[self._socket]))
            predictors: list[Predictor] = []
            try:
                predictors = await asyncio.wrap_future(loading)
                service.open((predictor.manifest.name, predictor) for predictor in predictors)
                self.predictors = tuple(predictors)
                self._ready()
                await asyncio.wait({serving, asyncio.ensure_future(leaving.wait())}, return_when=FIRST_COMPLETED)
                await _part(service, web)
            finally:
                web.should_exit = True
                await serving
                for predictor in predictors:
                    predictor.close()

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


def _load(packages: Sequence[str | Path], allow_code: bool) -> list[Predictor]:
    from ..predict import load

    with ExitStack() as opened:
        predictors = [opened.enter_context(load(package, allow_code=allow_code)) for package in packages]
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
            lifespan="on",
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


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop, leaving: asyncio.Event, web: uvicorn.Server) -> Iterator[None]:
    """The first SIGTERM or SIGINT drains; a second one does not wait for requests in flight."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave() -> None:
        web.force_exit = leaving.is_set()
        leaving.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
