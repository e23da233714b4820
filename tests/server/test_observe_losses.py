"""What a server ended and lost is in its metrics, whichever worker is asked."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import httpx
import pytest
from lifecycle_cases import serving

from shipworthy.server import Logs, Server
from shipworthy.server.observe import tracing


def counted(url: str, name: str) -> float:
    """A counter's sum over its labels."""
    text = httpx.get(url + "/metrics").text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def spoil(url: str) -> bytes:
    """Send what is no request, and give what comes back."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"this is no request\r\n\r\n")
        return connection.recv(65536)


def test_connections_that_were_ended_are_counted_by_the_reason_in_their_answer(stored: Path) -> None:
    with Server(stored, port=0) as server, Server(stored, port=0) as other:
        assert counted(server.url, "shipworthy_connections_ended_total{") == 0
        for _ in range(3):
            assert b"urn:shipworthy:problem:malformed" in spoil(server.url)
        assert counted(server.url, 'shipworthy_connections_ended_total{reason="malformed"}') == 3
        assert counted(server.url, "shipworthy_connections_ended_total{") == 3
        assert counted(other.url, "shipworthy_connections_ended_total{") == 0, "each server counts its own"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_connections_of_all_workers_are_counted(stored: Path) -> None:
    with serving(stored, "--workers", 2) as server:
        for _ in range(24):
            spoil(server.url)
        end = time.monotonic() + 10
        # Each worker makes what it counted visible to the others twice a second.
        while (found := counted(server.url, 'shipworthy_connections_ended_total{reason="malformed"}')) < 24:
            assert time.monotonic() < end, found
            time.sleep(0.1)
        time.sleep(1.2)
        assert {counted(server.url, "shipworthy_connections_ended_total{") for _ in range(8)} == {24}


def test_traces_that_were_lost_are_counted(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.sdk")
    monkeypatch.setattr(tracing, "MAX_WAITING", 0)
    with Server(stored, port=0, logs=Logs(otel_endpoint="http://127.0.0.1:9/v1/traces")) as server:
        assert counted(server.url, "shipworthy_traces_dropped_total") == 0
        for _ in range(4):
            assert httpx.post(server.url + "/predict", json={"features": [1, 2, 3, 4]}).is_success
        # That of the first scrape was lost, too.
        assert counted(server.url, "shipworthy_traces_dropped_total") == 5
