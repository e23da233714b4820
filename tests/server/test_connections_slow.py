"""Those who take their time: slow headers, slow bodies, slow readers, silent connections, and many of them."""

from __future__ import annotations

import asyncio
import http.client
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from connection_cases import Listening, answer, assert_refused, listening, read_all, request, split_answers, wait_until

from shipworthy.server.connections import Limits, Watch
from shipworthy.server.connections.watch import SPARE

QUICK: dict[str, Any] = {"headers_s": 1, "grace_s": 1, "idle_s": 1.5, "linger_s": 1}


def drip(client: socket.socket, data: bytes, pause: float) -> None:
    """Send a byte at a time until the other end has had enough."""
    try:
        for i in range(len(data)):
            client.sendall(data[i : i + 1])
            time.sleep(pause)
    except OSError:
        return


def dripped(server: Listening, data: bytes, at_once: bytes = b"", pause: float = 0.1) -> tuple[bytes, float]:
    """What comes back, and the seconds until it does."""
    with server.connect(timeout=30) as client:
        started = time.monotonic()
        client.sendall(at_once)
        sending = threading.Thread(target=drip, args=(client, data, pause))
        sending.start()
        got = read_all(client)
        took = time.monotonic() - started
        sending.join()
    return got, took


def slow_headers() -> None:
    with listening(**QUICK) as server:
        got, took = dripped(server, request("GET", "/", b"", b"a: " + b"x" * 300))
        assert_refused(got, 408, "too-slow")
        assert 0.99 <= took < 10, "the loop's clock has milliseconds, and began with the connection"
        assert server.app.seen == []


def headers_that_stop() -> None:
    with listening(**QUICK) as server:
        assert_refused(server.ask(b"GET / HTTP/1.1\r\nhost: loc"), 408, "too-slow")


def slow_body() -> None:
    refuse_slow_body(b"content-length: 100000", b"x" * 300)


def slow_chunks() -> None:
    refuse_slow_body(b"transfer-encoding: chunked", b"1\r\nx\r\n" * 100)


def refuse_slow_body(head: bytes, rest: bytes) -> None:
    with listening(**QUICK) as server:
        got, took = dripped(server, rest, request("POST", "/", b"", head, b"x-request-id: its-own"))
        assert_refused(got, 408, "too-slow")
        assert split_answers(got)[-1][1]["x-request-id"] == "its-own"
        assert took < 15
        assert server.app.seen == []
        wait_until(lambda: not server.web.server_state.tasks)


def slow_body_of_an_answered_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"early")

    with listening(app, **QUICK) as server:
        got, took = dripped(server, b"x" * 300, request("POST", "/", b"", b"content-length: 100000"))
        assert split_answers(got)[0][2] == b"early"
        assert took < 15


def body_that_waits_for_the_application_is_not_slow() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(4)
        more = True
        while more:
            more = (await receive())["more_body"]
        await answer(send, b"read")

    with listening(app, **QUICK) as server:
        big = request("POST", "/", bytes(4 * 2**20), b"connection: close")
        assert split_answers(server.ask(big))[0][2] == b"read"


def body_fast_enough_may_take_longer_than_the_grace() -> None:
    with listening(**QUICK) as server:
        body = bytes(6_000)
        head = request("POST", "/", b"", b"content-length: 6000", b"connection: close")
        pieces = [body[i : i + 250] for i in range(0, 6_000, 250)]
        assert split_answers(server.ask(head, *pieces, pause=0.15))[0][2] == body


def answer_that_nobody_reads() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, bytes(32 * 2**20))

    with listening(app, **QUICK) as server, server.connect() as client:
        client.sendall(request("GET", "/"))
        assert client.recv(10) == b"HTTP/1.1 2"
        wait_until(lambda: not server.watch.open, 15)
        assert server.watch.refused["unread"] == 1


def answer_that_is_read_in_time() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, bytes(8 * 2**20), (b"connection", b"close"))

    with listening(app, **QUICK) as server, server.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.sendall(request("GET", "/"))
        got = 0
        while piece := client.recv(65_536):
            got += len(piece)
            time.sleep(0.02)
        assert got > 8 * 2**20


def stream_that_is_read_steadily() -> None:
    """There is always as much left to be read, and yet it is read."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        for _ in range(100):
            await send({"type": "http.response.body", "body": bytes(2**18), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with listening(app, **QUICK) as server, server.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.sendall(request("GET", "/"))
        got, began = 0, time.monotonic()
        while piece := client.recv(2**17):
            got += len(piece)
            time.sleep(max(0.0, began + got / 5e6 - time.monotonic()))
        assert got > 100 * 2**18 and time.monotonic() - began > 4


def idle_connections_are_closed() -> None:
    with listening(**QUICK) as server:
        with server.connect() as silent, server.connect() as quiet, server.connect() as lines:
            quiet.sendall(request("GET", "/"))
            drip(lines, b"\r\n" * 15, 0.1)
            assert read_all(silent) == b""
            assert len(split_answers(read_all(quiet))) == 1
            assert read_all(lines) == b"", "empty lines keep no connection alive"
        assert server.watch.refused["idle"] == 3


CASES = (
    slow_headers,
    headers_that_stop,
    slow_body,
    slow_chunks,
    slow_body_of_an_answered_request,
    body_that_waits_for_the_application_is_not_slow,
    body_fast_enough_may_take_longer_than_the_grace,
    answer_that_nobody_reads,
    answer_that_is_read_in_time,
    stream_that_is_read_steadily,
    idle_connections_are_closed,
)


@pytest.fixture(scope="module")
def begun() -> Iterator[dict[Callable[[], None], Future[None]]]:
    """All cases at once, each with a server of its own: they mostly wait."""
    with ThreadPoolExecutor(len(CASES)) as pool:
        yield {case: pool.submit(case) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_time_is_limited(begun: dict[Callable[[], None], Future[None]], case: Callable[[], None]) -> None:
    begun[case].result()


def test_more_connections_than_may_be_open() -> None:
    """The one that has been idle for longest goes; where none is idle, the new one does."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await go_on.wait()
        await answer(send, b"")

    go_on = asyncio.Event()
    with listening(app, connections=8) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(8)]
        wait_until(lambda: len(server.watch.open) == 8)
        for client in clients[1:]:
            client.sendall(request("GET", "/wait"))
        wait_until(lambda: len(server.web.server_state.tasks) == 7)
        late = stack.enter_context(server.connect())
        assert read_all(clients[0]) == b""
        late.sendall(request("GET", "/wait"))
        wait_until(lambda: len(server.web.server_state.tasks) == 8)
        assert_refused(server.ask(), 503, "overloaded")
        for _ in range(2 * SPARE):
            stack.enter_context(server.connect())
        wait_until(lambda: server.watch.refused["dropped"] > 0)
        assert len(server.watch.open) <= 8 + SPARE + 1
        server.web.servers[0].get_loop().call_soon_threadsafe(go_on.set)
        assert split_answers(late.recv(4096))[0][0] == 200


def test_room_is_made_for_those_who_come_and_no_more() -> None:
    """Also where many come before the first of those that were closed for them is gone."""
    closed = []

    class Idle:
        idle, since, loop = True, 0.0, asyncio.new_event_loop()

        def leave(self) -> None:
            closed.append(self)
            self.idle = False

    watch = Watch(Limits(connections=128))
    watch.most = 128
    try:
        for _ in range(128 + 10):
            assert watch.add(Idle())  # type: ignore[arg-type]  # as much of a connection as is looked at
        assert len(closed) == 10, "two at a time, as one in 64 goes"
        for gone in closed:
            watch.remove(gone)
        assert len(watch.open) == 128 and watch.add(Idle()) and len(closed) == 12
    finally:
        Idle.loop.close()


ALONE = """
import asyncio, socket, sys, uvicorn, uvloop
sys.path.insert(0, sys.argv[1])
from connection_cases import Echo
from shipworthy.server.connections import Limits, bounded
config = uvicorn.Config(Echo(), http=bounded(Limits()), loop="none", ws="none", lifespan="off", log_config=None,
                        access_log=False, proxy_headers=False)
with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
    print(listener.getsockname()[1], flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))
"""


@contextmanager
def alone() -> Iterator[tuple[int, int]]:
    """The port and the process id of a server that has a process, and so a limit of open files, of its own."""
    code = [sys.executable, "-c", ALONE, str(Path(__file__).parent)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process.pid
        finally:
            process.kill()


def memory(pid: int) -> int:
    """Bytes that a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


REQUESTS = 1_500
FACTOR = 5
"""So many times slower may the median answer be while there are many idle connections; it measures as 1 to 1.2."""
PER_CONNECTION = 16_384
"""Bytes of memory that a connection may take; it measures as 3,400."""


def serve_one(port: int) -> float:
    """Seconds of the median answer; every request of the client is answered."""
    took = []
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for number in range(REQUESTS):
        started = time.perf_counter()
        client.request("POST", "/", b"%d" % number)
        assert client.getresponse().read() == b"%d" % number
        took.append(time.perf_counter() - started)
    client.close()
    return sorted(took)[REQUESTS // 2]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_many_idle_connections_do_not_stop_others(effort: float) -> None:
    """Half of them have had an answer, a tenth have stopped in the middle of their headers."""
    many = 10_000 if effort == 1 else 2_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < many + 500:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with alone() as (port, pid), ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        before = serve_one(port)
        level = memory(pid)
        for number in range(many):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            if number % 2:
                client.sendall(request("GET", "/"))
                assert client.recv(4096)
            elif number % 10 == 0:
                client.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\nx: ")
        during = serve_one(port)
        assert during < FACTOR * before
        assert memory(pid) - level < many * PER_CONNECTION
