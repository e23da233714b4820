"""A client that leaves takes what it asked along, whatever stage that is in."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from connection_cases import request
from server_cases import PRICES, predictor

from shipworthy.contract import Array, Arrays
from shipworthy.server import Server


class Held:
    def __init__(self) -> None:
        self.go = threading.Event()
        self.rows: list[float] = []

    def __call__(self, feeds: Arrays) -> dict[str, Array]:
        self.rows += feeds["row"][:, 0].tolist()
        assert self.go.wait(30)
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}


@contextmanager
def serving(model: Held, monkeypatch: pytest.MonkeyPatch, stored: Path) -> Iterator[Server]:
    served: Any = predictor(PRICES, model)
    monkeypatch.setattr("shipworthy.server.loading.open_package", lambda plan, path: served)
    with Server(stored, port=0) as server:
        try:
            yield server
        finally:
            model.go.set()


def under_way(server: Server) -> float:
    text = httpx.get(server.url + "/metrics").text
    found = re.search(r"^shipworthy_requests_in_flight\{.*\} ([0-9.]+)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def until(server: Server, count: int) -> None:
    end = time.monotonic() + 10
    while under_way(server) != count:
        assert time.monotonic() < end, f"{under_way(server)} requests are under way, not {count}"
        time.sleep(0.02)


def ask(server: Server, route: str, value: float) -> socket.socket:
    """A connection on which a request was sent, and nothing read."""
    if route == "/predict":
        body = json.dumps({"row": [value, 0]}).encode()
    else:
        tensor = {"name": "row", "shape": [1, 2], "datatype": "FP32", "data": [value, 0]}
        body = json.dumps({"inputs": [tensor]}).encode()
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(request("POST", route, body, b"x-request-timeout-ms: 30000", b"content-type: application/json"))
    return connection


@pytest.mark.parametrize("route", ["/predict", "/v2/models/prices/infer"])
def test_what_waits_for_a_client_that_left_is_not_run(
    route: str, monkeypatch: pytest.MonkeyPatch, stored: Path
) -> None:
    model = Held()
    with serving(model, monkeypatch, stored) as server:
        running = ask(server, route, 1)
        until(server, 1)
        leaving = [ask(server, route, 2) for _ in range(5)]
        until(server, 6)
        for connection in leaving:
            connection.close()
        until(server, 1)
        staying = ask(server, route, 3)
        until(server, 2)
        model.go.set()
        assert running.recv(12) == staying.recv(12) == b"HTTP/1.1 200"
        running.close()
        staying.close()
    assert 3 in model.rows
    assert 2 not in model.rows
