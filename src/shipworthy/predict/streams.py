"""All streams of an engine at once: warmed, and timed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from ..contract import Array, Arrays

T = TypeVar("T")


class Streams:
    """As many threads as there are streams, which run the same batch at the same time; a context manager.

    Engines prepare a shape for each stream by itself, and share caches and memory channels between them: what one
    stream alone shows is neither ready nor true."""

    def __init__(self, run: Callable[[Arrays], dict[str, Array]], count: int) -> None:
        self._run = run
        self._count = count
        # A lone stream runs on the caller's thread.
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="shipworthy-warm") if count > 1 else None
        self._start = threading.Barrier(count)

    def each(self, feeds: Arrays) -> list[dict[str, Array]]:
        """The outputs of one run on every stream. Raises what the engine raises."""
        return self._at_once(lambda: self._run(feeds))

    def timed(self, feeds: Arrays, *, runs: int, within_s: float, least: int = 1, least_s: float = 0.0) -> list[float]:
        """Seconds of each run by every stream: at most `runs` that begin within `within_s` seconds, but `least` where
        they begin within `least_s`, and one in any case.

        The first of several is left out: it finds the caches as another size has left them."""

        def work() -> list[float]:
            seconds: list[float] = []
            begin = start = time.perf_counter()
            while (
                not seconds
                or (len(seconds) < least and start - begin < least_s)
                or (len(seconds) < runs and start - begin < within_s)
            ):
                self._run(feeds)
                end = time.perf_counter()
                seconds.append(end - start)
                start = end
            return seconds[1:] or seconds

        return [one for many in self._at_once(work) for one in many]

    def _at_once(self, work: Callable[[], T]) -> list[T]:
        if self._pool is None:
            return [work()]

        def begin() -> T:
            self._start.wait()
            return work()

        return [future.result() for future in [self._pool.submit(begin) for _ in range(self._count)]]

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
