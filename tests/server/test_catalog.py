"""Models that come and go at the same time as others ask for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Container
from typing import Any

import httpx
import numpy as np
import pytest
from server_cases import PRICES, predictor

from shipworthy.contract import Arrays
from shipworthy.predict import Predictor
from shipworthy.server.access import Access
from shipworthy.server.app import assemble
from shipworthy.server.catalog import Catalog
from shipworthy.server.problems import ProblemError
from shipworthy.server.process import Process
from shipworthy.server.settings import Settings
from shipworthy.server.sources import Found

pytestmark = pytest.mark.anyio


def price(feeds: Arrays) -> dict[str, np.ndarray]:
    return {"price": feeds["row"].sum(axis=1, keepdims=True)}


def version(name: str) -> Predictor:
    model = predictor(PRICES, price)
    model.version = name
    return model


class Shelf:
    """Stands for packages: the old version, and a new one that is opened when it is let."""

    def __init__(self) -> None:
        self.go, self.opening = threading.Event(), threading.Event()
        self.new = version("new")

    def open(self, name: str, *, served: Container[str]) -> Found:
        kept = tuple(one for one in ("old",) if one in served)
        self.opening.set()
        assert self.go.wait(10)
        return Found((*kept, "new"), (self.new,))

    def names(self) -> tuple[str, ...]:
        return ("prices",)

    def look(self) -> None:
        """Nothing new is there."""

    @property
    def closed(self) -> bool:
        runner: Any = self.new._runner
        return bool(runner.closed)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def catalog(shelf: Shelf) -> AsyncIterator[Catalog]:
    sources: Any = shelf
    catalog = Catalog(Settings(), sources=sources)
    catalog.open([("prices", version("old"))])
    yield catalog
    shelf.go.set()
    await catalog.close()


async def begun(shelf: Shelf, catalog: Catalog) -> asyncio.Task[Any]:
    loading = asyncio.create_task(catalog.load("prices"))
    assert await asyncio.to_thread(shelf.opening.wait, 10)
    return loading


async def test_taken_out_while_it_is_loaded(shelf: Shelf, catalog: Catalog) -> None:
    loading = await begun(shelf, catalog)
    unloading = asyncio.create_task(catalog.unload("prices"))
    await asyncio.sleep(0.01)
    shelf.go.set()
    assert (await loading).version == "new"
    await unloading
    assert catalog.models == {}
    assert shelf.closed


async def test_who_asked_for_it_leaves(shelf: Shelf, catalog: Catalog) -> None:
    loading = await begun(shelf, catalog)
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    shelf.go.set()
    async with asyncio.timeout(10):
        while catalog.lane("prices").version != "new":
            await asyncio.sleep(0.001)
    assert list(catalog.models["prices"].versions) == ["old", "new"]


async def test_the_server_stops_meanwhile(shelf: Shelf, catalog: Catalog) -> None:
    loading = await begun(shelf, catalog)
    closing = asyncio.create_task(catalog.close())
    await asyncio.sleep(0.01)
    shelf.go.set()
    with pytest.raises(ProblemError, match="is stopping"):
        await loading
    await closing
    assert shelf.closed


async def test_a_reload_does_not_bring_back_what_was_taken_out(catalog: Catalog) -> None:
    class Reloading:
        """What a process's reload looks at."""

        _reloading = asyncio.Lock()
        reloaded: list[str]

        def __init__(self) -> None:
            catalog.models["roses"] = catalog.models["prices"]
            self.catalog, self._loading, self.reloaded = catalog, self, []
            self.sources: Any = catalog.sources

        async def _reload_one(self, name: str, failures: list[Exception]) -> None:
            self.reloaded.append(name)
            del catalog.models["roses"]

    process: Any = Reloading()
    await Process.reload(process)
    assert process.reloaded == ["prices"]


async def test_a_request_that_fails_after_a_reload_is_counted_where_it_began() -> None:
    began, go = asyncio.Event(), asyncio.Event()
    catalog = Catalog(Settings())
    catalog.open([("prices", version("old"))])

    async def body() -> AsyncIterator[bytes]:
        yield b'{"row": '
        began.set()
        await go.wait()
        yield b"nothing}"

    transport = httpx.ASGITransport(assemble(catalog, Access(None, loopback=False)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        headers = {"content-type": "application/json"}
        asking = asyncio.create_task(http.post("/predict", content=body(), headers=headers))
        while not began.is_set():
            await asyncio.sleep(0.001)
        catalog.changed()
        go.set()
        assert (await asking).status_code == 400
    text = catalog.metrics.render()[0].decode()
    assert 'shipworthy_requests_total{model="prices",route="predict",status="400",version="old"} 1.0' in text
    await catalog.close()
