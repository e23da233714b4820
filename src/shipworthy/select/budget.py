"""The time that a build may take, and how much of it the final will need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..contract import Contract
from ..measure import FEWEST

if TYPE_CHECKING:
    from .bench import Bench, Effort
    from .tried import Tried

_PROCESS_S = 2.0
"""To start a worker and import its engine."""
_LEAST_SHARE = 0.05
"""Of the budget, for the final, before anything is known of the finalists."""
_RACE_SHARE = 0.02
"""Of the budget, for one race."""
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
    """Races that take no more than their share of the budget: what a slow model's would take, other candidates need."""
    longest = min(effort.course.longest_s, _RACE_SHARE * budget.seconds)
    return replace(effort, course=replace(effort.course, longest_s=longest))


def final_s(bench: Bench, accepted: Sequence[Tried]) -> float:
    """Seconds that the proof and the playoff of the best few will take, by what was measured of them."""
    from .final import MOST_FINALISTS

    holdout = bench.job.splits.holdout
    samples = 0 if holdout is None or bench.job.metric is None else len(holdout)
    course = bench.effort.course
    costs = [_costs(tried, samples, course.slice_s) for tried in accepted]
    parts = [sorted(part, reverse=True)[:MOST_FINALISTS] for part in zip(*costs, strict=True)]
    opening, proof, one_round = map(math.fsum, parts)
    # One round more, which warms up.
    return opening + proof + one_round * (1 + max(FEWEST, min(course.rounds, course.longest_s / one_round)))


def _costs(tried: Tried, samples: int, slice_s: float) -> tuple[float, float, float]:
    """Seconds to open it for the playoff, to prove it, and of its turn in a round."""
    opening = _PROCESS_S + (tried.pace.load_s or 0.0)
    point = next((point for point in tried.pace.throughput if point.point == tried.pace.best), None)
    if point is None:
        return opening, 0.0, slice_s
    return opening, opening + samples / point.items_per_s if samples else 0.0, max(slice_s, 2 * point.p50_ms / 1e3)
