"""The way of one prediction: body → instances → arrays → batches → outputs → answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from ..contract import Array, Arrays
from ..encode import stack
from ..errors import InputError, Problem
from ..predict.requests import Request as Instances
from .bodies import parse, read_body
from .executor import Done, Executor, QueueFullError
from .settings import Settings

if TYPE_CHECKING:
    from ..predict import Predictor

T = TypeVar("T")
Batch = tuple[list[int], dict[str, Array]]

INLINE_BYTES = 16_384
"""A larger body, and any that may hold an image, is parsed and encoded beside the event loop, not on it."""
INLINE_ANSWERS = 64
INLINE_VALUES = 4096
"""More answers, or answers of more numbers, are made beside the event loop."""
MAX_TIMEOUT_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Lane:
    """A model that is served: what encodes and answers, and where its batches run."""

    predictor: Predictor
    executor: Executor
    decoders: ThreadPoolExecutor
    settings: Settings
    places: threading.Semaphore
    """One for each request that may be under way, from its decoding to its answer."""

    async def predict(self, request: Request) -> Response:
        """Answer a request, within the time that it gives."""
        digits = _round(request)
        async with asyncio.timeout(_timeout_s(request)):
            body = await read_body(request, self.settings.max_body_bytes)
            content_type = request.headers.get("content-type", "")
            heavy = len(body) > INLINE_BYTES or self.predictor.codec.accepts_image is not None
            with self._place():
                asked, batches = await self._beside(heavy, lambda: self._encode(body, content_type))
                done = await self._run([feeds for _, feeds in batches])
                heavy = len(asked.instances) > INLINE_ANSWERS or _values(done) > INLINE_VALUES
                content = await self._beside(heavy, lambda: self._answer(asked, batches, done, digits))
        return Response(content, media_type="application/json", headers={"server-timing": _timing(done)})

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A place among the requests under way; QueueFullError where there is none."""
        if not self.places.acquire(blocking=False):
            raise QueueFullError
        try:
            yield
        finally:
            self.places.release()

    async def _run(self, batches: Sequence[Arrays]) -> list[Done]:
        """As many at a time as there are streams, so that one request cannot fill the queue."""
        width, done = self.predictor.point.streams, list[Done]()
        for start in range(0, len(batches), width):
            done += await asyncio.gather(*map(self.executor.submit, batches[start : start + width]))
        return done

    async def _beside(self, heavy: bool, work: Callable[[], T]) -> T:
        """Do `work` at once, or in a thread where it could keep the event loop from others."""
        if not heavy:
            return work()
        waiting = [work]
        try:
            return await asyncio.get_running_loop().run_in_executor(self.decoders, lambda: waiting.pop()())
        finally:
            # A caller that leaves early takes its body along; the thread pool would keep it until its turn comes.
            waiting.clear()

    def _encode(self, body: bytes, content_type: str) -> tuple[Instances, list[Batch]]:
        asked = parse(body, content_type, self.predictor, self.settings.max_instances)
        return asked, stack(self.predictor.codec.instances(asked.instances))

    def _answer(self, asked: Instances, batches: Sequence[Batch], done: Sequence[Done], digits: int | None) -> bytes:
        answers: dict[int, dict[str, Any]] = {}
        problems: list[Problem] = []
        for (places, _), part in zip(batches, done, strict=True):
            try:
                answers.update(zip(places, self.predictor.answer(part.outputs, round=digits), strict=True))
            except InputError as error:
                problems += [Problem(places[p.sample_index], p.field, p.reason) for p in error.problems]
        if problems:
            raise InputError(sorted(problems, key=lambda problem: problem.sample_index))
        if not asked.many:
            return to_json(answers[0])
        return to_json({"predictions": [{"sample_index": place, **answers[place]} for place in sorted(answers)]})


def _values(done: Sequence[Done]) -> int:
    return sum(output.size for part in done for output in part.outputs.values())


def _timing(done: Sequence[Done]) -> str:
    """Milliseconds: the longest wait of the request's batches, and what they took in the engine together."""
    queue, compute = max(part.queue_s for part in done), sum(part.compute_s for part in done)
    return f"queue;dur={queue * 1e3:.3f}, compute;dur={compute * 1e3:.3f}"


def _round(request: Request) -> int | None:
    text = request.query_params.get("round")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 2 and int(text) <= 17):
        raise InputError([Problem(0, "round", "expected a number of digits from 0 to 17")])
    return int(text)


def _timeout_s(request: Request) -> float | None:
    text = request.headers.get("x-request-timeout-ms")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 7 and 1 <= int(text) <= MAX_TIMEOUT_MS):
        raise InputError([Problem(0, "x-request-timeout-ms", f"expected milliseconds from 1 to {MAX_TIMEOUT_MS}")])
    return int(text) / 1e3
