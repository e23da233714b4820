"""A client that leaves before its answer has a line in the log, with the status that nginx gives it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from server_cases import PRICES, predictor

from shipworthy.contract import Array, Arrays
from shipworthy.server import Logs, Server


class Held:
    """A model that does not answer before it is let."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, feeds: Arrays) -> dict[str, Array]:
        self.entered.set()
        assert self.go.wait(30)
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}


class Logged:
    """A server with a model that is held, and the lines of its log."""

    def __init__(self, server: Server, model: Held, lines: list[dict[str, Any]]) -> None:
        self.server, self.model, self.lines = server, model, lines

    def statuses(self) -> dict[str, int]:
        """Of each request that has a line, by its id; two lines of one fail."""
        found = [(line["request_id"], line["status"]) for line in list(self.lines)]
        assert len(dict(found)) == len(found)
        return dict(found)

    def ask(self, identity: str, path: str, body: bytes, announced: int | None = None) -> socket.socket:
        """A connection on which a request was sent, and nothing read."""
        host, port = self.server.url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)))
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\nx-request-id: {identity}\r\nx-request-timeout-ms: 30000\r\n"
            f"content-type: application/json\r\ncontent-length: {announced or len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        return connection


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, stored: Path) -> Iterator[Logged]:
    with serving(monkeypatch, stored) as made:
        yield made


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, stored: Path, **options: Any) -> Iterator[Logged]:
    model, lines = Held(), list[dict[str, Any]]()
    served: Any = predictor(PRICES, model)
    monkeypatch.setattr("shipworthy.server.loading.open_package", lambda plan, path: served)
    server = Server(stored, port=0, logs=Logs(access=True), **options)
    heard: Any = SimpleNamespace(dropped=0, request=lambda **fields: lines.append(fields))
    server.log = heard
    with server:
        try:
            yield Logged(server, model, lines)
        finally:
            model.go.set()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


ROW = json.dumps({"row": [1, 2]}).encode()
TENSOR = json.dumps({"inputs": [{"name": "row", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}).encode()
ROUTES = [("/predict", ROW, "predict"), ("/v2/models/prices/infer", TENSOR, "v2")]


@pytest.mark.parametrize(("path", "body", "route"), ROUTES, ids=["predict", "v2"])
def test_who_leaves_while_it_waits_has_a_line(path: str, body: bytes, route: str, logged: Logged) -> None:
    running = logged.ask("staying", path, body)
    assert logged.model.entered.wait(10)
    leaving = [logged.ask(f"leaving-{number}", path, body) for number in range(3)]
    time.sleep(0.2)
    for connection in leaving:
        connection.close()
    until(lambda: len(logged.lines) == 3)
    assert logged.statuses() == {f"leaving-{number}": 499 for number in range(3)}
    line = logged.lines[0]
    assert (line["method"], line["path"], line["route"], line["model"]) == ("POST", path, route, "prices")
    assert 0.1 < line["total_s"] < 10
    assert "compute_s" not in line
    logged.model.go.set()
    assert running.recv(12) == b"HTTP/1.1 200"
    running.close()
    until(lambda: len(logged.lines) == 4)
    assert logged.statuses()["staying"] == 200


@pytest.mark.parametrize(("path", "body", "route"), ROUTES, ids=["predict", "v2"])
def test_who_leaves_within_its_body_has_a_line(path: str, body: bytes, route: str, logged: Logged) -> None:
    logged.ask("half", path, body, announced=100_000).close()
    until(lambda: len(logged.lines) == 1)
    assert logged.statuses() == {"half": 499}
    assert logged.lines[0]["route"] == route


def test_who_leaves_a_server_that_stops_was_not_refused(monkeypatch: pytest.MonkeyPatch, stored: Path) -> None:
    with serving(monkeypatch, stored) as logged:
        connection = logged.ask("leaving", "/predict", ROW)
        assert logged.model.entered.wait(10)
        waiting = logged.ask("also", "/predict", ROW)
        time.sleep(0.2)
        stopping = threading.Thread(target=logged.server.stop)
        stopping.start()
        time.sleep(0.6)
        connection.close()
        waiting.close()
        until(lambda: len(logged.lines) == 2)
        logged.model.go.set()
        stopping.join(20)
        assert not stopping.is_alive()
    assert logged.statuses() == {"leaving": 499, "also": 499}


def test_a_call_that_is_cancelled_has_a_line(monkeypatch: pytest.MonkeyPatch, stored: Path) -> None:
    grpc = pytest.importorskip("grpc")
    from shipworthy.server.v2.messages import INFERENCE, message

    asked = message("inference.ModelInferRequest")(model_name="prices")
    asked.inputs.add(name="row", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.0, 2.0])
    data = asked.SerializeToString()
    with (
        serving(monkeypatch, stored, grpc_port=0) as logged,
        grpc.insecure_channel(logged.server.grpc_address) as channel,
    ):
        single = channel.unary_unary(f"/{INFERENCE}/ModelInfer").future(
            data, timeout=30, metadata=(("x-request-id", "single"),)
        )
        assert logged.model.entered.wait(10)
        held = threading.Event()

        def requests() -> Iterator[bytes]:
            yield data
            held.wait(10)

        answers = channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer")(
            requests(), timeout=30, metadata=(("x-request-id", "streamed"),)
        )
        time.sleep(0.3)
        single.cancel()
        answers.cancel()
        held.set()
        until(lambda: len(logged.lines) == 2)
        assert logged.statuses() == {"single": 499, "streamed": 499}
        assert {(line["route"], line["model"]) for line in logged.lines} == {("grpc", "prices")}
