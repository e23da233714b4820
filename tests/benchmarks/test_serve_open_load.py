"""The open load of benchmarks/serve: arrivals, answers as they are read, and what is counted."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import uvloop

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.serve.open_load import Load, arrivals, parsed, summary  # noqa: E402

REQUEST = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody"
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (b"", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx: y\r\n\r\nhello", (200, False)),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", (404, False)),
        (BUSY, (503, True)),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", (200, False)),
    ],
)
def test_an_answer_is_read_when_it_is_whole(answer: bytes, meaning: tuple[int, bool] | None) -> None:
    assert parsed(bytearray(answer)) == meaning


def test_arrivals_are_a_poisson_process_of_the_seed() -> None:
    times = arrivals(500.0, 40.0, seed=7)
    assert np.array_equal(times, arrivals(500.0, 40.0, seed=7))
    assert not np.array_equal(times[:100], arrivals(500.0, 40.0, seed=8)[:100])
    gaps = np.diff(times)
    assert (gaps > 0).all() and times[-1] < 40.0
    # The count of 20,000 has a deviation of 141; gaps that are exponential are as wide as their mean.
    assert abs(len(times) - 20_000) < 5 * 141
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)


def under(answer: Callable[[int], bytes | None], times: list[float], *, grace_s: float = 0.3) -> Load:
    """The load after a run against a server that gives the n-th request this answer, and None never."""
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while await reader.read(len(REQUEST)):
            number, seen = seen, seen + 1
            reply = answer(number)
            if reply is None:
                continue
            writer.write(reply)
            await writer.drain()
            if reply in (BUSY, b""):
                break
        writer.close()

    async def main() -> Load:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        load = Load(server.sockets[0].getsockname()[1], [REQUEST], np.array(times))
        await asyncio.to_thread(load.run, grace_s)
        server.close()
        return load

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def test_good_and_refused_answers_are_counted_apart() -> None:
    times = [0.002 * number for number in range(100)]
    load = under(lambda number: BUSY if number % 4 == 3 else GOOD, times)
    found = summary(load, 1.0, target_s=0.5, now_s=1.0)
    assert (found["refused"], found["errors"], found["unanswered"], found["late"]) == (25, 0, 0, 0)
    assert found["rps"] == found["goodput_rps"] == 75
    assert 0 < found["p50_ms"] <= found["p99_ms"] < 500
    assert 0 < found["refusal_ms"] < 500 and 0 <= found["lag_p99_ms"] < 500


def test_a_lost_connection_is_an_error_and_the_load_goes_on() -> None:
    load = under(lambda number: b"" if number == 5 else GOOD, [0.01 * number for number in range(20)])
    found = summary(load, 1.0, target_s=0.5, now_s=1.0)
    assert (found["errors"], found["unanswered"]) == (1, 0)
    assert found["rps"] == 19


def test_a_closed_connection_that_something_still_holds_is_not_heard_of_again(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[socket.socket] = []

    class Held(socket.socket):
        def close(self) -> None:
            held.append(self.dup())
            super().close()

    def opened(address: tuple[str, int], timeout: float) -> socket.socket:
        one = Held()
        one.settimeout(timeout)
        one.connect(address)
        return one

    monkeypatch.setattr(socket, "create_connection", opened)
    load = under(lambda number: BUSY if number % 2 else GOOD, [0.01 * number for number in range(20)])
    found = summary(load, 1.0, target_s=0.5, now_s=1.0)
    assert (found["refused"], found["errors"], found["unanswered"]) == (10, 0, 0)
    assert len(held) >= 10
    for one in held:
        socket.socket.close(one)


def test_what_is_not_answered_has_waited_until_the_end() -> None:
    load = under(lambda number: None if number == 0 else GOOD, [0.0, 0.05, 0.1], grace_s=0.2)
    found = summary(load, 0.15, target_s=0.5, now_s=9.0)
    assert (found["unanswered"], found["errors"]) == (1, 0)
    assert found["p99_ms"] > 8_000 and found["p50_ms"] < 500


def test_latency_counts_from_the_intended_time() -> None:
    load = under(lambda number: GOOD, [0.0, 0.01])
    load.ended[:] = load.intended + np.array([0.04, 0.06])
    found = summary(load, 1.0, target_s=0.05, now_s=1.0)
    assert (found["rps"], found["goodput_rps"], found["late"]) == (2.0, 1.0, 1)
    assert found["p50_ms"] == pytest.approx(50.0)


def test_what_is_answered_after_the_end_is_no_rate() -> None:
    load = under(lambda number: GOOD, [0.0, 0.1, 0.18])
    load.ended[:] = [0.01, 0.15, 0.21]
    found = summary(load, 0.2, target_s=0.05, now_s=1.0)
    assert (found["rps"], found["goodput_rps"], found["late"]) == (2 / 0.2, 3 / 0.2, 0)


def test_bodies_that_the_kernel_does_not_take_at_once_are_sent_whole() -> None:
    """And every answer belongs to its own request."""
    body = np.random.default_rng(0).integers(0, 256, 9_000_000, dtype=np.uint8).tobytes()
    wires = [f"POST / HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body, REQUEST]
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            got.append(await reader.readexactly(len(body) if b"POST / " in head else 4))
            writer.write(GOOD)
            if reader.at_eof():
                break

    async def main() -> Load:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        load = Load(server.sockets[0].getsockname()[1], wires, np.array([0.0, 0.001, 0.002, 0.003]))
        await asyncio.to_thread(load.run, 10.0)
        server.close()
        return load

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = runner.run(main())
    assert (load.status == 200).all()
    assert sorted(got, key=len) == [b"body", b"body", body, body]


def test_a_refusal_is_read_though_the_body_was_not() -> None:
    """The server ends the connection with most of the body unread, which the kernel makes a reset."""
    wire = b"POST / HTTP/1.1\r\ncontent-length: 3000000\r\n\r\n" + bytes(3_000_000)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(BUSY)
        writer.close()

    async def main() -> Load:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        load = Load(server.sockets[0].getsockname()[1], [wire], np.linspace(0, 0.2, 40))
        await asyncio.to_thread(load.run, 1.0)
        server.close()
        return load

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = runner.run(main())
    assert (load.status == 503).sum() >= 38
    assert not (load.status == -1).any()
