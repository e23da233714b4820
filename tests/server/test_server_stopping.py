"""A real server that is told to stop: once, twice, under load, while it loads."""

from __future__ import annotations

import gc
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

from shipworthy.contract import Array, Arrays
from shipworthy.errors import ServeError
from shipworthy.server import Server
from shipworthy.server.plan import Plan
from shipworthy.server.process import YOUNG, Process

ROW = {"features": [5.1, 3.5, 1.4, 0.2]}


def test_stopping_finishes_what_is_in_flight(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = threading.Event()

    def run(feeds: Arrays) -> dict[str, Array]:
        entered.set()
        time.sleep(1)
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}

    model = predictor(PRICES, run)
    monkeypatch.setattr("shipworthy.server.loading.open_package", lambda plan, path: model)
    answers: list[httpx.Response] = []
    server = Server(stored, port=0)
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


def test_the_collector_is_left_as_it_was() -> None:
    process = object.__new__(Process)
    process._thresholds = None
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    process._thaw()
    assert gc.get_threshold() == before
    process._freeze()
    assert gc.get_threshold()[0] == YOUNG and gc.get_freeze_count() > frozen
    process._thaw()
    assert gc.get_threshold() == before and gc.get_freeze_count() <= frozen


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

    monkeypatch.setattr("shipworthy.server.process.Process._part", fails)
    server = Server(stored, port=0)
    server.start()
    with pytest.raises(OSError, match="network is gone"):
        server.stop()
    server.stop()


def test_stopped_while_loading(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves without having served, and what the thread has loaded in the end is closed."""
    loading, go_on = threading.Event(), threading.Event()
    model = predictor(PRICES, lambda feeds: feeds)
    loaded: list[object] = []

    def slow(plan: Plan, package: object) -> Any:
        loaded.append(package)
        loading.set()
        assert go_on.wait(30)
        return model

    monkeypatch.setattr("shipworthy.server.loading.open_package", slow)
    ready: list[object] = []
    server = Server([stored, stored.with_suffix("")], port=0, on_ready=ready.append)
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
    assert (ready, server.predictors, loaded) == ([], (), [stored])
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
import sys, time, shipworthy.server.loading
from shipworthy.server import serve
def load(plan, path):
    print("loading", flush=True)
    time.sleep(float(sys.argv[1]))
    raise SystemExit("it was loaded in vain")
shipworthy.server.loading.open_package = load
serve(sys.argv[2:], port=0, on_ready=lambda server: print("ready", flush=True))
"""


HUNG = """
import sys, time
import server_cases, shipworthy.server.loading
from shipworthy.server import Settings, serve
def run(feeds):
    print("entered", flush=True)
    time.sleep(3600)
model = server_cases.predictor(server_cases.PRICES, run)
shipworthy.server.loading.open_package = lambda plan, path: model
serve(sys.argv[1], port=0, settings=Settings(drain_s=1), on_ready=lambda server: print(server.url, flush=True))
"""


@pytest.mark.parametrize("signals", [1, 2])
def test_an_engine_that_does_not_come_back_ends_with_the_process(stored: Path, signals: int) -> None:
    # The model is of this folder's own making.
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + HUNG
    with started(code, str(stored)) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as asking:
            body = b'{"row": [1, 2]}'
            head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            asking.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            assert process.stdout.readline() == "entered\n"
            for _ in range(signals):
                process.send_signal(signal.SIGTERM)
                time.sleep(0.3)
            assert process.wait(15) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_loading(stored: Path, number: signal.Signals) -> None:
    """It waits for the package that is being opened, and opens no other."""
    with started(LOADING, "6", str(stored), str(stored)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        began = time.monotonic()
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(15) == 0
        assert time.monotonic() - began > 5
        assert process.stdout.read() == ""


EARLY = """
import os, signal, threading
from shipworthy.server.signals import early_signals
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with early_signals(threading.Event()):
    os.kill(os.getpid(), signal.SIGHUP)
    print("goes on", flush=True)
os.kill(os.getpid(), signal.SIGHUP)
"""


def test_hangup_before_anything_is_there_to_reload() -> None:
    with started(EARLY) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "goes on\n"
        assert process.wait(10) == -signal.SIGHUP


TWICE = """
import asyncio, os, signal, sys, threading, uvloop
import numpy as np
import shipworthy.server.loading as loading
from shipworthy.server import serve
from shipworthy.server.process import Process

loads = threading.Event()

def load(plan, path):
    loads.set()
    matrix = np.ones((600, 600))
    while True:
        matrix @ matrix  # in native code, where Python can neither end a thread nor wait for it

def sending(number, work):
    def work_and_send(*given, **named):
        assert loads.wait(20)
        os.kill(os.getpid(), number)
        return work(*given, **named)

    return work_and_send

async def heard_late(process):
    asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGINT)
    await end(process)

loading.open_package, end = load, Process._end_loading
first, second = sys.argv[1:3]
for name, number in ((first, signal.SIGTERM), (second, signal.SIGINT)):
    if name == "no loop":
        uvloop.new_event_loop = sending(number, uvloop.new_event_loop)
    elif name == "unheard":
        Process.__init__ = sending(number, Process.__init__)
    elif name == "draining":
        Process._dismiss = sending(number, Process._dismiss)
    else:
        Process._end_loading = heard_late
serve(sys.argv[3:], port=0, on_ready=lambda server: print("ready", flush=True))
"""


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ("no loop", "no loop", -signal.SIGTERM),
        ("no loop", "unheard", 1),
        ("no loop", "draining", 1),
        ("unheard", "unheard", 1),
        ("unheard", "draining", 1),
        ("unheard", "waiting", 1),
    ],
)
def test_second_interrupt_does_not_wait_for_loading(stored: Path, first: str, second: str, code: int) -> None:
    """Whatever the two find: no event loop yet, one that has heard neither, one that drains, one that waits."""
    with started(TWICE, first, second, str(stored)) as process:
        assert process.stdout is not None
        assert process.wait(30) == code
        said = process.stdout.read()
    assert "ready" not in said and "terminate called" not in said and "Traceback" not in said
    assert ("ended without the engines of packages that are being opened" in said) == (code == 1), said


SLOW_WORKER = """
import os, time
import shipworthy.server.loading as loading
from shipworthy.server.worker import main

def load(plan, path):
    os.write(1, b"loading\\n")  # both do at once
    time.sleep(60)

loading.open_package = load
main()
"""


def test_second_interrupt_of_workers_does_not_wait_for_loading(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_worker.py").write_text(SLOW_WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = (
        "import sys; from shipworthy.server import serve; serve(sys.argv[1], workers=2, port=0, worker='slow_worker')"
    )
    with started(code, str(stored)) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["loading\n"] * 2
        process.send_signal(signal.SIGTERM)
        # Long enough that the workers have drained, and wait for what they open.
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


BUSY = """
import sys, time, httpx, threading
sys.path.insert(0, sys.argv[1])
import shipworthy.server.loading
from server_cases import PRICES, predictor
from shipworthy.server import serve
def run(feeds):
    print("running", flush=True)
    time.sleep(2)
    return {"price": feeds["row"].sum(axis=1, keepdims=True)}
shipworthy.server.loading.open_package = lambda plan, path: predictor(PRICES, run)
serve(sys.argv[2], port=0, on_ready=lambda server: print(server.url, flush=True))
"""


def test_second_interrupt_gives_up_requests_without_a_traceback(stored: Path) -> None:
    with started(BUSY, str(Path(__file__).parent), str(stored)) as process:
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
