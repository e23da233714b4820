"""Servers over small ASGI applications, and clients that write bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
import uvloop

from shipworthy.server.connections import Limits, Watch, bounded

CLOSE = b"connection: close\r\n"


@dataclass
class Echo:
    """Answers with what it was asked; remembers every request that it saw."""

    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    tasks: list[Any] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.seen.append((scope["method"], scope["path"], body))
        await answer(send, body or scope["path"].encode())


async def answer(send: Any, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Listening:
    """A server that runs in a thread of this process."""

    port: int
    watch: Watch
    web: uvicorn.Server
    app: Any

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout: float = 10) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def ask(self, *pieces: bytes, pause: float = 0.0) -> bytes:
        """What comes back until the server closes the connection."""
        with self.connect() as client:
            for piece in pieces:
                client.sendall(piece)
                time.sleep(pause)
            return read_all(client)


@contextmanager
def listening(app: Any = None, **limits: float) -> Iterator[Listening]:
    """Stops when the block ends, and then holds neither a connection nor a task."""
    app = app if app is not None else Echo()
    protocol = bounded(Limits(**limits))  # type: ignore[arg-type]
    config = uvicorn.Config(
        app,
        http=protocol,
        loop="none",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    web = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        thread = threading.Thread(target=_run, args=(web, listener))
        thread.start()
        try:
            wait_until(lambda: web.started)
            yield Listening(listener.getsockname()[1], protocol.watch, web, app)
        finally:
            web.should_exit = True
            thread.join(15)
    assert not thread.is_alive()
    assert not protocol.watch.open and not web.server_state.connections and not web.server_state.tasks


def _run(web: uvicorn.Server, listener: socket.socket) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(web.serve(sockets=[listener]))


def wait_until(true: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def read_all(client: socket.socket) -> bytes:
    got = bytearray()
    while piece := client.recv(65536):
        got += piece
    return bytes(got)


def request(method: str = "POST", path: str = "/", body: bytes = b"", *headers: bytes, version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}".encode(), b"host: localhost"]
    if body:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, *headers, b"", body])


def split_answers(data: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of each answer; every one must have a content-length, or be in chunks."""
    answers = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                size, _, data = data.partition(b"\r\n")
                count = int(size, 16)
                body, data = body + data[:count], data[count + 2 :]
                if not count:
                    break
        else:
            count = int(headers["content-length"])
            body, data = data[:count], data[count:]
        answers.append((int(first.split()[1]), headers, body))
    return answers


def assert_refused(data: bytes, status: int, slug: str) -> None:
    """The last answer is that problem in every respect, and ends the connection."""
    got, headers, body = split_answers(data)[-1]
    assert (got, headers["connection"]) == (status, "close"), data
    assert headers["content-type"] == "application/problem+json"
    problem = json.loads(body)
    assert problem["type"] == f"urn:shipworthy:problem:{slug}"
    assert problem["status"] == status
    assert problem["title"] and problem["detail"]
    assert problem["request_id"] == headers["x-request-id"]
