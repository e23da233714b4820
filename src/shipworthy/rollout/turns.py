"""Transactions that leave others their turn.

A lock of a database is not handed on in order: whoever takes it again at once, as SQLite's waiters look for it only now
and then, keeps all others from it for as long as there is something to write."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LONGEST_S = 2.0
"""No rest is longer, however long a transaction took."""


class Turns:
    """One transaction after the other, and after each a rest as long as it took. May be used by any thread.

    What it had to wait for others counts too: the more there are, the more each of them rests."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._free_at = -math.inf
        self._wrote_at = -math.inf

    def take(self, work: Callable[[], T]) -> T:
        """What `work` gives, which is one transaction, or none."""
        with self._guard:
            time.sleep(max(0.0, self._free_at - time.monotonic()))
            began = time.monotonic()
            try:
                return work()
            finally:
                ended = time.monotonic()
                self._free_at = ended + min(LONGEST_S, ended - began)

    def rested(self, span_s: float) -> bool:
        """Whether nothing was noted as written for so many seconds."""
        return time.monotonic() - self._wrote_at > span_s

    def wrote(self) -> None:
        self._wrote_at = time.monotonic()
