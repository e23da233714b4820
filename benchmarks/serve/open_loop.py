"""Goodput as load rises: the same offered loads for ours and for the best peers, up to twice what ours can answer."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from .closed import closed
from .models import INT8, Model
from .open_step import TARGET_S, WORKLOAD, averaged, step, warmed
from .process import Failed
from .race import Contender, Effort, Told
from .results import Result
from .visit import visited

LOADS = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
QUICK_LOADS = (0.5, 2.0)
"""Shares of the capacity."""
ROUNDS = 2
LIMITS = (6, 10, 16)
"""Of connections, which are tried where a server refuses nothing by itself."""
TRIED_AT = 1.5
"""Share of the capacity."""
_CONNECTIONS = (4, 8, 16)
"""Of the closed load that finds the capacity."""
_TRIAL = 0.3
"""Share of a step's time."""
_LEAST_TRIAL_S = 2.0


@dataclass
class Climber:
    """A contender, and what its steps gave."""

    one: Contender
    steps: dict[float, list[Result]] = field(default_factory=dict)
    """By the load, a share of the capacity."""
    errors: dict[float, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.one.name + ("" if self.one.limit is None else f", at most {self.one.limit} connections")

    @property
    def hopeless(self) -> bool:
        """It has failed, and never answered."""
        return bool(self.errors) and not self.steps

    def row(self, plain: Result, load: float) -> Result:
        """Of all steps of a load."""
        error = self.errors.get(load) or (next(iter(self.errors.values())) if self.hopeless else None)
        steps = self.steps.get(load)
        plain = replace(plain, server=self.one.server.name, ours=self.one.server.ours, error=error)
        plain = replace(plain, workers=self.one.workers, engine=self.one.engine)
        return plain if not steps else averaged(plain, steps)


def capacity(model: Model, ours: Contender, effort: Effort) -> float:
    """What ours answers per second under closed load, at its best number of connections. Raises Failed."""
    with visited(ours.server, model, ours.engine, ours.workers, model.expected(ours.engine)) as visit:
        visit.check()
        warmed(visit, effort)
        return max(
            closed(visit.port, visit.requests[0], connections=count, seconds=effort.slice_s).rps
            for count in _CONNECTIONS
        )


def climb(
    model: Model,
    contenders: Sequence[Contender],
    effort: Effort,
    told: Told,
    loads: Sequence[float],
    *,
    capacity_rps: float,
    keep: Callable[[Sequence[Result]], object] = lambda rows: None,
) -> list[Result]:
    """A row for each server and load, of two rounds whose arrivals differ; each step has a server of its own that was
    warmed before. `keep` is called with the rows as they are after each load.

    Loads are shares of `capacity_rps`, which was measured before. It is measured again after each round, and the
    rows have the median.

    A peer that has nothing against late answers (`Server.shed_by`) runs every load twice, as it is and with the limit
    of connections that suits it best under overload; its row is that of the larger goodput, and its detail says which
    that was."""
    climbers = [[Climber(each) for each in with_limits(model, one, effort, told, capacity_rps)] for one in contenders]
    capacities = [capacity_rps]

    def rows() -> list[Result]:
        plain = Result(WORKLOAD, "", False, target_ms=TARGET_S * 1e3, capacity_rps=statistics.median(capacities))
        return [
            better([each.row(replace(plain, offered_rps=load * capacity_rps), load) for each in group], group, load)
            for group in climbers
            for load in loads
            if any(load in each.steps or load in each.errors or each.hopeless for each in group)
        ]

    for number in range(min(ROUNDS, max(1, effort.rounds))):
        for place, load in enumerate(loads):
            seed = number * len(loads) + place
            turns = [each for group in climbers for each in group if not each.hopeless]
            random.Random(seed).shuffle(turns)
            for each in turns:
                rate = load * capacity_rps
                told(f"{WORKLOAD}: round {number + 1}: {each.name}, {load:g} × capacity, {rate:.0f} requests/s")
                try:
                    found = step(model, each.one, rate, effort, effort.step_s, seed)
                except (Failed, OSError) as error:
                    told(f"{WORKLOAD}: {each.name} failed: {error}")
                    each.errors[load] = str(error)
                    continue
                each.steps.setdefault(load, []).append(found)
            keep(rows())
        capacities += _again(model, contenders, effort, told)
    return rows()


def _again(model: Model, contenders: Sequence[Contender], effort: Effort, told: Told) -> list[float]:
    ours = next((one for one in contenders if one.server.ours), None)
    if ours is None:
        return []
    told(f"{WORKLOAD}: capacity, once more")
    try:
        return [capacity(model, ours, effort)]
    except (Failed, OSError) as error:
        told(f"{WORKLOAD}: capacity: {error}")
        return []


def with_limits(model: Model, one: Contender, effort: Effort, told: Told, capacity_rps: float) -> list[Contender]:
    """The contender as it is; and with the limit of connections that gives it the most goodput under overload, where
    it sheds no other way."""
    if one.server.shed_by is None:
        return [one]
    found: dict[int, float] = {}
    seconds = max(_LEAST_TRIAL_S, _TRIAL * effort.step_s)
    for limit in LIMITS:
        limited = Contender(one.server, one.engine, one.workers, limit=limit)
        try:
            row = step(model, limited, TRIED_AT * capacity_rps, effort, seconds, seed=0)
        except (Failed, OSError) as error:
            told(f"{WORKLOAD}: {one.name}, at most {limit} connections failed: {error}")
            continue
        found[limit] = row.goodput_rps or 0.0
        told(f"{WORKLOAD}: {one.name}, at most {limit} connections: {found[limit]:.0f} requests/s in time")
    if not found:
        return [one]
    best = max(found, key=lambda limit: found[limit])
    return [one, Contender(one.server, one.engine, one.workers, limit=best)]


def better(rows: Sequence[Result], climbers: Sequence[Climber], load: float) -> Result:
    """Of a server with and without a limit, the row of the larger goodput, which says what the other one had."""
    if len(rows) == 1:
        return rows[0]
    ordered = sorted(zip(rows, climbers, strict=True), key=lambda pair: -(pair[0].goodput_rps or 0.0))
    (best, used), (other, _) = ordered[0], ordered[-1]
    limit = next(each.one.limit for each in climbers if each.one.limit is not None)
    by = f"{used.one.server.shed_by} at {limit}"
    lost = f"{other.goodput_rps:.0f}/s in time" if other.goodput_rps is not None else f"failed: {other.error}"
    said = f"no limit; with {by} {lost}" if used.one.limit is None else f"{by}; without it {lost}"
    return replace(best, detail=f"{load:g} × capacity: {said}")


def best_peers(rows: Sequence[Result], workload: str, count: int = 2) -> list[tuple[str, int]]:
    """Names and workers of the peers with the most answers per second with our engine."""
    known = [row for row in rows if row.workload == workload and row.engine == INT8 and not row.ours and row.rps]
    best = sorted(known, key=lambda row: -(row.rps or 0.0))[:count]
    return [(row.server, row.workers or 1) for row in best]
