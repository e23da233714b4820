"""The packages of a plan: opened in a thread while the web server comes up, each with its share of the cores."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .plan import Plan, Served

if TYPE_CHECKING:
    from ..package import Variant
    from ..predict import Predictor
    from ..runtime.protocol import OperatingPoint
    from .sources import Sources

T = TypeVar("T")


class Loading:
    """The packages of a plan, being read and proven in a thread while the web server is imported and comes up."""

    def __init__(self, plan: Plan) -> None:
        """Raises ServeError where the repository is no folder."""
        from .sources import Sources

        self._plan = plan
        self._unwanted = threading.Event()
        self.sources: Sources = Sources(
            plan.packages, repository=plan.repository, open_package=partial(open_package, plan)
        )
        self.outcome: Future[list[Predictor]] = _in_background(self._open)

    def give_up(self) -> None:
        """Open no further package."""
        self._unwanted.set()

    def close(self) -> None:
        """Wait for the package that is being opened, and close what was. An engine cannot be interrupted safely."""
        self.give_up()
        if self.outcome.exception() is None:
            for predictor in self.outcome.result():
                predictor.close()

    def _open(self) -> list[Predictor]:
        if self._plan.share is None or self._plan.share.models is None:
            return self.sources.open_all(self._unwanted.is_set)
        opened: list[Predictor] = []
        for name in self._plan.share.models:
            if not self._unwanted.is_set():
                opened += self.sources.open(name, served=()).opened
        return opened


def served(predictor: Predictor) -> Served:
    return Served(
        predictor.manifest.name,
        predictor.version,
        predictor.variant.id,
        predictor.passed_over,
        predictor.notes,
    )


def open_package(plan: Plan, path: Path) -> Predictor:
    """A package as a process of this plan uses it, and what its batches cost here.

    A worker takes its share of the cores, so that several do not hinder each other."""
    from ..package import choose_variant, read_package
    from ..predict import calibrate, load
    from ..runtime.host import this_host

    point = None
    if plan.share is not None:
        host = this_host()
        with read_package(path) as package:
            variant = choose_variant(package, host, allow_code=plan.allow_code).variant
        point = fitting_point(variant, max(1, host.cores // plan.share.workers))
    predictor = load(path, allow_code=plan.allow_code, point=point)
    try:
        calibrate(predictor)
    except BaseException:
        predictor.close()
        raise
    return predictor


def fitting_point(variant: Variant, cores: int) -> OperatingPoint:
    """The best measured operating point that uses no more than `cores`; else the best one, with fewer threads."""
    from ..runtime.protocol import OperatingPoint

    points = variant.points or (OperatingPoint(),)
    fits = next((point for point in points if max(point.threads, point.streams) <= cores), None)
    if fits is not None:
        return fits
    best = points[0]
    return OperatingPoint(streams=min(best.streams, cores), threads=min(best.threads, cores), batch=best.batch)


def _in_background(work: Callable[[], T]) -> Future[T]:
    """The outcome of `work`, done in a thread that does not keep the process from ending."""
    future: Future[T] = Future()
    # From now on, it cannot be cancelled by who stops waiting for it.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        # Whatever it is, it is raised again where the result is asked for.
        except BaseException as error:  # noqa: BLE001
            future.set_exception(error)

    threading.Thread(target=run, name="shipworthy-load", daemon=True).start()
    return future
