"""Batching as other servers have it: wait until a batch is full, but no longer than a fixed delay."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..parts import Part, Refusal
from .model import Model


@dataclass(frozen=True)
class FixedDelay:
    """LitServe's `max_batch_size` and `batch_timeout`, TorchServe's `batchSize` and `maxBatchDelay`, Triton's
    `max_queue_delay_microseconds` and `max_queue_size`."""

    largest: int
    """Rows in a batch."""
    delay: float
    """Seconds that the oldest request waits for others."""
    capacity: int | None = None
    """Requests that may wait; further ones are refused. Without it, all are taken on."""

    def serve(self, models: Sequence[Model], cores: float) -> Delayed:
        return Delayed([Line(self, model.engine.streams) for model in models])


@dataclass(slots=True, eq=False)
class Run:
    parts: list[Part]
    rows: int
    bucket: int
    line: Line


class Line:
    """The queue of one model: first come, first served."""

    def __init__(self, policy: FixedDelay, streams: int) -> None:
        self.policy = policy
        self.idle = streams
        self.parts: deque[Part] = deque()
        self.expired: list[Part] = []
        self.rows = 0
        self._coming = 0

    def admit(self, now: float, size: int, due: float) -> Refusal | None:
        capacity = self.policy.capacity
        if capacity is not None and len(self.parts) + self._coming >= capacity + self.idle:
            return Refusal("requests", self.policy.delay)
        self._coming += 1
        return None

    def arrived(self) -> None:
        self._coming -= 1

    def offer(self, part: Part, now: float) -> None:
        part.queued, part.state = now, "waiting"
        self.parts.append(part)
        self.rows += part.rows

    def withdraw(self, part: Part) -> None:
        if part.state == "waiting":
            self.parts.remove(part)
            self.rows -= part.rows
        part.state = "gone"

    def leave(self, size: int) -> None:
        """Nothing is counted."""

    def cut(self, rows: int, due: float) -> list[tuple[int, float]]:
        largest = self.policy.largest
        return [(min(largest, rows - start), due) for start in range(0, rows, largest)]

    def ready(self) -> float | None:
        """When its next batch may start; None where nothing waits for a stream."""
        if not self.parts or not self.idle:
            return None
        if self.rows >= self.policy.largest:
            return self.parts[0].queued
        return self.parts[0].queued + self.policy.delay

    def take(self, now: float) -> Run:
        parts, rows = [], 0
        key = self.parts[0].key
        while self.parts and self.parts[0].key == key and rows + self.parts[0].rows <= self.policy.largest:
            part = self.parts.popleft()
            part.state = "running"
            parts.append(part)
            rows += part.rows
        self.rows -= rows
        self.idle -= 1
        return Run(parts, rows, rows, self)


class Delayed:
    """Models side by side; nothing is arranged between them."""

    def __init__(self, doors: Sequence[Line]) -> None:
        self.doors = doors

    def next(self, now: float) -> Run | None:
        for line in self.doors:
            ready = line.ready()
            if ready is not None and ready <= now + 1e-12:
                return line.take(now)
        return None

    def done(self, batch: Run, now: float, seconds: float) -> None:
        batch.line.idle += 1

    def wake(self, now: float) -> float | None:
        return min((ready for line in self.doors if (ready := line.ready()) is not None), default=None)
