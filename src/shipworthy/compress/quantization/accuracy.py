"""Which operations have to stay in float for the metric to stay within its limit: few, found with few evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ...errors import CompressError

GIVE_BACK = 8
"""Evaluations that may be spent on giving operations back to int8."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One evaluation of the metric."""

    kept: frozenset[str]
    drop: float


@dataclass(frozen=True, slots=True)
class Kept:
    """The operations that stay in float, the drop with them, and what was tried for it, in order."""

    names: frozenset[str]
    drop: float
    trials: tuple[Trial, ...]


@dataclass(slots=True)
class _Judge:
    """Evaluates each set of operations once."""

    drop_of: Callable[[Collection[str]], float]
    max_drop: float
    trials: list[Trial] = field(default_factory=list)

    def drop(self, kept: Collection[str]) -> float:
        names = frozenset(kept)
        seen = next((trial.drop for trial in self.trials if trial.kept == names), None)
        if seen is not None:
            return seen
        self.trials.append(Trial(names, self.drop_of(names)))
        return self.trials[-1].drop

    def within(self, kept: Collection[str]) -> bool:
        # A drop that is not a number is within no limit.
        return self.drop(kept) <= self.max_drop


def ranked(operations: Sequence[str], sqnr: Mapping[str, float]) -> tuple[str, ...]:
    """The most damaged operation first; what was not measured comes last, in the graph's order."""
    return tuple(sorted(operations, key=lambda name: sqnr.get(name, math.inf)))


def keep_fewest(
    worst_first: Sequence[str],
    drop_of: Callable[[Collection[str]], float],
    max_drop: float,
    *,
    give_back: int = GIVE_BACK,
) -> Kept:
    """The smallest number of the worst operations that have to stay in float for a drop of at most `max_drop`, found
    by bisection; then some of them are given back to int8 where the drop allows it, in groups, the least damaged
    first. `drop_of` evaluates at most 2 + ceil(log2 n) + give_back sets, and the result is one that it has judged.

    Where the drop falls with every operation more, the first number is the minimum of its kind.
    Raises CompressError where even with all of them in float the drop is larger."""
    judge = _Judge(drop_of, max_drop)
    if judge.within(()):
        return Kept(frozenset(), judge.drop(()), tuple(judge.trials))
    if not judge.within(worst_first):
        raise CompressError(
            "accuracy-aware quantization",
            f"with every operation in float the metric still drops by {judge.drop(worst_first):.4g}, "
            f"more than {max_drop:.4g}",
            "allow a larger drop, or look for what else differs: the export, or the data",
        )
    low, high = 0, len(worst_first)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if judge.within(worst_first[:middle]) else (middle, high)
    kept = _given_back(worst_first[:high], judge, len(judge.trials) + give_back)
    return Kept(kept, judge.drop(kept), tuple(judge.trials))


def _given_back(kept: Sequence[str], judge: _Judge, most: int) -> frozenset[str]:
    """Without the last one the set is too small, as the bisection has seen; of the others, halves that fail are
    halved again."""
    names = frozenset(kept)
    groups = [tuple(reversed(kept[:-1]))]
    while groups and len(judge.trials) < most:
        group = groups.pop(0)
        if not group:
            continue
        if judge.within(names - set(group)):
            names -= set(group)
        elif len(group) > 1:
            middle = (len(group) + 1) // 2
            groups += [group[:middle], group[middle:]]
    return names
