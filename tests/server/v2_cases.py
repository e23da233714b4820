"""Servers of the Open Inference Protocol on loopback, and models to ask them for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
import uvloop
from server_cases import predictor

from shipworthy.contract import Arrays
from shipworthy.predict import Predictor
from shipworthy.server import Settings
from shipworthy.server.access import Access
from shipworthy.server.app import assemble
from shipworthy.server.catalog import Catalog
from shipworthy.server.connections import bounded
from shipworthy.server.reporting import Reporter
from shipworthy.server.v2.grpc_server import GrpcServer, start

DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")


def echo() -> Predictor:
    """One input of each dtype, each of which comes back as an output."""
    inputs = {dtype: {"dtype": dtype, "shape": ("batch", 3)} for dtype in DTYPES}
    outputs = {f"{dtype}_out": spec for dtype, spec in inputs.items()}
    given = {"name": "echo", "inputs": inputs, "outputs": outputs, "task": {"kind": "tensors"}}
    return predictor(given, lambda feeds: {f"{name}_out": array for name, array in feeds.items()})


def slow(seconds: float = 0.2) -> Predictor:
    """Twice its input, after a while."""
    given = {
        "name": "slow",
        "inputs": {"x": {"dtype": "float32", "shape": ("batch", 2)}},
        "outputs": {"y": {"dtype": "float32", "shape": ("batch", 2)}},
        "task": {"kind": "tensors"},
    }

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        threading.Event().wait(seconds)
        return {"y": feeds["x"] * 2}

    return predictor(given, run)


def broken() -> Predictor:
    """Fails whatever it is given."""

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        raise RuntimeError("secret of the engine")

    return predictor({**slow().contract.model_dump(exclude={"root"}), "name": "broken"}, run)


@dataclass
class Served:
    """A server that runs in a thread."""

    http: str = ""
    """host:port"""
    grpc: str = ""
    catalog: Any = None
    grpc_server: GrpcServer | None = None
    commands: list[tuple[str, str]] = field(default_factory=list)
    """What management routes asked for."""
    call: Callable[..., Any] = lambda *_: None
    """Run a coroutine on the server's loop."""


@contextmanager
def serving(
    *predictors: Predictor,
    settings: Settings | None = None,
    token: str | None = None,
    grpc: bool = True,
    reporter: Reporter | None = None,
) -> Iterator[Served]:
    """The models over HTTP and gRPC, in a thread with an event loop of its own."""
    served, up, down = Served(), threading.Event(), threading.Event()
    failure: list[BaseException] = []

    async def main() -> None:
        catalog = served.catalog = _catalog(served, predictors, settings)
        access = Access(token, loopback=True)
        server, running = await _listen(catalog, access)
        served.http = f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        if grpc:
            asking = served.grpc_server = await start(catalog, "127.0.0.1:0", access=access, reporter=reporter)
            served.grpc = f"127.0.0.1:{asking.port}"
        loop = asyncio.get_running_loop()
        served.call = lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(20)
        up.set()
        await asyncio.to_thread(down.wait)
        if served.grpc_server is not None:
            await served.grpc_server.drain(0.5)
        server.should_exit = True
        await running
        await catalog.close()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:  # noqa: BLE001 - raised again by the test
            failure.append(error)
        up.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert up.wait(20)
    if failure:
        raise failure[0]
    try:
        yield served
    finally:
        down.set()
        thread.join(20)
        assert not thread.is_alive()
        assert not failure, failure


def _catalog(served: Served, predictors: tuple[Predictor, ...], settings: Settings | None) -> Catalog:
    catalog = Catalog(settings or Settings())
    catalog.open([(one.contract.name, one) for one in predictors])

    async def command(verb: str, name: str) -> None:
        served.commands.append((verb, name))
        await (catalog.unload(name) if verb == "unload" else catalog.load(name))

    catalog.command = command
    return catalog


async def _listen(catalog: Catalog, access: Access) -> tuple[uvicorn.Server, asyncio.Task[None]]:
    config = uvicorn.Config(
        assemble(catalog, access), port=0, log_level="error", lifespan="off", loop="none", http=bounded(), ws="none"
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    return server, running
