"""The open load, in a process of its own: requests leave when a Poisson process says so, whatever the server does.

Reads a JSON object on its standard input, and prints one."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

MOST_CONNECTIONS = 512
"""A request for which none is free waits for one, which counts as its latency."""
_OPENED = 16
"""Connections that are there when the load begins."""
_BROKEN = 0
"""The status of a request whose connection was lost."""


class Load:
    """Requests at intended times, answered or not when the load ends."""

    def __init__(self, port: int, wires: Sequence[bytes], times: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        self.port = port
        self.wires = wires
        self.intended = times
        self.noticed = np.full(len(times), np.nan)
        """When this process came to a request, which was then sent at once where a connection was free."""
        self.ended = np.full(len(times), np.nan)
        self.status = np.full(len(times), -1)
        self.began = 0.0
        self._idle: list[_Connection] = []
        self._waiting: deque[int] = deque()
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, grace_s: float) -> None:
        """Until all is answered, or `grace_s` seconds after the last request should have left."""
        loop = asyncio.get_running_loop()
        for _ in range(_OPENED):
            await self._connect()
        self.began = time.perf_counter()
        for number, intended in enumerate(self.intended):
            while (left := self.began + intended - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            self._send(number, loop)
        end = time.perf_counter() + grace_s
        while time.perf_counter() < end and np.isnan(self.ended).any():
            await asyncio.sleep(0.01)

    def _send(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.noticed[number] = time.perf_counter() - self.began
        if self._idle:
            self._idle.pop().send(number)
            return
        self._waiting.append(number)
        if self._connections < MOST_CONNECTIONS:
            self._connections += 1
            task = loop.create_task(self._connect(counted=True))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, *, counted: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self._connections += not counted
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self.port)
        except OSError:
            self._connections -= 1
            if self._waiting:
                self.finish(self._waiting.popleft(), _BROKEN)
            return
        self.free(connection)

    def free(self, connection: _Connection) -> None:
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        self._connections -= 1
        if connection in self._idle:
            self._idle.remove(connection)

    def finish(self, number: int, status: int) -> None:
        self.ended[number] = time.perf_counter() - self.began
        self.status[number] = status


class _Connection(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self._load = load
        self._number: int | None = None
        self._read = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What uvloop gives is one, but no subclass.
        self._transport = cast(asyncio.Transport, transport)

    def send(self, number: int) -> None:
        self._number = number
        self._transport.write(self._load.wires[number % len(self._load.wires)])

    def data_received(self, data: bytes) -> None:
        self._read += data
        answer = parsed(self._read)
        if answer is None or self._number is None:
            return
        status, closes = answer
        self._read.clear()
        self._load.finish(self._number, status)
        self._number = None
        if closes:
            self._transport.close()
        else:
            self._load.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._number is not None:
            self._load.finish(self._number, _BROKEN)
            self._number = None
        self._load.lost(self)


def parsed(read: bytearray) -> tuple[int, bool] | None:
    """The status of a whole answer, and whether its connection ends with it; None where bytes are still to come."""
    end = read.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(read[:end]).lower()
    closes = b"\r\nconnection: close" in head
    if b"transfer-encoding: chunked" in head:
        whole = read.endswith(b"0\r\n\r\n") and len(read) > end + 4
    else:
        at = head.find(b"\r\ncontent-length:")
        length = int(head[at + 17 : (head.find(b"\r\n", at + 2) + 1 or len(head) + 1) - 1]) if at >= 0 else 0
        whole = len(read) >= end + 4 + length
    return (int(head[9:12]), closes) if whole else None


def arrivals(rate: float, seconds: float, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Times of a Poisson process of `rate` per second, rising, below `seconds`."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / rate, int(rate * seconds * 1.5 + 50))
    times = np.cumsum(gaps)
    found: np.ndarray[Any, np.dtype[np.float64]] = times[times < seconds]
    return found


def summary(load: Load, seconds: float, target_s: float, now_s: float) -> dict[str, Any]:
    """Latencies count from the intended send time; a request without an answer has waited until now at least."""
    took = np.where(np.isnan(load.ended), now_s, load.ended) - load.intended
    good, refused = load.status == 200, load.status == 503
    unanswered = load.status == -1
    # A server that answers what it likes of a growing queue is not quicker for what it leaves.
    accepted = np.sort(took[good | unanswered])
    lag = load.noticed - load.intended
    return {
        "rps": float(good.sum() / seconds),
        "goodput_rps": float((good & (took <= target_s)).sum() / seconds),
        "late": int((good & (took > target_s)).sum()),
        "refused": int(refused.sum()),
        "errors": int((~good & ~refused & ~unanswered).sum()),
        "unanswered": int(unanswered.sum()),
        "p50_ms": _quantile(accepted, 0.5),
        "p99_ms": _quantile(accepted, 0.99),
        "refusal_ms": _quantile(np.sort(took[refused]), 0.5),
        "lag_p99_ms": _quantile(np.sort(lag), 0.99),
    }


def _quantile(rising: np.ndarray[Any, np.dtype[np.float64]], share: float) -> float | None:
    return float(np.quantile(rising, share) * 1e3) if len(rising) else None


def main() -> None:
    import uvloop

    told = json.load(sys.stdin)
    wires = [Path(path).read_bytes() for path in told["wires"]]
    times = arrivals(told["rate"], told["seconds"], told["seed"])
    load = Load(told["port"], wires, times)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(load.run(told["grace_s"]))
    after, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = summary(load, told["seconds"], told["target_s"], time.perf_counter() - load.began)
    sys.stdout.write(json.dumps({**found, "sent": len(times), "generator_cpu": used / wall}))


if __name__ == "__main__":
    main()
