"""A receiver of webhooks that answers as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Received:
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["shipworthy-id"]


@dataclass(slots=True)
class Receiver:
    url: str
    answer: Callable[[int], tuple[int, dict[str, str]]] = lambda number: (200, {})
    """Status and headers for the request of that number, from 0."""
    got: list[Received] = field(default_factory=list)

    def wait(self, number: int, seconds: float = 10.0) -> list[Received]:
        """Once so many have come."""
        until = time.monotonic() + seconds
        while len(self.got) < number:
            assert time.monotonic() < until, f"{len(self.got)} of {number} messages came"
            time.sleep(0.005)
        return self.got


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            number = len(receiver.got)
            receiver.got.append(Received({key.lower(): value for key, value in self.headers.items()}, body))
            status, headers = receiver.answer(number)
            self.send_response(status)
            for key, value in {"content-length": "0", **headers}.items():
                self.send_header(key, value)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}/hook")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
