"""What is to be written or sent away, and the thread that does it while nobody waits for that."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Spool(Generic[T]):
    """A bounded buffer that a thread empties. What finds no room in it is dropped and counted.

    From any thread; every method but `flush` and `close` returns at once."""

    def __init__(self, name: str, hand_on: Callable[[list[T]], None], *, batch: int, linger_s: float) -> None:
        """`hand_on` is called in a thread of that `name`, with at most `batch` items in their order. It may take its
        time, tells `drop` of what it could not hand on, and must not raise. Nothing waits for longer than `linger_s`
        to be taken up."""
        self._hand_on, self._batch, self._linger_s = hand_on, batch, linger_s
        self._items: deque[T] = deque()
        self._awake = threading.Event()
        self._closing = False
        self._working, self._counting = threading.Lock(), threading.Lock()
        self._dropped = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Items that came to nothing."""
        return self._dropped

    def put(self, item: T, room: int) -> None:
        """Leave an item, unless `room` others wait already."""
        if self._closing or len(self._items) >= room:
            self.drop(1)
        else:
            self._items.append(item)

    def drop(self, count: int) -> None:
        """So many items are lost."""
        with self._counting:
            self._dropped += count

    @property
    def waiting(self) -> int:
        return len(self._items)

    def wake(self) -> None:
        """Have what waits taken up now."""
        self._awake.set()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was left so far is handed on; False where the time is over before."""
        deadline = time.monotonic() + timeout_s
        while self._items or self._working.locked():
            self.wake()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def close(self, timeout_s: float) -> None:
        """Hand on what is left, as far as the time allows. What comes later is dropped."""
        self._closing = True
        self.wake()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        closing = False
        while not closing:
            self._awake.wait(self._linger_s)
            self._awake.clear()
            with self._working:
                closing = self._closing
                while self._items:
                    self._hand_on([self._items.popleft() for _ in range(min(len(self._items), self._batch))])
