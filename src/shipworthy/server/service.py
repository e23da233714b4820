"""The models that a server has, and whether it may be asked."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..errors import ServeError
from .executor import ThreadExecutor
from .lane import Lane
from .problems import NOT_FOUND, NOT_READY, RETRY_AFTER, ProblemError
from .settings import Settings

if TYPE_CHECKING:
    from ..predict import Predictor

State: TypeAlias = Literal["starting", "healthy", "draining"]


class Service:
    """Lanes by the name of their model. Changed only before it is ready, and when it is closed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state: State = "starting"
        self.parting = False
        self.lanes: dict[str, Lane] = {}
        self._decoders = ThreadPoolExecutor(settings.decoders, thread_name_prefix="shipworthy-decode")

    @property
    def ready(self) -> bool:
        return self.state == "healthy"

    def open(self, predictors: Iterable[tuple[str, Predictor]]) -> None:
        """Serve these models from now on. ServeError where two have one name, or where there is none."""
        for name, predictor in predictors:
            if name in self.lanes:
                raise ServeError(f"model {name!r}", "is the name of two packages", "serve them in two servers")
            streams, waiting = predictor.point.streams, self.settings.max_waiting
            threads = ThreadExecutor(predictor.run, streams=streams, max_waiting=waiting)
            places = threading.Semaphore(streams + waiting)
            self.lanes[name] = Lane(predictor, threads, self._decoders, self.settings, places)
        if not self.lanes:
            raise ServeError("server", "has no model", "name at least one package")
        self.state = "healthy"

    def drain(self) -> None:
        """Say that no more requests should come; those that do are still answered."""
        self.state = "draining"

    def part(self) -> None:
        """From now on, ask every client to leave its connection."""
        self.parting = True

    def close(self) -> None:
        """Finish the batches that were submitted, and take no more. The predictors stay open."""
        self.state = "draining"
        for lane in self.lanes.values():
            lane.executor.close()
        self._decoders.shutdown(wait=True)

    def lane(self, name: str | None) -> Lane:
        """The lane of a model; of the only one where no name is given."""
        if self.state == "starting":
            raise ProblemError(NOT_READY, "the models are being loaded", headers=RETRY_AFTER)
        if name is None:
            if len(self.lanes) > 1:
                raise ProblemError(
                    NOT_FOUND, f"several models are served; use /models/{{model}}/predict: {self._names()}"
                )
            return next(iter(self.lanes.values()))
        if name not in self.lanes:
            raise ProblemError(NOT_FOUND, f"there is no model {name[:80]!a}; there is {self._names()}")
        return self.lanes[name]

    def _names(self) -> str:
        return ", ".join(map(repr, self.lanes))
