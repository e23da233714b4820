"""The time that a build may take, and how much of it the final will need."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..contract import Contract
from ..measure import SIZES

if TYPE_CHECKING:
    from .bench import Bench, Effort
    from .tried import Tried

_PROCESS_S = 2.0
"""To start a worker and import its engine."""
_LEAST_SHARE = 0.05
"""Of the budget, for the final, before anything is known of the finalists."""
_RACE_SHARE = 0.02
"""Of the budget, for one race."""
_RUN_SHARE = 0.001
"""A run that takes more of the budget is a long one for a survey."""
GRACE = 0.08
"""By which the final, whose length can only be foreseen, may exceed the budget before it is cut short."""


@dataclass(frozen=True, slots=True)
class Budget:
    text: str | None = None
    """As the contract says it; None: no limit."""
    seconds: float = math.inf
    start: float = 0.0
    """Of time.monotonic()."""

    def end_of_search(self, bench: Bench, accepted: Sequence[Tried]) -> float | None:
        """When the search must end, so that the final of those who are accepted by then fits in."""
        if math.isinf(self.seconds):
            return None
        return self.start + self.seconds - max(_LEAST_SHARE * self.seconds, final_s(bench, accepted))

    @property
    def end(self) -> float | None:
        """When everything must have ended."""
        return None if math.isinf(self.seconds) else self.start + (1 + GRACE) * self.seconds


def budget_of(contract: Contract, start: float) -> Budget:
    """The contract's, counted from `start` (of time.monotonic())."""
    seconds = contract.search.budget_s
    return Budget() if seconds is None else Budget(contract.search.budget, seconds, start)


def paced(effort: Effort, budget: Budget) -> Effort:
    """Races and surveys that take no more than their share of the budget: what they would take of a slow model, other
    candidates need."""
    longest = min(effort.course.longest_s, _RACE_SHARE * budget.seconds)
    long = min(effort.times.long_s, _RUN_SHARE * budget.seconds)
    times, course = replace(effort.times, long_s=long), replace(effort.course, longest_s=longest)
    return replace(effort, times=times, course=course)


def final_s(bench: Bench, accepted: Sequence[Tried]) -> float:
    """Seconds that the proof and the playoff of the best few will take, by what was measured of them."""
    from .final import MOST_FINALISTS

    def of_finalists(costs: Iterable[float]) -> float:
        return sum(sorted(costs, reverse=True)[:MOST_FINALISTS])

    holdout, course = bench.job.splits.holdout, bench.effort.course
    samples = 0 if holdout is None or bench.job.metric is None else len(holdout)
    proofs = of_finalists(_opening_s(tried) + samples / _rate_alone(tried) for tried in accepted) if samples else 0.0
    if not accepted or bench.contract.target.objective in SIZES:
        return proofs
    openings = of_finalists(map(_opening_s, accepted))
    # One round more than are counted, which warms up.
    one_round = of_finalists(course.turn_s(_run_s(tried)) for tried in accepted)
    return proofs + openings + one_round * (1 + course.rounds_of(one_round))


def _opening_s(tried: Tried) -> float:
    return _PROCESS_S + (tried.pace.load_s or 0.0)


def _rate_alone(tried: Tried) -> float:
    """Samples per second in one stream, in which the proof runs."""
    rates = (point.items_per_s for point in tried.pace.throughput if point.point.streams == 1)
    return max(rates, default=math.inf)


def _run_s(tried: Tried) -> float:
    """Of one run at the best operating point."""
    return next((p.p50_ms / 1e3 for p in tried.pace.throughput if p.point == tried.pace.best), 0.0)
