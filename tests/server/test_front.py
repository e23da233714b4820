"""The bare lane: what it answers itself, what it hands on, and how it refuses in the words of each protocol."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from server_cases import assert_problem, prices

from shipworthy.server.access import Access
from shipworthy.server.app import assemble
from shipworthy.server.catalog import Catalog
from shipworthy.server.front import Front, is_hot
from shipworthy.server.reporting import Reporter
from shipworthy.server.settings import Settings

pytestmark = pytest.mark.anyio


class Told:
    """A log and a tracer that keep what they are told."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def request(self, **fields: Any) -> None:
        self.lines.append(fields)


def served(*, token: str | None = None, told: Told | None = None) -> tuple[Front, Catalog]:
    catalog = Catalog(Settings())
    catalog.open([("prices", prices())])
    log: Any = told
    reporter = None if told is None else Reporter(log, None)
    return assemble(catalog, Access(token, loopback=False), reporter), catalog


def asking(app: Front) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@pytest.mark.parametrize(
    ("path", "hot"),
    [
        ("/predict", True),
        ("/models/prices/predict", True),
        ("/models/prices/versions/3/predict", True),
        ("/v2/models/prices/infer", True),
        ("/v2/models/prices/versions/3/infer", True),
        ("/v2/models/prices", False),
        ("/models/prices", False),
        ("/models//predict", False),
        ("/models/a/b/predict", False),
        ("/predict/", False),
        ("/", False),
    ],
)
def test_hot_paths(path: str, hot: bool) -> None:
    assert is_hot(path) is hot


@pytest.mark.parametrize("path", ["/predict", "/models/prices/predict", "/v2/models/prices/infer", "/v2", "/models"])
async def test_every_path_needs_the_token_and_says_so_in_its_protocol(path: str) -> None:
    app, _ = served(token="secret")
    async with asking(app) as http:
        response = await http.post(path, json={}) if is_hot(path) else await http.get(path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    if path.startswith("/v2"):
        assert response.json() == {"error": "send it as Authorization: Bearer <token>"}
    else:
        assert_problem(response, 401, "unauthorized")


@pytest.mark.parametrize("path", ["/predict", "/v2/models/prices/infer"])
async def test_other_methods_are_told_which_one_is_taken(path: str) -> None:
    app, _ = served()
    async with asking(app) as http:
        for method in ("GET", "PUT", "DELETE"):
            response = await http.request(method, path)
            assert response.status_code == 405
            assert response.headers["allow"] == "POST"


async def test_a_version_can_be_named() -> None:
    app, catalog = served()
    version = catalog.lane("prices").version
    async with asking(app) as http:
        response = await http.post(f"/models/prices/versions/{version}/predict", json={"row": [1, 2]})
        assert response.json()["value"] == 3.0
        missing = await http.post("/models/prices/versions/other/predict", json={"row": [1, 2]})
        assert "has no version 'other'" in assert_problem(missing, 404, "not-found")["detail"]
        unknown = await http.post("/v2/models/other/infer", json={})
        assert unknown.status_code == 404
        assert unknown.json()["error"].startswith("there is no model 'other'")


async def test_a_model_that_was_taken_out_is_not_found() -> None:
    app, catalog = served()
    async with asking(app) as http:
        assert (await http.post("/models/prices/predict", json={"row": [1, 2]})).status_code == 200
        await catalog.unload("prices")
        assert_problem(await http.post("/models/prices/predict", json={"row": [1, 2]}), 404, "not-found")


async def test_clients_are_asked_to_leave_when_the_server_parts() -> None:
    app, catalog = served()
    async with asking(app) as http:
        assert "connection" not in (await http.post("/predict", json={"row": [1, 2]})).headers
        catalog.part()
        assert (await http.post("/predict", json={"row": [1, 2]})).headers["connection"] == "close"
        assert (await http.post("/predict", json={})).headers["connection"] == "close"


async def test_every_request_is_reported_once() -> None:
    told = Told()
    app, _ = served(told=told)
    async with asking(app) as http:
        await http.post("/predict", json={"row": [1, 2]}, headers={"x-request-id": "mine"})
        await http.post("/predict", json={"row": [1]})
        await http.post("/v2/models/other/infer", json={})
        await http.get("/livez")
    assert [(line["path"], line["status"], line["route"]) for line in told.lines] == [
        ("/predict", 200, "predict"),
        ("/predict", 422, "predict"),
        ("/v2/models/other/infer", 404, None),
        ("/livez", 200, None),
    ]
    first = told.lines[0]
    assert (first["request_id"], first["model"]) == ("mine", "prices")
    assert first["total_s"] >= first["queue_s"] >= 0
    assert first["compute_s"] > 0


async def test_what_was_refused_is_counted() -> None:
    app, catalog = served()
    async with asking(app) as http:
        await http.post("/predict", json={"row": [1, 2]})
        await http.post("/predict", json={"row": [1]})
        await http.post("/models/other/predict", json={"row": [1]})
        text = (await http.get("/metrics")).text
    assert total(text, "shipworthy_requests_total{") == 2
    assert total(text, "shipworthy_requests_unrouted_total{") == 1
    assert catalog.metrics.statistics("prices", catalog.lane("prices").version).inference_count == 1


def total(metrics: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(name))
