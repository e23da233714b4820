"""What arrives: sizes are bounded, and what two readers could take for different requests is refused."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from connection_cases import (
    CLOSE,
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

from shipworthy.errors import ServeError
from shipworthy.server.connections import Limits

END = request("GET", "/end", b"", b"connection: close")


@pytest.fixture(scope="module")
def server() -> Iterator[Listening]:
    with listening() as running:
        yield running


def statuses(data: bytes) -> list[int]:
    return [status for status, _, _ in split_answers(data)]


@pytest.mark.parametrize(
    "head",
    [
        b"a: " + b"x" * 33_000 + b"\r\n",
        b"".join(b"a%d: %b\r\n" % (i, b"x" * 400) for i in range(99)),
        b"".join(b"a%d: b\r\n" % i for i in range(120)),
    ],
    ids=["long", "large", "many"],
)
def test_large_headers(server: Listening, head: bytes) -> None:
    assert_refused(server.ask(b"GET / HTTP/1.1\r\nhost: localhost\r\n" + head + b"\r\n"), 431, "headers-too-large")


def test_endless_header_is_not_collected(server: Listening) -> None:
    """A header that never ends is refused when it is larger than the limit, not when memory is short."""
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\na: ")
        sent = 0
        try:
            while sent < 64 * 2**20 and not readable(client):
                client.sendall(b"x" * 16_384)
                sent += 16_384
        except OSError:
            pytest.fail("the refusal is lost where the connection is reset")
        assert sent < 8 * 2**20
        assert_refused(read_all(client), 431, "headers-too-large")


def readable(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        client.settimeout(10)


def test_unfinished_headers_in_one_piece(server: Listening) -> None:
    bomb = b"GET / HTTP/1.1\r\nhost: localhost\r\na: " + b"x" * 60_000
    assert_refused(server.ask(bomb), 431, "headers-too-large")
    assert_refused(server.ask(request("GET", "/") * 3 + bomb, b"x" * 60_000, pause=0.1), 431, "headers-too-large")


def test_long_target(server: Listening) -> None:
    assert_refused(server.ask(request("GET", "/" + "x" * 9_000)), 414, "target-too-long")
    assert_refused(server.ask(b"GET /", b"x" * 45_000, b"x" * 45_000, pause=0.05), 414, "target-too-long")


def test_headers_just_within_the_limits(server: Listening) -> None:
    headers = [b"a%d: %b" % (i, b"x" * 320) for i in range(97)]
    assert statuses(server.ask(request("GET", "/" + "y" * 8_000, b"", *headers, b"connection: close"))) == [200]


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
SHAPES = {
    "length and coding": b"content-length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "coding and length": CHUNKED + b"content-length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": b"content-length: 0\r\ncontent-length: 44\r\n\r\n" + SMUGGLED,
    "equal lengths": b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "list of lengths": b"content-length: 3, 3\r\n\r\nabc",
    "signed length": b"content-length: +3\r\n\r\nabc",
    "negative length": b"content-length: -1\r\n\r\nabc",
    "hexadecimal length": b"content-length: 0x3\r\n\r\nabc",
    "length with a space": b"content-length: 3 0\r\n\r\nabc",
    "huge length": b"content-length: 99999999999999999999\r\n\r\nabc",
    "unknown coding": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "coding that is not undone": b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "coding after chunked": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked twice": CHUNKED + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "identity": b"transfer-encoding: identity\r\n\r\n" + SMUGGLED,
    "coding with a control": b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "space before the colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "folded header": b"a: b\r\n c\r\n\r\n",
    "bare carriage return": b"a: b\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "null in a header": b"a: b\0c\r\n\r\n",
    "nameless header": b": a\r\n\r\n",
    "space in a name": b"a b: c\r\n\r\n",
    "hexadecimal prefix of a chunk": CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "space after the size of a chunk": CHUNKED + b"\r\n3 \r\nabc\r\n0\r\n\r\n",
    "signed chunk": CHUNKED + b"\r\n-3\r\nabc\r\n0\r\n\r\n",
    "huge chunk": CHUNKED + b"\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "chunk with a bare line feed": CHUNKED + b"\r\n3\nabc\r\n0\r\n\r\n",
    "chunk that is too long": CHUNKED + b"\r\n3\r\nabcd\r\n0\r\n\r\n",
    "two hosts": b"host: other\r\n\r\n",
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ambiguous_requests(shape: str) -> None:
    with listening() as server:
        data = server.ask(b"POST /first HTTP/1.1\r\nhost: localhost\r\n" + SHAPES[shape])
        assert_refused(data, 400, "malformed")
        assert len(split_answers(data)) == 1
        assert all(path != "/smuggled" for _, path, _ in server.app.seen)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nhost: localhost\n\n",
        b"GET / HTTP/2.0\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/0.9\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.2\r\nhost: localhost\r\n\r\n",
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT other:80 HTTP/1.1\r\nhost: other:80\r\n\r\n",
        b"GET http://other/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET http://other@localhost/ HTTP/1.1\r\nhost: other\r\n\r\n",
        b"GET x HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / x HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"G\0T / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_request_of_ours(server: Listening, head: bytes) -> None:
    assert_refused(server.ask(head), 400, "malformed")


@pytest.mark.parametrize("zeros", [18, 5_000])
def test_length_of_more_digits_than_any_body_has(zeros: int) -> None:
    with listening() as server:
        head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: " + b"0" * zeros + b"5\r\n\r\n"
        assert_refused(server.ask(head), 400, "malformed")
        assert_refused(server.ask(head + b"12345"), 400, "malformed")
        assert not server.app.seen
        assert server.watch.refused["malformed"] == 2


def test_absolute_targets_of_this_host(server: Listening) -> None:
    got = server.ask(b"GET http://LocalHost/a%20b?c HTTP/1.1\r\nhost: localhost\r\n" + CLOSE + b"\r\n")
    assert split_answers(got)[0][2] == b"/a b"


@pytest.mark.parametrize("split", [1, 7, 10_000])
def test_offer_of_another_protocol_is_ignored(split: int) -> None:
    """httptools takes the body for the other protocol's, and would read it as the next request."""
    body = SMUGGLED + b"x" * 11
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    head = b"POST /first HTTP/1.1\r\nhost: localhost\r\n%bcontent-length: %d\r\n\r\n" % (offer, len(body))
    data = head + body + END
    with listening() as server:
        got = server.ask(*(data[i : i + split] for i in range(0, len(data), split)))
        assert split_answers(got)[0][2] == body
        assert [path for _, path, _ in server.app.seen] == ["/first", "/end"]


def test_trailers_are_no_headers() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            seen.append(list(scope["headers"]))
        seen.append(list(scope["headers"]))
        await answer(send, b"")

    chunks = b"3\r\nabc\r\n0\r\nauthorization: Bearer stolen\r\nx: y\r\n\r\n"
    with listening(app) as server:
        first = request("POST", "/", b"", b"transfer-encoding: chunked")
        assert statuses(server.ask(first + chunks + END)) == [200, 200]
        many = b"0\r\n" + b"".join(b"t%d: x\r\n" % i for i in range(200)) + b"\r\n"
        assert_refused(server.ask(first + many), 431, "headers-too-large")
    assert all(name != b"authorization" for headers in seen for name, _ in headers)


def test_chunks_that_carry_little(server: Listening) -> None:
    head = request("POST", "/", b"", b"transfer-encoding: chunked")
    assert_refused(server.ask(head, *[b"1\r\nx\r\n" * 20_000] * 2, pause=0.1), 400, "malformed")
    extended = b"3;" + b"e" * 1_000 + b"\r\nabc\r\n"
    assert_refused(server.ask(head, *[extended * 100] * 3, pause=0.1), 400, "malformed")
    fine = b"a\r\n" + b"x" * 10 + b"\r\n"
    assert statuses(server.ask(head + fine * 30_000 + b"0\r\n\r\n" + END)) == [200, 200]


def test_pipelined_requests_are_answered_in_order(server: Listening) -> None:
    wanted = [b"/%d" % i for i in range(60)]
    data = b"".join(request("GET", path.decode()) for path in wanted)
    assert [body for _, _, body in split_answers(server.ask(data + END))] == [*wanted, b"/end"]


def test_nonsense_after_good_requests_is_answered_after_them(server: Listening) -> None:
    data = server.ask(request("POST", "/", b"one") + request("POST", "/", b"two") + b"nonsense\r\n\r\n")
    assert [body for _, _, body in split_answers(data)[:2]] == [b"one", b"two"]
    assert_refused(data, 400, "malformed")


def test_more_pipelined_requests_than_may_wait() -> None:
    with listening(pipelined=8) as server:
        data = server.ask(b"".join(request("GET", f"/{i}") for i in range(5_000)))
        assert statuses(data) == [200] * 9 + [503]
        assert_refused(data, 503, "overloaded")
        assert len(server.app.seen) == 9


def test_malformed_rest_of_a_body_ends_its_request() -> None:
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            pass
        ended.append(message["type"])
        await answer(send, b"nobody reads this")

    with listening(app) as server:
        head = request("POST", "/", b"", b"transfer-encoding: chunked")
        data = server.ask(head + b"3\r\nabc\r\n", b"nonsense", pause=0.1)
        assert_refused(data, 400, "malformed")
        assert len(split_answers(data)) == 1
        wait_until(lambda: ended == ["http.disconnect"])


def test_body_that_nobody_reads_is_not_collected() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        import asyncio

        await asyncio.sleep(1.0)
        size, more = 0, True
        while more:
            message = await receive()
            sizes.append(len(message["body"]))
            size, more = size + len(message["body"]), message["more_body"]
        await answer(send, b"%d" % size)

    sizes: list[int] = []
    body = bytes(8 * 2**20)
    with listening(app) as server:
        got = server.ask(request("POST", "/", body, b"connection: close"))
    assert split_answers(got)[0][2] == b"%d" % len(body)
    assert max(sizes) <= 65_536 + 262_144


@pytest.mark.parametrize("seed", range(5))
def test_large_bodies_in_any_pieces(server: Listening, seed: int) -> None:
    rng = random.Random(seed)
    sizes = [rng.choice([0, 3, 65_535, 65_536, 140_000, 400_000]) for _ in range(8)]
    bodies = [rng.randbytes(size) for size in sizes]
    sent = b"".join(request("POST", f"/{place}", body) for place, body in enumerate(bodies)) + END
    ends = sorted(rng.sample(range(1, len(sent)), 12))
    pieces = [sent[start:end] for start, end in zip([0, *ends], [*ends, len(sent)], strict=True)]
    answers = split_answers(server.ask(*pieces, pause=0.002))
    assert [body for _, _, body in answers] == [body or b"/%d" % i for i, body in enumerate(bodies)] + [b"/end"]


def test_what_follows_a_large_body_is_read_as_a_request(server: Listening) -> None:
    body = bytes(300_000)
    head = request("POST", "/", body)[: -len(body)]
    smuggled = request("GET", "/smuggled")
    assert statuses(server.ask(head, body, b"x" * 10 + b"\r\n\r\n", pause=0.02)) == [200, 400]
    # What a body holds is no request, and what comes after the last one is dropped.
    inside = smuggled * (300_000 // len(smuggled))
    last = request("POST", "/last", inside, b"connection: close")
    answers = split_answers(server.ask(last[:1000], last[1000:] + smuggled, pause=0.02))
    assert [body for _, _, body in answers] == [inside]


def test_a_large_body_that_was_answered_early_is_dropped() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, scope["path"].encode(), status=503)

    body = bytes(500_000)
    with listening(app) as server, server.connect() as client:
        sent = request("POST", "/first", body)
        client.sendall(sent[:1000])
        assert client.recv(65_536).endswith(b"/first")
        client.sendall(sent[1000:] + END)
        assert [body for _, _, body in split_answers(read_all(client))] == [b"/end"]


def test_limits_are_numbers_above_zero() -> None:
    for value in (0, -1, float("inf"), float("nan"), True, "10"):
        with pytest.raises(ServeError, match="idle_s"):
            Limits(idle_s=value)  # type: ignore[arg-type]


def test_echo_app_sees_what_is_sent(server: Listening) -> None:
    assert isinstance(server.app, Echo)
    got = server.ask(request("POST", "/a?b", b"xyz", b"connection: close"))
    status, headers, body = split_answers(got)[0]
    assert (status, body, headers["connection"]) == (200, b"xyz", "close")
    assert "date" in headers
