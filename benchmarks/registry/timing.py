"""Each operation of a registry, timed by itself on whole calls."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from shipworthy.registry import Registry

from .filling import MODELS, Packages, model_named

WARM_UP = 5
OPENING = "open, and one question"
"""What a process does once; it makes a connection."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One operation on one database, in milliseconds."""

    operation: str
    median: float
    p95: float


def measure(registry: Registry, packages: Packages, rounds: int) -> list[Timing]:
    """Every operation `rounds` times, on models and versions at random; the operations take turns."""
    chance = random.Random(11)
    times: dict[str, list[float]] = {}
    for number in range(rounds + WARM_UP):
        for operation, call in _operations(registry, packages, chance):
            began = time.perf_counter()
            call()
            spent = time.perf_counter() - began
            if number >= WARM_UP:
                times.setdefault(operation, []).append(1000 * spent)
    return [_timing(operation, spent) for operation, spent in times.items()]


def _operations(
    registry: Registry, packages: Packages, chance: random.Random
) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is timed, each prepared outside of its time."""
    model = model_named(chance.randrange(MODELS))
    newest = registry.list_versions(model, limit=1)[0].number
    number, champion = chance.randint(1, newest), registry.aliases(model)["champion"]
    other = champion % newest + 1
    moment = _some_time(registry, model, chance)
    package = packages.new(model)
    yield OPENING, lambda: _open(registry.url)
    yield "register a package (8 files, 2 of them new)", lambda: registry.register(package, git_commit="")
    yield "version by number", lambda: registry.version(f"{model}:{number}")
    yield "version by alias", lambda: registry.version(model)
    yield "the newest 50 versions of a model", lambda: registry.list_versions(model, limit=50)
    yield "all models", registry.models
    yield "move an alias", lambda: registry.move(model, "champion", other, expected=champion, why="measured")
    yield "roll back", lambda: registry.rollback(model)
    yield "the last 50 events of a model", lambda: registry.history(model, limit=50)
    yield "the last 50 events of all", lambda: registry.history(limit=50)
    yield "number of the newest event", registry.newest_event
    yield "what is live now", lambda: registry.live(model)
    yield "what was live at some time", lambda: registry.live(model, moment)


def _open(url: str) -> None:
    with Registry(url) as opened:
        opened.newest_event()


def _some_time(registry: Registry, model: str, chance: random.Random) -> datetime:
    now = registry.version(f"{model}:1").created
    latest = registry.list_versions(model, limit=1)[0].created
    return now + chance.random() * (latest - now)


def _timing(operation: str, spent: list[float]) -> Timing:
    return Timing(operation, statistics.median(spent), statistics.quantiles(spent, n=20)[-1])
