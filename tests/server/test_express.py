"""Plain requests for small models: answered without a task, and just as on the usual way."""

from __future__ import annotations

import gc
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from connection_cases import listening, read_all, request, split_answers, wait_until
from server_cases import PRICES, assert_problem, predictor

from shipworthy.contract import Array, Arrays
from shipworthy.predict import Predictor
from shipworthy.scheduling import Refusal
from shipworthy.server import Settings, answering, bodies, create_app
from shipworthy.server.connections.exchange import Exchange
from shipworthy.server.connections.protocol import Connection
from shipworthy.server.dispatch import Dispatcher
from shipworthy.server.front import Front
from shipworthy.server.lane import INLINE_BATCH
from shipworthy.server.place import Place

ROW = {"row": [1.5, 2.0]}


def total(feeds: Arrays) -> dict[str, Array]:
    with np.errstate(over="ignore"):
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}


def small(run: Callable[[Arrays], dict[str, Array]] = total, contract: dict[str, Any] = PRICES) -> Predictor:
    """One that is quick enough for the event loop."""
    made = predictor(contract, run)
    case = SimpleNamespace(inputs={"row": np.zeros((1, 2), np.float32)})
    made.package.golden = SimpleNamespace(cases=[case])  # type: ignore[misc,assignment]
    made.costs = dict.fromkeys(made.batch_sizes, 1e-5)
    return made


@dataclass
class Served:
    http: httpx.Client
    port: int
    tasks: list[str]
    """One entry for each task that a request needed."""
    web: uvicorn.Server

    def post(self, value: object = None, path: str = "/predict", **options: Any) -> httpx.Response:
        return self.http.post(path, json=ROW if value is None else value, **options)


@contextmanager
def served(model: Predictor, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Served]:
    tasks: list[str] = []
    spawn = Connection.spawn

    def counted(connection: Connection, work: Any) -> None:
        tasks.append(work.__qualname__)
        spawn(connection, work)

    monkeypatch.setattr(Connection, "spawn", counted)
    app = create_app({"prices": model}, settings=Settings(**settings))
    with listening(app) as server, httpx.Client(base_url=server.url) as http:
        assert http.post("/predict", json=ROW).status_code == 200, "the first one finds the route"
        tasks.clear()
        yield Served(http, server.port, tasks, server.web)
        lane = app._catalog.lane("prices")
        assert (lane.queue.requests, lane.queue.bytes, lane.queue.rows) == (0, 0, 0)


def test_plain_request_needs_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(small(), monkeypatch) as server:
        response = server.post(headers={"x-request-id": "mine"})
        assert not server.tasks
        assert response.status_code == 200 and response.json()["value"] == 3.5
        assert response.headers["x-request-id"] == "mine" and "compute;dur=" in response.headers["server-timing"]
        usual = server.post(path="/predict?round=9", headers={"x-request-id": "mine"})
        assert server.tasks
        assert {*usual.headers} == {*response.headers}
        assert {*usual.json()} == {*response.json()} and usual.json()["value"] == 3.5
        assert 'requests_total{model="prices",route="predict",status="200",version="000000000000"} 3.0' in (
            server.http.get("/metrics").text.replace("shipworthy_", "")
        )


@pytest.mark.parametrize(
    ("options", "status", "slug"),
    [
        ({"content": b"{"}, 400, "malformed"),
        ({"content": b'{"row": [1, 2]}', "headers": {"content-type": "text/plain"}}, 415, "unsupported-media-type"),
        ({"json": {"row": [1.0]}}, 422, "invalid-input"),
        ({"json": {"row": [1.0, "x"]}}, 422, "invalid-input"),
        ({"json": {"row": [3e38, 3e38]}}, 422, "invalid-input"),
        ({"json": ROW, "headers": {"x-request-timeout-ms": "x"}}, 422, "invalid-input"),
        ({"json": ROW, "headers": {"host": "a.example"}}, 421, "misdirected"),
    ],
)
def test_what_is_wrong_is_said_as_on_the_usual_way(
    options: dict[str, Any], status: int, slug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shipworthy.server.access import Access

    options = {**options, "headers": {"content-type": "application/json", **options.get("headers", {})}}
    with served(small(), monkeypatch) as server:
        monkeypatch.setattr(Access, "check", _as_on_loopback(Access.check))
        assert_problem(server.http.post("/predict", **options), status, slug)
        assert server.post().json()["value"] == 3.5


def _as_on_loopback(check: Any) -> Any:
    def checked(access: Any, *arguments: Any) -> Any:
        access._loopback = True
        return check(access, *arguments)

    return checked


def test_bodies_are_bounded_on_this_way_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(small(), monkeypatch, max_body_bytes=100) as server:
        long = json.dumps(ROW).encode() + b" " * 100
        headers = {"content-type": "application/json"}
        assert_problem(server.http.post("/predict", content=long, headers=headers), 413, "too-large")
        assert server.post().status_code == 200


def test_what_fails_on_this_way_is_answered(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    with served(small(), monkeypatch) as server:
        for owner, name in ((Place, "numbers"), (Front, "lines")):
            caplog.clear()
            with monkeypatch.context() as broken:
                broken.setattr(owner, name, fail)
                with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                    body = json.dumps(ROW).encode()
                    # What comes after it in the same read finds the connection at its end.
                    client.sendall(request("POST", "/predict", body, b"content-type: application/json") * 2)
                    assert [status for status, _, _ in split_answers(read_all(client))] == [500]
            assert "a secret" in caplog.text
            assert server.post().json()["value"] == 3.5


def test_what_was_read_here_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(small(), monkeypatch) as server:
        read: list[bytes] = []
        for module in (answering, bodies):
            parse = module.from_json
            monkeypatch.setattr(module, "from_json", lambda body, p=parse, **o: (read.append(body), p(body, **o))[1])
        answer = server.post({"instances": [ROW, ROW]}, headers={"x-request-id": "mine"})
        assert [one["value"] for one in answer.json()["predictions"]] == [3.5, 3.5]
        assert answer.headers["x-request-id"] == "mine" and len(read) == 1


def test_refusal_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(small(), monkeypatch) as server:
        admit = Dispatcher.admit
        monkeypatch.setattr(Dispatcher, "admit", lambda *_: Refusal("deadline", 2.0))
        refused = server.post()
        assert_problem(refused, 503, "overloaded")
        assert refused.headers["retry-after"] == "2"
        monkeypatch.setattr(Dispatcher, "admit", admit)
        assert server.post().status_code == 200
        text = server.http.get("/metrics").text
        assert 'requests_shed_total{model="prices",reason="deadline",version="000000000000"} 1.0' in (
            text.replace("shipworthy_", "")
        )


def test_failing_engine_answers_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(feeds: Arrays) -> dict[str, Array]:
        if (feeds["row"] < 0).any():
            raise RuntimeError("a secret")
        return total(feeds)

    with served(small(run), monkeypatch) as server:
        with ThreadPoolExecutor(8) as pool:
            rows = [{"row": [float(value), 0.0]} for value in (1, -1, 2, -2, 3, -3, 4, -4)]
            answers = list(pool.map(server.post, rows))
        for row, response in zip(rows, answers, strict=True):
            if row["row"][0] < 0:
                assert "secret" not in assert_problem(response, 500, "internal")["detail"]
            else:
                assert response.json()["value"] == row["row"][0]


def test_answers_of_many_at_once_are_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(small(), monkeypatch) as server, ThreadPoolExecutor(16) as pool:
        rows = [[float(value), 0.25 * value] for value in range(300)]
        answers = list(pool.map(lambda row: server.post({"row": row}).json(), rows))
        assert [answer["value"] for answer in answers] == [1.25 * value for value in range(300)]
        assert len({answer["prediction_id"] for answer in answers}) == 300
        assert not server.tasks


def test_old_and_hasty_clients_get_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(ROW).encode()
    plain = request("POST", "/predict", body, b"content-type: application/json")
    with served(small(), monkeypatch) as server:
        for sent, count in (
            (request("POST", "/predict", body, b"content-type: application/json", version="1.0"), 1),
            (plain * 5 + request("POST", "/predict", body, b"content-type: application/json", b"connection: close"), 6),
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                client.sendall(sent)
                answers = split_answers(read_all(client))
            assert [status for status, _, _ in answers] == [200] * count
            assert all(json.loads(body)["value"] == 3.5 for _, _, body in answers)


def test_short_body_that_comes_by_itself_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(ROW).encode()
    sent = request("POST", "/predict", body, b"content-type: application/json", b"connection: close")
    with served(small(), monkeypatch) as server:
        for cut in (len(sent) - len(body), len(sent) - 3):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                client.sendall(sent[:cut])
                time.sleep(0.05)
                client.sendall(sent[cut:])
                assert [status for status, _, _ in split_answers(read_all(client))] == [200]
        assert not server.tasks
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(sent[:-3])
        waiting = b"expect: 100-continue"
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(request("POST", "/predict", body, b"content-type: application/json", waiting)[: -len(body)])
            assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
            client.sendall(body)
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_stop_answers_who_still_sends_a_short_body(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = request("POST", "/predict", json.dumps(ROW).encode(), b"content-type: application/json")
    with (
        served(small(), monkeypatch) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as client,
    ):
        client.sendall(sent[:-3])
        time.sleep(0.1)
        assert not server.tasks
        server.web.should_exit = True
        wait_until(lambda: server.tasks)
        client.sendall(sent[-3:])
        [(status, headers, _)] = split_answers(read_all(client))
        assert (status, headers["connection"]) == (200, "close")


def test_client_that_leaves_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    began = threading.Event()

    def run(feeds: Arrays) -> dict[str, Array]:
        began.set()
        assert go.wait(10)
        return total(feeds)

    body = json.dumps(ROW).encode()
    go.set()
    with served(small(run), monkeypatch) as server:
        go.clear()
        began.clear()
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(request("POST", "/predict", body, b"content-type: application/json"))
            assert began.wait(10)
        go.set()
        assert server.post().json()["value"] == 3.5


def test_large_answers_are_not_written_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    width = INLINE_BATCH // 8 + 1
    wide = {**PRICES, "outputs": {"price": {"dtype": "float32", "shape": ("batch", width)}}}
    with served(
        small(lambda feeds: {"price": np.repeat(total(feeds)["price"], width, 1)}, wide), monkeypatch
    ) as server:
        assert len(server.post().json()["value"]) == width
        assert server.tasks


def test_requests_leave_no_cycles_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would be looked through for garbage some time later, which took milliseconds from others."""
    with served(small(), monkeypatch) as server:
        for path in ("/predict", "/predict?round=3"):
            for _ in range(3):
                server.post(path=path)
            gc.collect()
            gc.disable()
            try:
                for _ in range(200):
                    server.post(path=path)
                time.sleep(0.05)
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                left = [one for one in gc.garbage if type(one).__module__.startswith("shipworthy.server")]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert len(left) < 20, left[:5]


def unmixable(run: Callable[[Arrays], dict[str, Array]], *, quick: bool) -> Predictor:
    """One whose rows must not share a batch, as its outputs depend on their neighbours."""
    made = small(run) if quick else predictor(PRICES, run)
    made.mixes = False
    return made


@pytest.mark.parametrize("quick", [True, False], ids=["event loop", "threads"])
@pytest.mark.parametrize("path", ["/predict", "/predict?round=9"])
def test_rows_that_must_not_mix_run_alone(path: str, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def beside(feeds: Arrays) -> dict[str, Array]:
        time.sleep(0.005)
        return {"price": feeds["row"].sum(axis=1, keepdims=True) + len(feeds["row"])}

    with (
        served(unmixable(beside, quick=quick), monkeypatch, target_ms=60_000) as server,
        ThreadPoolExecutor(16) as pool,
    ):
        rows = [[float(value), 0.5] for value in range(100)]
        answers = list(pool.map(lambda row: server.post({"row": row}, path), rows))
        assert {answer.status_code for answer in answers} == {200}, answers[0].text
        assert [answer.json()["value"] for answer in answers] == [value + 1.5 for value in range(100)]


@pytest.mark.parametrize("path", ["/predict", "/predict?round=9"])
def test_who_left_is_not_counted_as_answered(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves, exchanges = False, list[Exchange]()
    glance = Exchange.glance

    def seen(exchange: Exchange) -> bytes | None:
        exchanges.append(exchange)
        return glance(exchange)

    def run(feeds: Arrays) -> dict[str, Array]:
        if leaves:
            # As when the event loop learns of it between two batches.
            exchanges[-1].leave()
        return total(feeds)

    monkeypatch.setattr(Exchange, "glance", seen)
    with served(small(run), monkeypatch) as server:
        before, leaves = _answered(server), True
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(request("POST", path, json.dumps(ROW).encode(), b"content-type: application/json"))
            wait_until(lambda: exchanges and exchanges[-1].gone)
        leaves = False
        assert server.post().status_code == 200
        assert _answered(server) == before + 1


def _answered(server: Served) -> float:
    text = server.http.get("/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("shipworthy_requests_total") and '"200"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
