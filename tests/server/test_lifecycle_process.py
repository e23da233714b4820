"""The command `shipworthy serve`: started, told to stop under load, started wrongly."""

from __future__ import annotations

import http.server
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx
import pytest
from lifecycle_cases import Load, closed, serving, spoil, until, version_of

from shipworthy.server import Logs, Server

COMMAND = [sys.executable, "-m", "shipworthy", "serve"]


@pytest.mark.parametrize("keep", [True, False], ids=["kept connections", "a connection for each request"])
def test_sigterm_under_load_loses_nothing(stored: Path, effort: float, keep: bool) -> None:
    """Every request that gets a connection gets its answer; then the process ends well."""
    for turn in range(max(3 if keep else 4, round(100 * effort)) // 2):
        with serving(stored) as server, Load(server.port, keep=keep) as load:
            until(lambda load=load: load.outcomes[200] > 50)  # type: ignore[misc]
            time.sleep(0.01 * (turn % 10))
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            load.stop()
            assert set(load.outcomes) <= {200, "refused"}


@pytest.mark.full
def test_interrupted_twice_it_does_not_wait_for_a_client(stored: Path) -> None:
    """An idle connection would be closed at once; one with half a request is waited for, until the second signal."""
    with serving(stored, "--workers", 2) as server, socket.create_connection(("127.0.0.1", server.port)) as half:
        half.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 30\r\n\r\n{")
        time.sleep(0.2)
        server.signal(signal.SIGINT)
        time.sleep(1)
        assert server.process.poll() is None
        server.signal(signal.SIGINT)
        assert server.process.wait(5) == 0


def test_a_port_in_use_ends_the_start(stored: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words in ([], ["--workers", "2"]):
            said = run(str(stored), "--port", str(port), *words)
            assert said.returncode == 2
            assert f"address 127.0.0.1:{port}: is in use by another process" in said.stderr
            assert "Traceback" not in said.stderr


@pytest.mark.full
def test_two_servers_of_several_workers_do_not_share_an_address(stored: Path) -> None:
    with serving(stored, "--workers", 2) as server:
        said = run(str(stored), "--workers", "2", "--port", str(server.port))
        assert said.returncode == 2
        assert "is in use" in said.stderr


@pytest.mark.full
def test_a_refused_package_ends_every_number_of_workers_alike(stored: Path, tmp_path: Path) -> None:
    spoil(spoilt := version_of(stored, tmp_path / "iris", 1))
    one, two = run(str(spoilt), "--port", "0"), run(str(spoilt), "--port", "0", "--workers", "2")
    assert one.returncode == two.returncode == 2
    assert one.stderr == two.stderr
    assert "model.onnx" in one.stderr
    assert one.stdout == two.stdout == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--host", "0.0.0.0", "--workers", "2"), "no token is set"),
        (("--tls-key", "key.pem"), "was given without --tls-cert"),
        (("--tls-cert", "none.pem", "--tls-key", "none.pem"), "cannot be read"),
        (("--otel-endpoint", "collector:4318"), "give an address such as"),
        (("--repository", "none"), "is no folder"),
        (("--token-file", "none"), "cannot be read"),
        (("--workers", "0"), "Invalid value for '--workers'"),
        (("--target-ms", "0"), "Invalid value for '--target-ms'"),
        (("--log-format", "xml"), "Invalid value for '--log-format'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_words_are_refused_without_a_traceback(stored: Path, words: tuple[str, ...], says: str) -> None:
    said = run(str(stored), "--port", "0", *words)
    assert said.returncode == 2
    assert says in said.stderr
    assert "Traceback" not in said.stderr


def test_no_package_at_all() -> None:
    said = run("--port", "0")
    assert said.returncode == 2
    assert "has no model" in said.stderr


SLOW = """
import sys, time, shipworthy.predict
real = shipworthy.predict.load
def load(*given, **options):
    time.sleep(2)
    return real(*given, **options)
shipworthy.predict.load = load
"""


@pytest.mark.full
def test_workers_that_start_slowly_say_so(stored: Path, tmp_path: Path) -> None:
    """They are alive at once, and none is ready before all are."""
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    port = free_port()
    command = [*COMMAND, str(stored), "--port", str(port), "--workers", "2"]
    with subprocess.Popen(command, env=importing(tmp_path), stdout=subprocess.PIPE, text=True) as process:
        url = f"http://127.0.0.1:{port}"
        until(lambda: not closed(port))
        assert {httpx.get(url + "/livez").status_code for _ in range(10)} == {200}
        before = [httpx.get(url + "/readyz") for _ in range(10)]
        assert {(one.status_code, one.json()["status"]) for one in before} == {(503, "starting")}
        assert httpx.post(url + "/predict", json={"features": [1, 2, 3, 4]}).status_code == 503
        assert process.stdout is not None
        lines: list[str] = []
        reading = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")))  # type: ignore[union-attr]
        reading.start()
        until(lambda: any(line.startswith("ready: ") for line in lines))
        assert {httpx.get(url + "/readyz").status_code for _ in range(10)} == {200}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        reading.join(10)
        assert sum(line.startswith("ready: ") for line in lines) == 1


@pytest.mark.full
def test_workers_that_die_at_every_start_end_the_server(stored: Path, tmp_path: Path) -> None:
    dying = "import os, signal, shipworthy.predict\n"
    dying += "shipworthy.predict.load = lambda *given, **options: os.kill(os.getpid(), signal.SIGKILL)\n"
    (tmp_path / "sitecustomize.py").write_text(dying)
    command = [*COMMAND, str(stored), "--port", "0", "--workers", "2"]
    said = subprocess.run(command, env=importing(tmp_path), capture_output=True, text=True, timeout=60)
    assert said.returncode == 2
    assert "died 3 times before they were ready: it was ended by SIGKILL" in said.stderr
    assert "Traceback" not in said.stderr


def test_as_many_files_as_the_system_allows(stored: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    command = ["bash", "-c", 'ulimit -S -n 256; exec "$0" "$@"', *COMMAND, str(stored), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line.startswith("ready: ") for line in iter(process.stdout.readline, ""))
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert f"Max open files            {hard}" in limits
        process.terminate()
        assert process.wait(20) == 0


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60)


def importing(folder: Path) -> dict[str, str]:
    """An environment in which every interpreter runs the folder's sitecustomize.py at its start."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def free_port() -> int:
    """One that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.full)])
def test_requests_are_logged_where_that_is_asked_for(
    stored: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(stored, "--access-log", "--log-format", "json", "--workers", workers) as server:
        for number in range(8):
            httpx.post(
                server.url + "/predict", json={"features": [1, 2, 3, 4]}, headers={"x-request-id": f"id-{number}"}
            )
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {line["request_id"] for line in lines if "request_id" in line} == {f"id-{number}" for number in range(8)}


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes whatever is posted."""

    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *given: object) -> None:
        """Nothing is to be seen."""


@pytest.mark.parametrize("standard", [False, True], ids=["by option", "by the standard variable"])
def test_traces_are_sent_before_the_server_has_ended(
    stored: Path, standard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.sdk")
    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_port}/v1/traces"
        if standard:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint)
        with Server(stored, port=0, logs=Logs(otel_endpoint=None if standard else endpoint)) as server:
            answer = httpx.post(server.url + "/predict", json={"features": [1, 2, 3, 4]})
            trace_id = answer.headers["traceparent"].split("-")[1]
        collector.shutdown()
    assert any(bytes.fromhex(trace_id) in body for body in Collector.bodies)


def test_the_log_hears_of_calls_and_its_losses_are_counted(stored: Path) -> None:
    grpc = pytest.importorskip("grpc")
    lines: list[dict[str, Any]] = []
    heard: Any = SimpleNamespace(dropped=3, request=lambda **fields: lines.append(fields))
    server = Server(stored, port=0, grpc_port=0, logs=Logs(access=True))
    server.log = heard
    with server, grpc.insecure_channel(server.grpc_address) as channel:
        path = "/inference.GRPCInferenceService/ServerLive"
        channel.unary_unary(path)(b"", timeout=10)
        counted = httpx.get(server.url + "/metrics").text
    assert [(line["path"], line["status"]) for line in lines] == [(path, 200), ("/metrics", 200)]
    assert "shipworthy_log_lines_dropped_total 3.0" in counted
