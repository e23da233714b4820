"""How busy a thread is, as another one sees it that leaves it the processor now and then."""

from __future__ import annotations

import threading
import time

WINDOW_S = 0.05
"""It is judged by so long a time or more."""
BUSY = 0.8
"""From this share of that time on."""
OLD_S = 1.0
"""A judgement is old after so long."""


class Load:
    """That of the thread which makes it. Used by one other thread, which says when it has been at work itself: of that
    time nothing is counted, as both may want the same processor or the same lock, and who waits for it looks idle."""

    def __init__(self) -> None:
        # Where the system has no such clock, nobody is ever busy.
        clock = getattr(time, "pthread_getcpuclockid", None)
        self._clock: int | None = None if clock is None else clock(threading.get_ident())
        self.busy = False
        self._elapsed = self._spent = self._last_spent = 0.0
        self._judged = time.perf_counter()
        self.worked()

    @property
    def old(self) -> bool:
        return time.perf_counter() - self._judged > OLD_S

    def rested(self) -> None:
        """Since the last call of either the caller has done nothing."""
        elapsed, spent = self._elapsed, self._spent
        last, last_spent = self._last, self._last_spent
        self.worked()
        self._elapsed = elapsed + self._last - last
        self._spent = spent + self._last_spent - last_spent
        if self._elapsed >= WINDOW_S:
            self.busy = self._spent > BUSY * self._elapsed
            self._judged = self._last
            self._elapsed = self._spent = 0.0

    def worked(self) -> None:
        """Since the last call of either the caller was at work."""
        self._last, self._last_spent = time.perf_counter(), self._read()

    def _read(self) -> float:
        """Seconds of the processor that the thread has had."""
        if self._clock is None:
            return self._last_spent
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            # It has ended.
            self._clock = None
            return self._last_spent
