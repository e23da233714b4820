"""A real server that is told to stop: once, twice, under load, while it loads."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_cases import PRICES, assert_problem, predictor

import shipworthy.predict
from shipworthy.contract import Array, Arrays
from shipworthy.errors import ServeError
from shipworthy.server import Server

ROW = {"features": [5.1, 3.5, 1.4, 0.2]}
SERVE = "import sys; from shipworthy.server import serve; serve(sys.argv[1], port=int(sys.argv[2]))"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def test_stopping_finishes_what_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    entered = threading.Event()

    def run(feeds: Arrays) -> dict[str, Array]:
        entered.set()
        time.sleep(1)
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}

    model = predictor(PRICES, run)
    monkeypatch.setattr(shipworthy.predict, "load", lambda *given, **options: model)
    answers: list[httpx.Response] = []
    server = Server("any", port=0)
    server.start()
    asking = threading.Thread(
        target=lambda: answers.append(httpx.post(server.url + "/predict", json={"row": [1, 2]}, timeout=30))
    )
    asking.start()
    assert entered.wait(10)
    server.stop()
    asking.join()
    assert answers[0].json()["value"] == 3.0
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url + "/livez")


def test_sigterm_under_load_loses_nothing(stored: Path) -> None:
    """Every request that gets a connection gets its answer; then the process ends well."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(stored), str(port)])
    url = f"http://127.0.0.1:{port}"
    outcomes: list[object] = []

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=30) as http:
            while True:
                try:
                    outcomes.append(http.post("/predict", json=ROW).status_code)
                except httpx.ConnectError:
                    return
                except httpx.HTTPError as error:
                    outcomes.append(repr(error))

    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(url + "/readyz").status_code == 200:
                    break
            except httpx.ConnectError:
                time.sleep(0.02)
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        os.kill(process.pid, signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
    assert len(outcomes) > 50
    assert set(outcomes) == {200}


def test_stopping_twice_does_nothing_more(stored: Path) -> None:
    with Server(stored, port=0) as server:
        server.stop()
        server.stop()
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url + "/livez")


def test_what_ends_a_ready_server_is_raised_when_it_is_stopped(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*given: Any) -> None:
        raise OSError("the network is gone")

    monkeypatch.setattr("shipworthy.server.hosting._part", fails)
    server = Server(stored, port=0)
    server.start()
    with pytest.raises(OSError, match="network is gone"):
        server.stop()
    server.stop()


def test_stopped_while_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves without having served, and what the thread has loaded in the end is closed."""
    loading, go_on = threading.Event(), threading.Event()
    model = predictor(PRICES, lambda feeds: feeds)
    loaded: list[object] = []

    def slow(package: object, **options: Any) -> Any:
        loaded.append(package)
        loading.set()
        assert go_on.wait(30)
        return model

    monkeypatch.setattr(shipworthy.predict, "load", slow)
    ready: list[Server] = []
    server = Server(["one", "two"], port=0, on_ready=ready.append)
    failures: list[BaseException] = []

    def start() -> None:
        try:
            server.start()
        except ServeError as error:
            failures.append(error)

    starting = threading.Thread(target=start)
    starting.start()
    assert loading.wait(10)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not closed(server.url):
        time.sleep(0.02)
    assert closed(server.url), "it stops listening before the package is loaded"
    go_on.set()
    starting.join(10)
    stopping.join(10)
    assert (ready, server.predictors, loaded) == ([], (), ["one"])
    assert "stopped before it was ready" in str(failures[0])
    runner: Any = model._runner
    assert runner.closed


def closed(url: str) -> bool:
    try:
        httpx.get(url + "/livez")
    except httpx.TransportError:
        return True
    return False


LOADING = """
import sys, time, shipworthy.predict
from shipworthy.server import serve
def load(*given, **options):
    print("loading", flush=True)
    time.sleep(float(sys.argv[1]))
    raise SystemExit("it was loaded in vain")
shipworthy.predict.load = load
serve(["one", "two"], port=0, on_ready=lambda server: print("ready", flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_loading(number: signal.Signals) -> None:
    with started(LOADING, "1.5") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(15) == 0
        assert process.stdout.read() == ""


def test_second_interrupt_does_not_wait_for_loading() -> None:
    with started(LOADING, "60") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(15) != 0


BUSY = """
import sys, time, httpx, threading
sys.path.insert(0, sys.argv[1])
import shipworthy.predict
from server_cases import PRICES, predictor
from shipworthy.server import serve
def run(feeds):
    print("running", flush=True)
    time.sleep(2)
    return {"price": feeds["row"].sum(axis=1, keepdims=True)}
shipworthy.predict.load = lambda *given, **options: predictor(PRICES, run)
serve("any", port=0, on_ready=lambda server: print(server.url, flush=True))
"""


def test_second_interrupt_gives_up_requests_without_a_traceback() -> None:
    with started(BUSY, str(Path(__file__).parent)) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(url + "/predict", json={"row": [1, 2]}, timeout=30))
        )
        asking.start()
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.6)
        process.send_signal(signal.SIGINT)
        asking.join(10)
        assert process.wait(15) == 0
        assert process.stdout.read() == ""
    assert_problem(answers[0], 503, "not-ready")


@contextmanager
def started(code: str, *given: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *given], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
