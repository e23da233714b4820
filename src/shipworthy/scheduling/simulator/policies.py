"""What a policy is to the simulator, and that of this server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..curve import Curve
from ..parts import Batch, Part, Refusal
from ..queue import Queue
from ..scheduler import Scheduler
from .model import Model


class Door(Protocol):
    """Where the requests for one model come in; as `Queue`."""

    expired: list[Part]

    def admit(self, now: float, size: int, due: float) -> Refusal | None: ...
    def arrived(self) -> None: ...
    def offer(self, part: Part, now: float) -> None: ...
    def withdraw(self, part: Part) -> None: ...
    def leave(self, size: int) -> None: ...
    def cut(self, rows: int, due: float) -> list[tuple[int, float]]: ...


class Serving(Protocol):
    """A policy at work."""

    @property
    def doors(self) -> Sequence[Door]:
        """One for each model."""

    def next(self, now: float) -> Any | None:
        """The batch that should start now, with `parts`, `rows` and `bucket`; asked until it is None."""

    def done(self, batch: Any, now: float, seconds: float) -> None: ...

    def wake(self, now: float) -> float | None:
        """When to ask again though nothing has happened."""


class Policy(Protocol):
    def serve(self, models: Sequence[Model], cores: float) -> Serving: ...


@dataclass(frozen=True)
class Deadlines:
    """The policy of this server."""

    def serve(self, models: Sequence[Model], cores: float) -> Serving:
        return Scheduled(models, cores)


class Scheduled:
    """`Queue` and `Scheduler`, called as the live server calls them."""

    def __init__(self, models: Sequence[Model], cores: float) -> None:
        self.scheduler = Scheduler(cores)
        self.doors = [
            Queue(
                model.name,
                Curve(model.believed or model.engine.seconds),
                streams=model.engine.streams,
                cores=model.engine.cores,
                bounds=model.bounds,
            )
            for model in models
        ]
        for queue in self.doors:
            self.scheduler.add(queue)

    def next(self, now: float) -> Batch | None:
        return self.scheduler.next(now)

    def done(self, batch: Batch, now: float, seconds: float) -> None:
        self.scheduler.done(batch, now, seconds)

    def wake(self, now: float) -> float | None:
        return None
