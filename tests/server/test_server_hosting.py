"""A real server on a real socket: started, asked wrongly, stopped."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from server_cases import assert_problem

import shipworthy.predict
from shipworthy.errors import PackageError, ServeError
from shipworthy.predict import load
from shipworthy.server import Server, Settings

ROW = {"features": [5.1, 3.5, 1.4, 0.2]}


@pytest.fixture(scope="module")
def server(stored: Path) -> Iterator[Server]:
    with Server(stored, port=0, settings=Settings(max_body_bytes=10_000)) as running:
        yield running


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


def test_who_sends_too_much_is_told_to_leave_and_left(server: Server) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(head + b"content-length: 10001\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"connection: close\r\n") == 1


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
    assert status == 400
    assert json.loads(body)["type"].endswith("malformed")


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


def test_one_package_twice(stored: Path) -> None:
    with pytest.raises(ServeError, match="twice"), Server([stored, stored], port=0):
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
