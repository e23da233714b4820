"""Closed load on several servers in turn: one is up at a time, in several rounds, each in an order of its own."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from .closed import Slice, closed
from .models import Model
from .process import Failed
from .quiet import LOUD, TOO_LOUD, Elsewhere
from .servers import Server
from .visit import Visit, visited


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    rounds: int = 3
    slice_s: float = 5.0
    """Of one number of connections in a round."""
    warm_s: float = 2.0
    step_s: float = 10.0
    """Of one offered load."""
    starts: int = 3
    feature_rounds: int = 5

    @staticmethod
    def quick() -> Effort:
        return Effort(rounds=1, slice_s=1.0, warm_s=1.0, step_s=2.0, starts=1, feature_rounds=1)


@dataclass
class Contender:
    """A server with one engine and one number of workers, and what its rounds gave."""

    server: Server
    engine: str
    workers: int
    without: str | None = None
    routed: str | None = None
    watched: bool = False
    limit: int | None = None
    """Of what may wait, where a server is told one; None for its default."""
    slices: dict[int, dict[int, Slice]] = field(default_factory=dict)
    """By the number of connections, then by the round."""
    firsts: list[float] = field(default_factory=list)
    """Seconds to the first good answer."""
    rss_mb: list[float] = field(default_factory=list)
    started: bool = False
    """It has given a good answer, if perhaps not under load."""
    error: str | None = None
    """Of the last round that failed."""

    @property
    def name(self) -> str:
        said = f" without {self.without}" if self.without else f", {self.routed}" if self.routed else ""
        return self.server.name + said + (", watched" if self.watched else "")

    def rate(self, connections: int) -> float:
        """Good answers per second, the median of the rounds; 0 where there are none."""
        found = self.slices.get(connections, {})
        return statistics.median(one.rps for one in found.values()) if found else 0.0

    def rates(self, connections: int) -> dict[int, float]:
        """Good answers per second by the round."""
        return {number: one.rps for number, one in self.slices.get(connections, {}).items()}

    @property
    def best(self) -> int:
        """The number of connections with the most answers per second."""
        return max(self.slices, key=self.rate, default=0)


Told = Callable[[str], None]
Turn = tuple[Contender, Sequence[int]]
Plan = Callable[[int, Sequence[Contender]], Sequence[Turn]]
"""Who runs in a round, with which numbers of connections, of those that start at all."""


def everywhere(*connections: int) -> Plan:
    """All of them in every round."""
    return lambda number, running: [(one, connections) for one in running]


def narrowed(first: int, connections: Sequence[int], keeps: Callable[[Contender], bool], until: int = 2) -> Plan:
    """All of them at `first` connections alone, then the better number of workers of each server at all of them; from
    round `until` on only what `keeps` says."""

    def plan(number: int, running: Sequence[Contender]) -> list[Turn]:
        if number == 0:
            return [(one, (first,)) for one in running]
        return [(one, connections) for one in chosen(running, first) if number < until or keeps(one)]

    return plan


def race(
    model: Model,
    contenders: Sequence[Contender],
    plan: Plan,
    effort: Effort,
    told: Told,
    *,
    beside: Callable[[int], None] = lambda number: None,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Fills the contenders' slices. `beside` is called with the number of the round before and after each visit to
    ours, `after` when a server has ended.

    The order of a round is shuffled by its number, so that it is the same in every run and nobody has the same
    neighbour throughout. A contender that fails keeps its error; one that does not start is not tried again."""
    running = list(contenders)
    rounds = max(1, effort.rounds)
    for number in range(rounds):
        turns = list(plan(number, running))
        random.Random(number).shuffle(turns)
        for one, connections in turns:
            told(f"{model.name}: round {number + 1} of {rounds}: {one.name}, {one.engine}, {one.workers} workers")
            if one.server.ours:
                beside(number)
            run(model, one, connections, effort, told, number)
            if one.server.ours:
                beside(number)
            after()
        running = [one for one in running if one.started]


def run(model: Model, one: Contender, connections: Sequence[int], effort: Effort, told: Told, number: int) -> None:
    """One visit: start, check, warm, a slice for each number of connections, and check again. It counts as a whole or
    not at all: a server that gives wrong answers after the load has not earned its slices."""
    try:
        with warmed(model, one, max(connections), effort) as visit:
            found = {count: quietly(visit, count, effort, told) for count in connections}
            rss_mb = visit.process.rss_mb()
            visit.check()
    except (Failed, OSError) as error:
        one.error = str(error)
        told(f"{model.name}: {one.name}, {one.workers} workers failed: {error}")
        return
    for count, each in found.items():
        one.slices.setdefault(count, {})[number] = each
    one.firsts.append(visit.first_answer_s)
    one.rss_mb.append(rss_mb)


@contextmanager
def warmed(model: Model, one: Contender, connections: int, effort: Effort) -> Iterator[Visit]:
    """A contender's server that has answered as it should and has been under load. Raises Failed."""
    with visited(
        *(one.server, model, one.engine, one.workers, model.expected(one.engine)),
        without=one.without,
        routed=one.routed,
        watched=one.watched,
        limit=one.limit,
    ) as visit:
        one.started = True
        visit.check()
        closed(visit.port, visit.requests[0], connections=connections, seconds=effort.warm_s)
        yield visit


def quietly(visit: Visit, connections: int, effort: Effort, told: Told) -> Slice:
    """A slice; where the machine was far from quiet the quieter of two."""
    loud, found = observed(visit, connections, effort.slice_s)
    if loud > TOO_LOUD:
        told(f"{visit.server.name}: {loud:.2f} cores were used elsewhere, measured once more")
        loud, found = min((loud, found), observed(visit, connections, effort.slice_s), key=lambda one: one[0])
    if loud > LOUD:
        told(f"{visit.server.name}: {loud:.2f} cores were used elsewhere")
    return found


def observed(visit: Visit, connections: int, seconds: float) -> tuple[float, Slice]:
    """How many cores were used elsewhere, and the slice."""
    with Elsewhere(visit.process) as elsewhere:
        found = closed(visit.port, visit.requests[0], connections=connections, seconds=seconds)
    return elsewhere.cores, replace(found, elsewhere_cpu=elsewhere.cores, server_cpu=elsewhere.served)


def chosen(contenders: Iterable[Contender], connections: int) -> list[Contender]:
    """Of those that differ in their workers alone, the faster one of the first round."""
    groups = grouped(contenders)
    return [max(group, key=lambda one: one.rates(connections).get(0, 0.0)) for group in groups]


def grouped(contenders: Iterable[Contender]) -> list[list[Contender]]:
    """Those that differ in their workers alone beside each other."""
    groups: dict[tuple[str, str], list[Contender]] = {}
    for one in contenders:
        groups.setdefault((one.name, one.engine), []).append(one)
    return list(groups.values())
