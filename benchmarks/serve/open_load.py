"""The open load, in a process of its own: requests leave when a Poisson process says so, whatever the server does.

It shares its processors with the server, so that it has one thread, no event loop but epoll, and one `send` and one
`recv` for a request. Reads a JSON object on its standard input, and prints one."""

from __future__ import annotations

import gc
import json
import resource
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Times = np.ndarray[Any, np.dtype[np.float64]]

MOST_CONNECTIONS = 512
"""A request for which none is free waits for one, which counts as its latency."""
OPENED = 16
"""Connections that are there when the load begins, by default."""
_BROKEN = 0
"""The status of a request whose connection was lost."""
_CONNECT_S = 5.0
_READ = 1 << 14
_SEND_BUFFER = 1 << 20
"""The kernel takes a whole picture at once, and sends it while this process sleeps."""


class _Connection:
    """A socket that does not block, and the request that is on it."""

    __slots__ = ("begun", "left", "number", "read", "socket")

    def __init__(self, one: socket.socket) -> None:
        self.socket = one
        self.number: int | None = None
        self.left: memoryview | None = None
        """What the kernel has not taken."""
        self.read = bytearray()
        self.begun = False
        """Whether it stands: nothing is sent before."""


class Load:
    """Requests at intended times, answered or not when the load ends."""

    def __init__(self, port: int, wires: Sequence[bytes], times: Times, *, opened: int = OPENED) -> None:
        self.port = port
        self.wires = wires
        self.intended = times
        self.noticed = np.full(len(times), np.nan)
        """When this process came to a request, which was then sent at once where a connection was free."""
        self.ended = np.full(len(times), np.nan)
        self.status = np.full(len(times), -1)
        self.began = 0.0
        self._open = len(times)
        self._opened = opened
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        """By file descriptor."""
        self._idle: list[_Connection] = []
        self._waiting: deque[int] = deque()
        self._coming = 0
        """Connections that do not stand yet."""

    def run(self, grace_s: float) -> None:
        """Until all is answered, or `grace_s` seconds after the last request should have left.

        Raises OSError where nobody listens."""
        try:
            for _ in range(self._opened):
                self._idle.append(self._keep(socket.create_connection(("127.0.0.1", self.port), _CONNECT_S)))
            self._run(grace_s)
        finally:
            for one in self._connections.values():
                one.socket.close()
            self._connections.clear()
            self._epoll.close()

    def _run(self, grace_s: float) -> None:
        clock, ready = time.perf_counter, [self._epoll.fileno()]
        self.began = began = clock()
        due = [began + intended for intended in self.intended.tolist()]
        number, count, end = 0, len(due), 0.0
        while self._open:
            now = clock()
            if number < count and due[number] <= now:
                self.noticed[number] = now - began
                self._send(number)
                number += 1
                end = now + grace_s
                continue
            left = (due[number] if number < count else end) - now
            if left <= 0:
                return
            # Unlike epoll's own, this timeout has no steps of a millisecond.
            if select.select(ready, (), (), left)[0]:
                for place, events in self._epoll.poll(0):
                    self._event(self._connections[place], events)

    def _send(self, number: int) -> None:
        if self._idle:
            self._begin(self._idle.pop(), number)
        else:
            self._waiting.append(number)
            self._connect()

    def _connect(self) -> None:
        """One more for those that wait, where there may be more."""
        if len(self._connections) >= MOST_CONNECTIONS or self._coming >= len(self._waiting):
            return
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", self.port))
        self._keep(one, coming=True)

    def _keep(self, one: socket.socket, *, coming: bool = False) -> _Connection:
        one.setblocking(False)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        made = _Connection(one)
        made.begun = not coming
        self._coming += coming
        self._connections[one.fileno()] = made
        self._epoll.register(one.fileno(), select.EPOLLIN | (select.EPOLLOUT if coming else 0))
        return made

    def _event(self, one: _Connection, events: int) -> None:
        if not one.begun:
            self._stands(one)
            return
        if one.left is not None and events & select.EPOLLOUT:
            self._write(one)
        if events & ~select.EPOLLOUT:
            self._read(one)

    def _stands(self, one: _Connection) -> None:
        self._coming -= 1
        if one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop(one)
            if self._waiting:
                self._finish(self._waiting.popleft(), _BROKEN)
            return
        one.begun = True
        self._epoll.modify(one.socket.fileno(), select.EPOLLIN)
        self._free(one)

    def _free(self, one: _Connection) -> None:
        if self._waiting:
            self._begin(one, self._waiting.popleft())
        else:
            self._idle.append(one)

    def _begin(self, one: _Connection, number: int) -> None:
        one.number = number
        wire = self.wires[number % len(self.wires)]
        if one.left is not None:
            # The last answer came before all of its request had left.
            one.left = memoryview(bytes(one.left) + wire)
            return
        one.left = memoryview(wire)
        self._write(one, first=True)

    def _write(self, one: _Connection, *, first: bool = False) -> None:
        assert one.left is not None
        try:
            sent = one.socket.send(one.left)
        except BlockingIOError:
            sent = 0
        except OSError:
            # What ended the connection may have answered before: that is read next.
            sent = len(one.left)
        if sent == len(one.left):
            one.left = None
            if not first:
                self._epoll.modify(one.socket.fileno(), select.EPOLLIN)
        else:
            one.left = one.left[sent:]
            if first:
                self._epoll.modify(one.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _read(self, one: _Connection) -> None:
        try:
            data = one.socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost(one)
            return
        one.read += data
        answer = parsed(one.read)
        if answer is None or one.number is None:
            return
        status, closes = answer
        one.read.clear()
        number, one.number = one.number, None
        self._finish(number, status)
        if closes:
            self._drop(one)
        else:
            self._free(one)

    def _lost(self, one: _Connection) -> None:
        if one.number is not None:
            self._finish(one.number, _BROKEN)
        elif one in self._idle:
            self._idle.remove(one)
        self._drop(one)

    def _drop(self, one: _Connection) -> None:
        # Where something else holds the socket for a moment longer, epoll would go on to tell of a closed one.
        self._epoll.unregister(one.socket.fileno())
        del self._connections[one.socket.fileno()]
        one.socket.close()
        self._connect()

    def _finish(self, number: int, status: int) -> None:
        self.ended[number] = time.perf_counter() - self.began
        self.status[number] = status
        self._open -= 1


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


def arrivals(rate: float, seconds: float, seed: int) -> Times:
    """Times of a Poisson process of `rate` per second, rising, below `seconds`."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / rate, int(rate * seconds * 1.5 + 50))
    times = np.cumsum(gaps)
    found: Times = times[times < seconds]
    return found


def summary(load: Load, seconds: float, target_s: float, now_s: float) -> dict[str, Any]:
    """What the load came to.

    `goodput_rps` counts the requests of the load that were answered with status 200 within the target, whenever that
    was; `rps` counts what was answered with status 200 until the load's end, and nothing of the time after it, in which
    a server that is behind would catch up. So goodput can be larger by what was under way at the end. Latencies count
    from the intended send time; a request without an answer has waited until now at least."""
    took = np.where(np.isnan(load.ended), now_s, load.ended) - load.intended
    good, refused = load.status == 200, load.status == 503
    unanswered = load.status == -1
    # A server that answers what it likes of a growing queue is not quicker for what it leaves.
    accepted = np.sort(took[good | unanswered])
    lag = load.noticed - load.intended
    return {
        "rps": float((good & (load.ended <= seconds)).sum() / seconds),
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


def _quantile(rising: Times, share: float) -> float | None:
    return float(np.quantile(rising, share) * 1e3) if len(rising) else None


def main() -> None:
    told = json.load(sys.stdin)
    wires = [Path(path).read_bytes() for path in told["wires"]]
    times = arrivals(told["rate"], told["seconds"], told["seed"])
    load = Load(told["port"], wires, times, opened=told["opened"])
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    gc.freeze()
    gc.disable()
    load.run(told["grace_s"])
    after, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = summary(load, told["seconds"], told["target_s"], time.perf_counter() - load.began)
    sys.stdout.write(json.dumps({**found, "generator_cpu": used / wall}))


if __name__ == "__main__":
    main()
