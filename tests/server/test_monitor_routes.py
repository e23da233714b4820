"""What a monitor has found over HTTP, who may see it, and that somebody has seen to an alarm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from routing_cases import Extras, Seer, catalog_of, version
from server_cases import assert_problem

from shipworthy.errors import MonitorError
from shipworthy.server.access import Access
from shipworthy.server.app import assemble
from shipworthy.server.catalog import Catalog

pytestmark = pytest.mark.anyio
VIEW = {"model": "prices", "version": "1", "requests": 7, "alarms": []}
SEEN = {"alarm": "a1", "who": "ada", "why": "a new camera"}


@asynccontextmanager
async def asked(
    observer: Seer | None, *, token: str | None = None, client: str = "127.0.0.1", loopback: bool = False
) -> AsyncIterator[tuple[httpx.AsyncClient, Catalog]]:
    """A client of this address."""
    catalog = catalog_of(Extras(observer), version("1"))
    app = assemble(catalog, Access(token, loopback=loopback))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(client, 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http, catalog
    await catalog.close()


async def test_views_are_shown_as_they_are() -> None:
    observer = Seer()
    async with asked(observer) as (http, _):
        response = await http.get("/models/prices/monitor")
        assert response.status_code == 200
        assert response.json() == {"model": "prices", "versions": []}, "it has only just begun"
        observer.views = [VIEW]
        assert (await http.get("/models/prices/monitor")).json() == {"model": "prices", "versions": [VIEW]}


async def test_an_alarm_is_acknowledged() -> None:
    observer = Seer()
    observer.alarms = {"a1"}
    async with asked(observer) as (http, _):
        response = await http.post("/models/prices/monitor/acknowledge", json=SEEN)
        assert (response.status_code, response.json()) == (200, {"alarm": "a1"})
        assert (await http.post("/models/prices/monitor/acknowledge", json={"alarm": "a1"})).status_code == 200
        renewed = await http.post("/models/prices/monitor/acknowledge", json={**SEEN, "new_baseline": 1000})
        assert renewed.status_code == 200
        assert [told[1:] for told in observer.acknowledged] == [
            ("a1", "ada", "a new camera", 0),
            ("a1", "", "", 0),
            ("a1", "ada", "a new camera", 1000),
        ]
        gone = await http.post("/models/prices/monitor/acknowledge", json={"alarm": "a2"})
        assert "no alarm 'a2'" in assert_problem(gone, 404, "not-found")["detail"]


@pytest.mark.parametrize(
    ("content", "status", "slug"),
    [
        (b"{", 400, "malformed"),
        (b"\xff", 400, "malformed"),
        (b"[]", 422, "invalid-input"),
        (b"{}", 422, "invalid-input"),
        (b'{"alarm": ""}', 422, "invalid-input"),
        (b'{"alarm": 1}', 422, "invalid-input"),
        (b'{"alarm": "a", "new_baseline": 31}', 422, "invalid-input"),
        (b'{"alarm": "a", "new_baseline": true}', 422, "invalid-input"),
        (b'{"alarm": "a", "new_baseline": 1000001}', 422, "invalid-input"),
        (b'{"alarm": "a1", "when": "now"}', 422, "invalid-input"),
        (b'{"alarm": "a1", "why": "' + b"x" * 2001 + b'"}', 422, "invalid-input"),
        (b'{"alarm": "' + b"x" * 20_000 + b'"}', 413, "too-large"),
        (b"{" + b",".join(b'"%d": 1' % number for number in range(1000)) + b"}", 422, "invalid-input"),
    ],
)
async def test_what_names_no_alarm_is_refused(content: bytes, status: int, slug: str) -> None:
    observer = Seer()
    async with asked(observer) as (http, _):
        response = await http.post("/models/prices/monitor/acknowledge", content=content)
        assert_problem(response, status, slug)
        assert observer.acknowledged == [] and len(response.content) < 4000


async def test_what_is_not_watched_is_not_found() -> None:
    async with asked(None) as (http, _):
        response = await http.get("/models/prices/monitor")
        assert "watches nothing" in assert_problem(response, 404, "not-found")["detail"]
        assert_problem(await http.post("/models/prices/monitor/acknowledge", json=SEEN), 404, "not-found")
    observer = Seer()
    observer.unwatched = {"prices"}
    async with asked(observer) as (http, _):
        assert "no reference" in assert_problem(await http.get("/models/prices/monitor"), 404, "not-found")["detail"]
        assert_problem(await http.get("/models/rents/monitor"), 404, "not-found")
        assert_problem(await http.post("/models/rents/monitor/acknowledge", json=SEEN), 404, "not-found")


async def test_a_monitor_that_does_not_answer_is_out_of_reach() -> None:
    observer = Seer()
    observer.fails = MonitorError("the monitor process", "does not answer: /tmp/secret", "wait")
    async with asked(observer) as (http, _):
        response = await http.post("/models/prices/monitor/acknowledge", json=SEEN)
        assert "secret" not in assert_problem(response, 503, "unreachable")["detail"]
        assert response.headers["retry-after"] == "1"


async def test_only_this_machine_may_look_and_change_where_there_is_no_token() -> None:
    observer = Seer()
    observer.alarms = {"a1"}
    async with asked(observer, client="192.0.2.7") as (http, _):
        assert_problem(await http.get("/models/prices/monitor"), 403, "forbidden")
        assert_problem(await http.post("/models/prices/monitor/acknowledge", json=SEEN), 403, "forbidden")
        assert (await http.post("/predict", json={"row": [1.0, 2.0]})).status_code == 200
        assert (await http.get("/models/prices")).status_code == 200
    observer = Seer()
    async with asked(observer) as (http, _):
        forwarded = {"x-forwarded-for": "192.0.2.7"}
        assert_problem(await http.get("/models/prices/monitor", headers=forwarded), 403, "forbidden")
        elsewhere = {"host": "evil.example"}
        assert_problem(await http.get("/models/prices/monitor", headers=elsewhere), 421, "misdirected")
        page = {"origin": "http://evil.example"}
        refused = await http.post("/models/prices/monitor/acknowledge", json=SEEN, headers=page)
        assert_problem(refused, 403, "forbidden")
    assert observer.acknowledged == []


async def test_with_a_token_it_is_needed_and_suffices() -> None:
    observer = Seer()
    async with asked(observer, token="secret", client="192.0.2.7") as (http, _):
        assert_problem(await http.get("/models/prices/monitor"), 401, "unauthorized")
        assert_problem(await http.post("/models/prices/monitor/acknowledge", json=SEEN), 401, "unauthorized")
        bearer = {"authorization": "Bearer secret"}
        assert (await http.get("/models/prices/monitor", headers=bearer)).status_code == 200


async def test_the_routes_are_documented() -> None:
    async with asked(Seer()) as (http, _):
        paths = (await http.get("/openapi.json")).json()["paths"]
        looked, told = (paths[f"/models/{{model}}/monitor{rest}"] for rest in ("", "/acknowledge"))
        assert looked["get"]["tags"] == told["post"]["tags"] == ["monitor"]
        assert {*looked["get"]["responses"]} >= {"200", "403", "404"}
        assert {*told["post"]["responses"]} >= {"200", "400", "403", "404", "413", "422", "503"}
        schema = told["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema["required"] == ["alarm"] and {*schema["properties"]} == {"alarm", "who", "why", "new_baseline"}


async def test_its_metrics_stand_behind_those_of_the_server() -> None:
    async with asked(Seer()) as (http, _):
        plain = (await http.get("/metrics")).text
        assert plain.endswith("watched 2.0\n") and "shipworthy_build_info" in plain
        open_metrics = (await http.get("/metrics", headers={"accept": "application/openmetrics-text"})).text
        assert open_metrics.endswith("# TYPE watched gauge\nwatched 1.0\n# EOF\n")
        assert open_metrics.count("# EOF") == 1


async def test_each_version_has_a_watch_until_it_is_served_no_more() -> None:
    observer = Seer()
    catalog = catalog_of(Extras(observer), version("1"), version("2"))
    assert [*observer.watches] == [("prices", "1"), ("prices", "2")]
    transport = httpx.ASGITransport(assemble(catalog, Access(None, loopback=False)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        for number, row in (("1", [1.0, 2.0]), ("2", [3.0, 4.0])):
            path = f"/models/prices/versions/{number}/predict"
            assert (await http.post(path, json={"row": row})).status_code == 200
    found = {number: watch.rows[0][0]["row"].tolist() for (_, number), watch in observer.watches.items()}
    assert found == {"1": [1.0, 2.0], "2": [3.0, 4.0]}
    await catalog.unload("prices")
    assert all(watch.closed for watch in observer.watches.values())
    await catalog.close()


async def test_a_request_without_a_body_is_refused() -> None:
    async with asked(Seer()) as (http, _):
        response: Any = await http.post("/models/prices/monitor/acknowledge")
        assert_problem(response, 400, "malformed")
