"""A thread that asks something that may take long, such as a registry, so that the event loop need not wait for it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Question: TypeAlias = tuple[Callable[[], Any], Future[Any]]


class Asking:
    """Questions are asked one after the other. Where one is never answered, as when a network swallows it, the process
    ends all the same. The thread ends with whoever asks."""

    def __init__(self, name: str) -> None:
        """`name` is that of the thread, which is begun with the first question."""
        self._questions: SimpleQueue[Question | None] = SimpleQueue()
        self._thread = Thread(target=_answer, args=(self._questions,), name=name, daemon=True)
        weakref.finalize(self, self._questions.put, None)

    async def ask(self, work: Callable[[], T]) -> T:
        """What `work` gives or raises. Who stops waiting for it does not stop it, once it has begun."""
        if self._thread.ident is None:
            self._thread.start()
        future: Future[T] = Future()
        self._questions.put((work, future))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Ask nothing more. The thread ends with what it has begun."""
        self._questions.put(None)


def _answer(questions: SimpleQueue[Question | None]) -> None:
    while (question := questions.get()) is not None:
        work, future = question
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            # Whatever it is, it is raised again where the answer is awaited.
            except BaseException as error:  # noqa: BLE001
                future.set_exception(error)
        # Else they would be kept until the next question.
        del question, work, future
