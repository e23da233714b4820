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
    from ..predict import Predictor
    from .routing import Upstream
    from .sources import Sources

T = TypeVar("T")


class Loading:
    """The packages of a plan, being read and proven in a thread while the web server is imported and comes up."""

    def __init__(self, plan: Plan, upstream: Upstream | None = None) -> None:
        """Raises ServeError where the repository is no folder."""
        # Both threads need it. Where one imports a package and the other a module of it, each waits for the other's
        # lock, and Python (3.11) ends one of them with a deadlock.
        from .. import predict  # noqa: F401
        from .sources import Sources

        self._plan = plan
        self._unwanted = threading.Event()
        self.sources: Sources = Sources(
            plan.packages, repository=plan.repository, upstream=upstream, open_package=partial(open_package, plan)
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
        predictor.variant.requires.engine,
        predictor.passed_over,
        predictor.notes,
    )


def open_package(plan: Plan, path: Path, *, version: str | None = None) -> Predictor:
    """A package as a process of this plan uses it, and what its batches cost here. `version` is that of a registry.

    A worker takes its share of the cores, so that several do not hinder each other."""
    from ..predict import calibrate, load

    predictor = load(path, allow_code=plan.allow_code, cores=share_of_cores(plan), version=version)
    try:
        calibrate(predictor)
    except BaseException:
        predictor.close()
        raise
    return predictor


def share_of_cores(plan: Plan) -> int:
    """Cores that a process of this plan may use."""
    from ..runtime.host import this_host

    cores = this_host().cores
    return cores if plan.share is None else max(1, cores // plan.share.workers)


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
