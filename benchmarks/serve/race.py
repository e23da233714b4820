"""Closed load on several servers in turn: one is up at a time, in several rounds, each round begun by another one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .closed import Slice, closed
from .models import Model
from .process import Failed
from .results import Result
from .servers import Server
from .visit import visited


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    rounds: int = 3
    slice_s: float = 5.0
    """Of one number of connections in a round."""
    warm_s: float = 2.0
    step_s: float = 10.0
    """Of one offered load."""
    starts: int = 5
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
    limit: int | None = None
    """Of what may wait, where a server is told one; None for its default."""
    slices: dict[int, list[Slice]] = field(default_factory=dict)
    """By the number of connections."""
    firsts: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def name(self) -> str:
        return self.server.name + (f" without {self.without}" if self.without else "")

    def rate(self, connections: int) -> float:
        return statistics.median(one.rps for one in self.slices[connections]) if connections in self.slices else 0.0

    @property
    def best(self) -> int:
        """The number of connections with the most answers per second."""
        return max(self.slices, key=self.rate, default=0)


Told = Callable[[str], None]


def race(
    model: Model,
    contenders: Sequence[Contender],
    connections: Sequence[int],
    effort: Effort,
    told: Told,
    *,
    beside: Callable[[], None] = lambda: None,
    narrow: bool = False,
    deciding: int | None = None,
) -> list[Contender]:
    """The better of each server's numbers of workers, by its answers per second at `deciding` connections (its best
    where that is None).

    The first round measures all of them, the others the better one alone; with `narrow` only at its best number of
    connections. `beside` is called once in each round. A contender that fails keeps its error."""
    rounds = max(1, effort.rounds)
    running = list(contenders)
    for number in range(rounds):
        turn = number % len(running) if running else 0
        beside()
        for one in (*running[turn:], *running[:turn]):
            asked = (one.best,) if narrow and number and one.slices else connections
            told(f"{model.name}: round {number + 1} of {rounds}: {one.name}, {one.engine}, {one.workers} workers")
            run(model, one, asked, effort)
            if one.error is not None:
                told(f"{model.name}: {one.name}, {one.workers} workers failed: {one.error}")
        if number == 0:
            running = better(running, deciding)
    return running


def run(model: Model, one: Contender, connections: Sequence[int], effort: Effort) -> None:
    """One visit: start, check, warm, and a slice for each number of connections."""
    try:
        expected = model.expected(one.engine)
        with visited(one.server, model, one.engine, one.workers, expected, without=one.without) as visit:
            visit.check()
            closed(visit.port, visit.requests[0], connections=max(connections), seconds=effort.warm_s)
            one.firsts.append(visit.first_answer_s)
            for count in connections:
                found = closed(visit.port, visit.requests[0], connections=count, seconds=effort.slice_s)
                one.slices.setdefault(count, []).append(found)
            one.rss_mb.append(visit.process.rss_mb())
    except (Failed, OSError) as error:
        one.error = str(error)


def better(contenders: Sequence[Contender], deciding: int | None) -> list[Contender]:
    """Of those that differ in their workers alone, the faster one; the other's rate is kept beside it."""
    groups: dict[tuple[str, str], list[Contender]] = {}
    for one in contenders:
        groups.setdefault((one.name, one.engine), []).append(one)
    return [max(group, key=lambda one: one.rate(deciding or one.best)) for group in groups.values()]


def results(
    workload: str, kept: Sequence[Contender], every: Sequence[Contender], *, only_best: bool = False
) -> list[Result]:
    """A row for each number of connections, or for the best alone; a contender that never answered is a row with its
    error."""
    rows = []
    for one in kept:
        engine = one.engine if one.server.has_model else None
        plain = Result(workload, one.name, one.server.ours, workers=one.workers, engine=engine)
        if not one.slices:
            rows.append(_with(plain, error=one.error or "was not measured"))
            continue
        others = [other for other in every if (other.name, other.engine) == (one.name, one.engine) and other is not one]
        for count in (one.best,) if only_best else sorted(one.slices):
            found = one.slices[count]
            rows.append(
                _with(
                    plain,
                    connections=count,
                    rps=one.rate(count),
                    rps_low=min(each.rps for each in found),
                    rps_high=max(each.rps for each in found),
                    p50_ms=statistics.median(each.p50_ms for each in found),
                    p99_ms=statistics.median(each.p99_ms for each in found),
                    errors=sum(each.errors for each in found),
                    rounds=len(found),
                    rss_mb=statistics.median(one.rss_mb) if one.rss_mb else None,
                    other_workers_rps=max(
                        (other.rate(count) for other in others if count in other.slices), default=None
                    ),
                    detail=_lost(others),
                    error=one.error,
                )
            )
    return rows


def _lost(others: Sequence[Contender]) -> str:
    """What became of the other number of workers, where it failed."""
    return "; ".join(f"with {other.workers} workers: {other.error}" for other in others if other.error is not None)


def _with(row: Result, **changes: object) -> Result:
    from dataclasses import replace

    return replace(row, **changes)  # type: ignore[arg-type]
