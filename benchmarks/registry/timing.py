"""Each operation of a registry, timed by itself on whole calls."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path

from shipworthy.cli.comparison import Comparison, compare
from shipworthy.cli.diff import side_of
from shipworthy.cli.registry_details import collect_model, collect_version
from shipworthy.registry import Registry

from .filling import Packages, model_named

WARM_UP = 5
SELDOM = 10
"""What takes long is timed in every tenth round."""
_OF_FILES = ("open", "pull", "gc")
"""What operations begin with that make a connection, or carry or list files: they are no question to the database."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One operation on one database, in milliseconds."""

    operation: str
    median: float
    p95: float

    @property
    def judged(self) -> bool:
        """Whether it is one on versions and aliases, for which the aim is."""
        return not self.operation.startswith(_OF_FILES)


def measure(registry: Registry, packages: Packages, models: int, rounds: int) -> list[Timing]:
    """Every operation `rounds` times, on models and versions at random; the operations take turns."""
    chance = random.Random(11)
    times: dict[str, list[float]] = {}
    for number in range(rounds + WARM_UP):
        model = model_named(chance.randrange(models))
        # Each is prepared when the one before it is done, which may have deleted what it would have asked for.
        calls = chain(
            _changes(registry, packages, model, chance),
            _questions(registry, model, chance),
            _of_files(registry, model, chance, seldom=number % SELDOM == 0),
        )
        for operation, call in calls:
            began = time.perf_counter()
            call()
            spent = time.perf_counter() - began
            if number >= WARM_UP:
                times.setdefault(operation, []).append(1000 * spent)
    return [_timing(operation, spent) for operation, spent in times.items()]


Calls = Iterator[tuple[str, Callable[[], object]]]
"""What is timed, each prepared outside of its time."""


def _changes(registry: Registry, packages: Packages, model: str, chance: random.Random) -> Calls:
    newest, champion = _newest(registry, model), registry.aliases(model)["champion"]
    other = _present(registry, model, chance, besides=champion)
    package = packages.new(model)
    yield (
        "register a package (8 files, 2 of them new)",
        lambda: registry.register(package, git_commit="", parent=newest),
    )
    yield "move an alias", lambda: registry.move(model, "champion", other, expected=champion, why="measured")
    yield "roll back", lambda: registry.rollback(model, expected=other)
    doomed = _present(registry, model, chance, besides=champion)
    yield "delete a version", lambda: registry.delete(f"{model}:{doomed}", why="measured")


def _questions(registry: Registry, model: str, chance: random.Random) -> Calls:
    champion = registry.aliases(model)["champion"]
    number, other = (_present(registry, model, chance, besides=champion) for _ in range(2))
    moment = _some_time(registry, model, chance)
    yield "version by number", lambda: registry.version(f"{model}:{number}")
    yield "version by alias", lambda: registry.version(model)
    yield "the newest 50 versions of a model", lambda: registry.list_versions(model, limit=50)
    yield "all models", registry.models
    yield "the last 50 events of a model", lambda: registry.history(model, limit=50)
    yield "the last 50 moves of an alias", lambda: registry.history(model, alias="champion", limit=50)
    yield "the last 50 events of all", lambda: registry.history(limit=50)
    yield "number of the newest event", registry.newest_event
    yield "what is live now", lambda: registry.live(model)
    yield "what was live at some time", lambda: registry.live(model, moment)
    yield "all of a version (show)", lambda: collect_version(registry, f"{model}:{number}")
    yield "a model as a whole (show)", lambda: collect_model(registry, model)
    yield "two versions side by side (diff)", lambda: _compare(registry, f"{model}:{number}", f"{model}:{other}")


def _of_files(registry: Registry, model: str, chance: random.Random, *, seldom: bool) -> Calls:
    """Their cache is the one that the environment names."""
    number = _present(registry, model, chance, besides=None)
    yield "open a connection, and one question", lambda: _open(registry.url)
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]), ignore_errors=True)
    yield "pull a version (8 files)", lambda: registry.pull(f"{model}:{number}")
    yield "pull what is in the cache", lambda: registry.pull(f"{model}:{number}")
    if seldom:
        yield "gc, a dry run", lambda: registry.gc(older_than=timedelta(0), dry_run=True)


def _compare(registry: Registry, one: str, other: str) -> Comparison:
    return compare(side_of(registry, one), side_of(registry, other))


def _open(url: str) -> None:
    with Registry(url) as opened:
        opened.newest_event()


def _newest(registry: Registry, model: str) -> int:
    return registry.list_versions(model, deleted=True, limit=1)[0].number


def _present(registry: Registry, model: str, chance: random.Random, *, besides: int | None) -> int:
    """A version that is not deleted."""
    newest = _newest(registry, model)
    while True:
        number = chance.randint(1, newest)
        if number != besides and registry.version(f"{model}:{number}").deleted is None:
            return number


def _some_time(registry: Registry, model: str, chance: random.Random) -> datetime:
    first = registry.version(f"{model}:1").created
    latest = registry.list_versions(model, limit=1)[0].created
    return first + chance.random() * (latest - first)


def _timing(operation: str, spent: list[float]) -> Timing:
    p95 = statistics.quantiles(spent, n=20)[-1] if len(spent) > 1 else spent[0]
    return Timing(operation, statistics.median(spent), p95)
