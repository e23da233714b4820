"""What goes back: framed as the client understands it, complete or broken off, and never anything of the inside."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import struct
import time
from types import SimpleNamespace
from typing import Any

import pytest
from connection_cases import (
    Echo,
    Listening,
    answer,
    assert_refused,
    listening,
    read_all,
    request,
    split_answers,
    wait_until,
)

from shipworthy.server.connections import ANSWER, GONE, WHOLE
from shipworthy.server.connections.exchange import Exchange

LAST = b"connection: close"


def test_answer_without_a_length() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-A", b"b")]})
        for piece in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    with listening(app) as server:
        got = server.ask(request("GET", "/"), request("GET", "/", b"", LAST))
        assert [body for _, _, body in split_answers(got)] == [b"onetwo"] * 2
        assert split_answers(got)[0][1]["x-a"] == "b"
        head, _, body = server.ask(request("GET", "/", version="1.0")).partition(b"\r\n\r\n")
        assert body == b"onetwo", "HTTP/1.0 knows no chunks"
        assert b"connection: close" in head and b"chunked" not in head
        head, _, body = server.ask(request("HEAD", "/", b"", LAST)).partition(b"\r\n\r\n")
        assert body == b"" and b"chunked" not in head


def test_answers_that_have_no_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        status = int(scope["path"][1:])
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"" if status == 304 else b"hello"})

    with listening(app) as server:
        for method, status in (("HEAD", 200), ("GET", 304), ("GET", 204)):
            head, _, body = server.ask(request(method, f"/{status}", b"", LAST)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status) and body == b""


BROKEN: dict[str, list[dict[str, Any]]] = {
    "value with a line break": [{"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]}],
    "value with a line feed": [{"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\nc: d")]}],
    "value with a null": [{"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\0")]}],
    "name with a colon": [{"type": "http.response.start", "status": 200, "headers": [(b"a: b\r\nc", b"d")]}],
    "body first": [{"type": "http.response.body", "body": b"x"}],
    "nothing": [],
    "head alone": [{"type": "http.response.start", "status": 200, "headers": []}],
    "started twice": [{"type": "http.response.start", "status": 200, "headers": []}] * 2,
    "longer than it says": [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]},
        {"type": "http.response.body", "body": b"xy"},
    ],
}


@pytest.mark.parametrize("messages", BROKEN.values(), ids=BROKEN)
def test_application_that_breaks_the_rules(messages: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    with listening(app) as server, caplog.at_level(logging.CRITICAL, "shipworthy.server"):
        data = server.ask(request("GET", "/"))
    assert_refused(data, 500, "internal")
    assert b"c: d" not in data


def test_answer_that_ends_early_is_broken_off(caplog: pytest.LogCaptureFixture) -> None:
    """The client must not take a part for the whole."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise RuntimeError("secret")

    with listening(app) as server, caplog.at_level(logging.CRITICAL, "shipworthy.server"):
        head, _, body = server.ask(request("GET", "/")).partition(b"\r\n\r\n")
    assert b"content-length: 9" in head and body == b"abc"


def test_failure_says_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret")

    with listening(app) as server:
        data = server.ask(request("GET", "/", b"", b"x-request-id: mine"))
    assert_refused(data, 500, "internal")
    assert json.loads(split_answers(data)[0][2])["request_id"] == "mine"
    assert b"secret" not in data and b"Traceback" not in data
    assert "mine" in caplog.text and "secret" in caplog.text


def test_waiting_for_leave_to_send() -> None:
    with listening() as server, server.connect() as client:
        client.sendall(request("POST", "/", b"", b"content-length: 3", b"expect: 100-continue"))
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc" + request("GET", "/", b"", LAST))
        assert [body for _, _, body in split_answers(read_all(client))] == [b"abc", b"/"]


def test_old_clients_are_not_told_to_go_on() -> None:
    with listening() as server:
        head = request("POST", "/", b"", b"content-length: 3", b"expect: 100-continue", version="1.0")
        assert server.ask(head + b"abc").startswith(b"HTTP/1.1 200 ")


def test_no_leave_to_send_within_an_answer() -> None:
    """What is written after the head of an answer is its body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        listening = asyncio.create_task(receive())
        await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"def"})
        await listening

    with listening(app) as server:
        got = server.ask(request("POST", "/", b"", b"content-length: 3", b"expect: 100-continue"))
        assert [(status, body) for status, _, body in split_answers(got)] == [(200, b"abcdef")]


async def at_once(scope: Any, receive: Any, send: Any) -> None:
    """Gives its answer in one call, where that is taken."""
    body = scope["path"].encode()
    lines = b"content-length: %d\r\n" % len(body)
    if not scope["extensions"][ANSWER](200, lines, body, close=scope["path"] == "/close"):
        await answer(send, body)


def test_answers_in_one_call_are_framed_like_others() -> None:
    """Who asks for a head alone would take a body for the next answer."""
    with listening(at_once) as server:
        got = server.ask(request("HEAD", "/head"), request("GET", "/a"), request("GET", "/close"), pause=0.02)
        head, _, rest = got.partition(b"\r\n\r\n")
        assert b"content-length: 5" in head and rest.startswith(b"HTTP/1.1 200 ")
        assert [body for _, _, body in split_answers(rest)] == [b"/a", b"/close"]
        assert server.ask(request("GET", "/old", version="1.0")).endswith(b"\r\n\r\n/old")


def test_answers_in_one_call_wait_for_who_does_not_read() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = bytes(2**20)
        taken.append(scope["extensions"][ANSWER](200, b"content-length: %d\r\n" % len(body), body, close=False))
        if not taken[-1]:
            await answer(send, body)

    taken: list[bool] = []
    with listening(app) as server, server.connect() as client:
        client.sendall(request("GET", "/") * 32 + request("GET", "/", b"", LAST))
        wait_until(lambda: False in taken)
        assert [len(body) for _, _, body in split_answers(read_all(client))] == [2**20] * 33


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    """Answers before it has read the body."""
    closing = [(b"connection", b"close")] if scope["path"] == "/close" else []
    await answer(send, scope["path"].encode(), *closing, status=503)


def test_early_answers_keep_the_connection() -> None:
    with listening(refusing) as server:
        got = server.ask(request("POST", "/1", bytes(2**20)), request("POST", "/2", b"x"), request("GET", "/close"))
        assert [body for _, _, body in split_answers(got)] == [b"/1", b"/2", b"/close"]


def test_early_answer_to_who_waits_for_leave_ends_the_connection() -> None:
    """Whether the body follows is open, and so is where the next request would begin."""
    with listening(refusing) as server:
        got = server.ask(request("POST", "/", b"", b"content-length: 44", b"expect: 100-continue"))
        status, headers, _ = split_answers(got)[0]
        assert (status, headers["connection"]) == (503, "close")


def test_early_answer_reaches_who_still_sends() -> None:
    """A connection that is closed with bytes unread is reset, and the answer may be lost."""
    with listening(refusing) as server:
        for _ in range(10):
            got = server.ask(request("POST", "/close", bytes(4 * 2**20)))
            assert split_answers(got)[0][2] == b"/close"


def test_discarding_has_an_end() -> None:
    with listening(refusing, discard_bytes=2**20) as server, server.connect() as client, pytest.raises(OSError):
        client.sendall(request("POST", "/", bytes(2**20)).replace(b"1048576", b"999999999"))
        for _ in range(2_000):
            client.sendall(bytes(65_536))


def test_close_waits_for_those_in_line() -> None:
    """A server that asks its clients to leave loses none of the requests that it has read."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05)
        await answer(send, scope["path"].encode(), (b"connection", b"close"))

    with listening(app) as server:
        got = split_answers(server.ask(b"".join(request("GET", f"/{i}") for i in range(5))))
        assert [body for _, _, body in got] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
        assert ["connection" in headers for _, headers, _ in got] == [False] * 4 + [True]


class Registering(Echo):
    """Registers for the leaving of its clients, and answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[str] = []
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        scope["extensions"][GONE](lambda: self.gone.append(path))
        self.seen.append((scope["method"], path, b""))
        if path == "/wait":
            await self.go_on.wait()
            scope["extensions"][GONE](lambda: self.gone.append("late"))
        await answer(send, path.encode())


def leave(client: socket.socket, *, rudely: bool) -> None:
    if rudely:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("rudely", [False, True])
def test_client_that_leaves_is_reported_once(rudely: bool) -> None:
    app = Registering()
    with listening(app) as server:
        client = server.connect()
        client.sendall(request("GET", "/wait"))
        wait_until(lambda: app.seen)
        leave(client, rudely=rudely)
        wait_until(lambda: app.gone)
        app.go_on.set()
        server.web.servers[0].get_loop().call_soon_threadsafe(app.go_on.set)
        wait_until(lambda: not server.web.server_state.tasks)
        assert app.gone == ["/wait", "late"], "who registers too late is called at once"


def test_client_that_has_its_answer_is_not_reported() -> None:
    app = Registering()
    with listening(app) as server:
        with server.connect() as client:
            client.sendall(request("GET", "/"))
            assert client.recv(4096)
        wait_until(lambda: not server.watch.open)
        assert app.gone == []


def test_stopping_answers_what_was_asked() -> None:
    """Idle connections end at once; a request under way is answered, with those behind it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.append(scope["path"])
        await asyncio.sleep(0.5)
        await answer(send, scope["path"].encode())

    started: list[str] = []
    with listening(app) as server:
        idle, half, busy = server.connect(), server.connect(), server.connect()
        half.sendall(b"GET / HTTP/1.1\r\nho")
        busy.sendall(request("GET", "/1") + request("GET", "/2"))
        wait_until(lambda: started)
        server.web.should_exit = True
        assert read_all(idle) == b"" and read_all(half) == b""
        assert [body for _, _, body in split_answers(read_all(busy))] == [b"/1", b"/2"]
        for client in (idle, half, busy):
            client.close()


def test_stopping_leaves_an_answer_to_who_still_reads_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, bytes(16 * 2**20), (b"connection", b"close"))

    with listening(app) as server, server.connect() as client:
        client.sendall(request("GET", "/"))
        wait_until(lambda: server.web.server_state.total_requests)
        server.web.should_exit = True
        wait_until(lambda: not server.web.servers[0].is_serving())
        assert len(split_answers(read_all(client))[0][2]) == 16 * 2**20


def test_cancelled_requests_leave_no_open_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    with listening(app) as server, server.connect() as client:
        client.sendall(request("GET", "/"))
        wait_until(lambda: server.web.server_state.tasks)
        loop: asyncio.AbstractEventLoop = server.web.servers[0].get_loop()
        for task in list(server.web.server_state.tasks):
            loop.call_soon_threadsafe(task.cancel)
        assert_refused(read_all(client), 500, "internal")


def test_listening_is_what_the_other_tests_take_it_for() -> None:
    with listening() as server:
        assert isinstance(server, Listening)
        assert server.ask(request("GET", "/", b"", LAST)).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_a_body_is_taken_whole(pieces: int) -> None:
    taken: list[bytes | None] = []
    counted: list[int] = []
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        take = scope["extensions"][WHOLE]
        taken.append(take(400_000, counted.append))
        if taken[0] is None:
            messages.append(await receive())
        assert take(400_000, counted.append) is None, "nobody gets it twice"
        await answer(send, taken[0] or messages[0]["body"])

    body = bytes(range(200)) * (2_000 if pieces > 2 else 1)
    sent = request("POST", "/", body, LAST)
    head, step = len(sent) - len(body), len(body) // pieces
    with listening(app) as server, server.connect() as client:
        client.sendall(sent[: head + step])
        for piece in range(1, pieces):
            wait_until(lambda: taken == [None])
            wait_until(lambda piece=piece: sum(counted) == piece * step)  # type: ignore[misc]
            client.sendall(sent[head + piece * step : head + (piece + 1) * step])
        (given,) = [given for _, _, given in split_answers(read_all(client))]
    assert given == body
    assert taken == ([body] if pieces == 1 else [None])
    assert all(message == {"type": "http.request", "body": body, "more_body": False} for message in messages)


def test_of_a_longer_body_pieces_are_handed_over() -> None:
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["extensions"][WHOLE](1000, lambda size: None) is None
        while not messages or messages[-1]["more_body"]:
            messages.append(await receive())
        await answer(send, b"")

    body = b"x" * 3000
    sent = request("POST", "/", body, LAST)
    with listening(app) as server, server.connect() as client:
        client.sendall(sent[:-2500])
        client.sendall(sent[-2500:-1500])
        wait_until(lambda: messages)
        client.sendall(sent[-1500:])
        read_all(client)
    assert b"".join(message["body"] for message in messages) == body
    assert len(messages[0]["body"]) > 1000 and messages[0]["more_body"]


def held() -> list[int]:
    """Bytes of bodies that are kept by the exchanges that are alive."""
    return [sum(map(len, one._body)) for one in gc.get_objects() if isinstance(one, Exchange)]


@pytest.mark.parametrize("early", [False, True], ids=["left", "answered"])
def test_a_body_that_nobody_takes_is_dropped(early: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"][WHOLE](2**23, lambda size: None)
        if early:
            await until.wait()
            await answer(send, b"early")
        await receive()

    until = asyncio.Event()
    gc.disable()
    try:
        with listening(app) as server:
            clients = [server.connect() for _ in range(4)]
            for client in clients:
                client.sendall(request("POST", "/", bytes(2**22))[: -(2**21)])
            wait_until(lambda: sum(held()) > 4 * 2**20)
            if early:
                server.web.servers[0].get_loop().call_soon_threadsafe(until.set)
                wait_until(lambda: sum(held()) == 0)
                clients[0].sendall(bytes(2**20))
                time.sleep(0.1)
                assert sum(held()) == 0
            for client in clients:
                client.close()
            wait_until(lambda: not held(), 10)
    finally:
        gc.enable()


def test_a_body_in_tiny_pieces_weighs_no_more_than_itself() -> None:
    exchange = Exchange(SimpleNamespace(resume=lambda: None), "POST", "1.1", True, False)  # type: ignore[arg-type]
    assert exchange.whole(10**6, lambda size: None) is None
    pieces = [b"abc", *[b"x" * (1 + number % 7) for number in range(5000)], bytes(50_000), b"y"]
    for piece in pieces:
        assert exchange.feed(piece)
    assert len(exchange._body) < 5
    exchange.end()
    assert exchange.whole(10**6, lambda size: None) == b"".join(pieces)
