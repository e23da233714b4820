"""A real server on a real socket: started, asked wrongly, stopped."""

from __future__ import annotations

import json
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
import numpy as np
import pytest
from server_cases import PRICES, assert_problem, predictor

import shipworthy.predict
from shipworthy.contract import Array, Arrays
from shipworthy.errors import PackageError, ServeError
from shipworthy.predict import load
from shipworthy.server import Server, Settings

ROW = {"features": [5.1, 3.5, 1.4, 0.2]}
SERVE = "import sys; from shipworthy.server import serve; serve(sys.argv[1], port=int(sys.argv[2]))"


@pytest.fixture(scope="module")
def server(stored: Path) -> Iterator[Server]:
    with Server(stored, port=0, settings=Settings(max_body_bytes=10_000)) as running:
        yield running


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def raw(server: Server, sent: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to bytes as they are; 0 where the connection is closed without one."""
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if not answer:
        return 0, b""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_answers_equal_those_in_process(server: Server, stored: Path) -> None:
    instances = [{"features": row} for row in np.random.default_rng(2).normal(size=(20, 4)).round(3).tolist()]
    with load(stored) as model, httpx.Client(base_url=server.url) as http:
        for instance in instances:
            over_http = http.post("/predict", json=instance).json()
            assert over_http["probabilities"] == model.predict(instance)["probabilities"]
        over_http = http.post("/predict", json={"instances": instances}).json()
        in_process = model.predict({"instances": instances})
    for one, other in zip(over_http["predictions"], in_process["predictions"], strict=True):
        assert one["probabilities"] == other["probabilities"]


def test_chunked_body(server: Server) -> None:
    def chunks() -> Iterator[bytes]:
        for byte in json.dumps(ROW).encode():
            yield bytes([byte])

    response = httpx.post(server.url + "/predict", content=chunks(), headers={"content-type": "application/json"})
    assert response.status_code == 200


def test_chunked_body_beyond_the_limit(server: Server) -> None:
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    head += b"transfer-encoding: chunked\r\n\r\n"
    status, body = raw(server, head + chunk * 12 + b"0\r\n\r\n")
    assert status == 413
    assert json.loads(body)["type"].endswith("too-large")


@pytest.mark.parametrize(
    ("length", "statuses"),
    [(b"5", {400}), (b"9999", {0}), (b"-1", {400}), (b"x", {400}), (b"1\r\ncontent-length: 50", {400})],
    ids=["short", "long", "negative", "no number", "two"],
)
def test_wrong_content_length_hurts_nobody_else(server: Server, length: bytes, statuses: set[int]) -> None:
    head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: " + length
    status, _ = raw(server, head + b"\r\n\r\n" + json.dumps(ROW).encode())
    assert status in statuses
    assert httpx.post(server.url + "/predict", json=ROW).status_code == 200


@pytest.mark.parametrize(
    "sent", [b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST /predict HTTP/1.1\r\n\r\n", b"\xff\r\n"]
)
def test_bytes_that_are_no_request(server: Server, sent: bytes) -> None:
    assert raw(server, sent)[0] in {0, 400, 421}
    assert httpx.get(server.url + "/livez").status_code == 200


def test_client_that_leaves_early_hurts_nobody_else(server: Server) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
            )
    assert httpx.post(server.url + "/predict", json=ROW).status_code == 200


def test_mixed_concurrent_requests_get_the_same_bits(server: Server) -> None:
    """One and many, at the same time: equal bits at equal batch size, within tolerance across sizes."""
    rows = np.random.default_rng(4).normal(size=(6, 4)).round(3).tolist()
    bodies: list[dict[str, Any]] = [{"features": row} for row in rows]
    bodies += [{"instances": [{"features": row} for row in rows[:size]]} for size in (2, 3, 6)]
    seen: list[set[str]] = [set() for _ in bodies]
    failures: list[str] = []

    def ask(offset: int) -> None:
        with httpx.Client(base_url=server.url) as http:
            for turn in range(60):
                place = (turn * 7 + offset) % len(bodies)
                response = http.post("/predict", json=bodies[place])
                if response.status_code != 200:
                    failures.append(response.text)
                    return
                body = response.json()
                answers = body.get("predictions", [body])
                seen[place].add(json.dumps([answer["probabilities"] for answer in answers]))

    threads = [threading.Thread(target=ask, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [len(answers) for answers in seen] == [1] * len(bodies)
    alone = [json.loads(next(iter(answers)))[0] for answers in seen[:6]]
    for place in (6, 7, 8):
        together = json.loads(next(iter(seen[place])))
        np.testing.assert_allclose(together, alone[: len(together)], rtol=0, atol=1e-5)


def test_port_in_use_is_said_before_anything_is_loaded(server: Server) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(ServeError, match="is in use"):
        Server("no-such-package", port=port)


@pytest.mark.parametrize("host", ["not.a.host.invalid", "203.0.113.7", "::bad::"])
def test_address_of_another_machine(host: str) -> None:
    with pytest.raises(ServeError, match="no address of this machine"):
        Server("no-such-package", host=host, port=0, no_auth=True)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.1", "example.com"])
def test_other_addresses_than_loopback_need_a_token(host: str) -> None:
    with pytest.raises(ServeError, match="no token"):
        Server("no-such-package", host=host, port=0)


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:80", "a.b.localhost:8000", "127.0.0.1", "127.8.9.1:1", "[::1]", "[::1]:8000"]
)
def test_names_of_the_loopback_are_answered(server: Server, host: str) -> None:
    assert httpx.post(server.url + "/predict", json=ROW, headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "evil-localhost",
        "127.0.0.1.evil.example",
        "127.1",
        "10.0.0.1",
        "[::2]",
        "localhost:80:80",
        "a@localhost",
        "localhost/",
        "",
    ],
)
def test_foreign_names_are_refused_on_the_loopback(server: Server, host: str) -> None:
    for path in ("/predict", "/livez", "/openapi.json"):
        assert_problem(httpx.get(server.url + path, headers={"host": host}), 421, "misdirected")


def test_two_names_are_refused(server: Server) -> None:
    status, body = raw(server, b"GET /livez HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n")
    assert status == 421
    assert json.loads(body)["type"].endswith("misdirected")


def test_with_a_token_any_name_will_do_and_the_documents_are_closed(stored: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    headers = {"host": "models.example"}
    with Server(stored, port=0, token_file=file) as server:
        for path in ("/docs", "/openapi.json"):
            assert_problem(httpx.get(server.url + path, headers=headers), 401, "unauthorized")
        headers["authorization"] = "Bearer secret"
        assert httpx.post(server.url + "/predict", json=ROW, headers=headers).status_code == 200


def test_token_file(stored: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    for content, says in ((None, "cannot be read"), (b"\n", "is empty"), (b"\xff", "cannot be read")):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ServeError, match=says):
            Server(stored, port=0, token_file=file)
    file.write_text("secret\n")
    with Server(stored, host="0.0.0.0", port=0, token_file=file) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert_problem(httpx.post(url + "/predict", json=ROW), 401, "unauthorized")
        headers = {"authorization": "Bearer secret"}
        assert httpx.post(url + "/predict", json=ROW, headers=headers).status_code == 200


def test_ipv6_loopback(stored: Path) -> None:
    try:
        server = Server(stored, host="::1", port=0)
    except ServeError:
        pytest.skip("this machine has no IPv6")
    with server:
        assert server.url.startswith("http://[::1]:")
        assert httpx.get(server.url + "/health").json()["status"] == "healthy"


def test_package_that_is_refused_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(PackageError), Server(tmp_path / "none", port=0):
        pytest.fail("it serves nothing")


def test_two_packages_of_one_name(stored: Path) -> None:
    with pytest.raises(ServeError, match="two packages"), Server([stored, stored], port=0):
        pytest.fail("it serves nothing")


def test_not_ready_until_loaded(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, real = threading.Event(), shipworthy.predict.load

    def slow(*given: Any, **options: Any) -> Any:
        assert opened.wait(30)
        return real(*given, **options)

    monkeypatch.setattr(shipworthy.predict, "load", slow)
    server = Server(stored, port=0)
    starting = threading.Thread(target=server.start)
    starting.start()
    with httpx.Client(base_url=server.url, timeout=30) as http:
        assert http.get("/livez").status_code == 200
        assert http.get("/readyz").json() == {"status": "starting"}
        assert_problem(http.post("/predict", json=ROW), 503, "not-ready")
        opened.set()
        starting.join()
        assert http.get("/readyz").json() == {"status": "ready"}
    server.stop()


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
