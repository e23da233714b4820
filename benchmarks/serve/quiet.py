"""Whether the machine was quiet: what its processors did for nobody who is measured."""

from __future__ import annotations

import resource
import time
from contextlib import suppress

import psutil

from .process import Process

LOUD = 0.1
"""Cores; above it, figures are told to be of a machine that was not quiet."""
TOO_LOUD = 0.3
"""Cores; above it, a slice is measured once more."""


class Elsewhere:
    """Cores used by neither a server, nor this process, nor what it has started and seen end meanwhile, with what the
    host took away. Used as a context manager.

    Interrupts are left out: those of the loopback are the load's own, and Linux books them to no process."""

    def __init__(self, server: Process | None = None) -> None:
        self._server = server
        self.cores = 0.0
        self.served = 0.0
        """Cores used by the server."""

    def __enter__(self) -> Elsewhere:
        self._members = self._served()
        self._known = _accounted()
        self._busy = _busy()
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        took = time.perf_counter() - self._began
        busy, known, members = _busy() - self._busy, _accounted() - self._known, self._served()
        served = sum(seconds - self._members.get(pid, 0.0) for pid, seconds in members.items())
        self.cores, self.served = max(0.0, (busy - known - served) / took), served / took

    def _served(self) -> dict[int, float]:
        """Seconds of each process of the server. One that ends within the window counts as elsewhere."""
        seconds: dict[int, float] = {}
        for one in self._server.members() if self._server is not None else ():
            with suppress(psutil.Error):
                times = one.cpu_times()
                seconds[one.pid] = times.user + times.system
        return seconds


def _busy() -> float:
    now = psutil.cpu_times()
    return float(now.user + now.nice + now.system + getattr(now, "steal", 0.0))


def _accounted() -> float:
    """Of this process, and of its children that have ended: the load generator is one."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)
