"""What it costs to watch what a server answers: the same server, not watched and watched.

A machine that others share may give twice as much in one minute as in the next, so that servers of different minutes
say nothing of some per cent. Here both are up at once, and slices of two seconds go to one and to the other; the one
that has no load does nothing. Beside answers per second stands the processor time that an answer took, the monitor's
with it: what the host gives to others is not in it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from .closed import Slice
from .features import CONNECTIONS
from .models import IRIS, ONNX
from .process import Failed
from .race import Contender, Effort, Told, observed, warmed
from .results import Result
from .rows import by_connections
from .servers import Server

WORKLOAD = "iris-monitoring"
STARTS = 4
"""Of both servers in a round: one start in ten or so is slower than the others by a third, whatever is watched."""
PAIRS = 5
"""Of slices, in a start."""
SLICE_S = 2.0
REST_S = 0.3
"""Before each slice, in which a monitor ends what it was handed in the last."""


def monitoring(ours: Server, effort: Effort, told: Told, after: Callable[[Sequence[Result]], None]) -> list[Result]:
    """A row for the server that is not watched, then one that is; `ratio` is against the first, the median of pairs.

    `after` gets the rows so far whenever both servers have ended."""
    contenders = [Contender(ours, ONNX, 1), Contender(ours, ONNX, 1, watched=True)]

    def rows() -> list[Result]:
        *plain, watched = by_connections(WORKLOAD, contenders, (CONNECTIONS,), base=ours.name)
        return [*plain, replace(watched, detail="; ".join(filter(None, (watched.detail, _detail(contenders)))))]

    starts = STARTS * effort.feature_rounds
    for number in range(starts):
        told(f"{IRIS.name}: start {number + 1} of {starts} of both")
        try:
            _start(contenders, effort, number)
        except (Failed, OSError) as error:
            told(f"{IRIS.name}: {error}")
            for one in contenders:
                one.error = str(error)
        after(rows())
    return rows()


def _start(contenders: Sequence[Contender], effort: Effort, number: int) -> None:
    """Both servers once, and all pairs of slices; these count as a whole or not at all. Slices beside other work of the
    machine count too: their pairs are beside the same. Raises Failed, OSError."""
    found: list[dict[int, Slice]] = [{} for _ in contenders]
    with ExitStack() as stack:
        visits = [stack.enter_context(warmed(IRIS, one, CONNECTIONS, effort)) for one in contenders]
        for pair in range(PAIRS):
            order = [0, 1] if (number + pair) % 2 else [1, 0]
            for which in order:
                time.sleep(REST_S)
                seen = observed(visits[which], CONNECTIONS, SLICE_S)[1]
                if not seen.rps:
                    raise Failed(f"{contenders[which].name}: no answer in a slice")
                found[which][number * PAIRS + pair] = seen
        rss_mb = [visit.process.rss_mb() for visit in visits]
        for visit in visits:
            visit.check()
    for one, visit, slices, memory in zip(contenders, visits, found, rss_mb, strict=True):
        one.slices.setdefault(CONNECTIONS, {}).update(slices)
        one.firsts.append(visit.first_answer_s)
        one.rss_mb.append(memory)


def _detail(contenders: Sequence[Contender]) -> str:
    plain, watched = (one.slices.get(CONNECTIONS, {}) for one in contenders)
    if not plain:
        return ""
    rates = [watched[number].rps / plain[number].rps for number in sorted(plain)]
    costs = [_cpu_us(watched[number]) / _cpu_us(plain[number]) for number in sorted(plain)]
    took = (statistics.median(map(_cpu_us, slices.values())) for slices in (plain, watched))
    return (
        f"answers per second {_spread(rates)}; processor time of an answer {' and '.join(f'{us:.1f}' for us in took)} "
        f"µs, {_spread(costs)}"
    )


def _cpu_us(one: Slice) -> float:
    assert one.server_cpu is not None
    return one.server_cpu / one.rps * 1e6


def _spread(ratios: Sequence[float]) -> str:
    """How far a ratio is from pair to pair, and how sure its median is (resampled by starts, then by pairs)."""
    pairs = np.array(ratios).reshape(-1, PAIRS)
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(pairs), (2000, len(pairs)))
    drawn = np.take_along_axis(pairs[starts], rng.integers(0, PAIRS, (*starts.shape, PAIRS)), axis=2)
    low, high = np.quantile(np.median(drawn, axis=(1, 2)), [0.025, 0.975])
    first, third = np.quantile(pairs, [0.25, 0.75])
    return f"× {np.median(pairs):.3f} ({low:.3f}–{high:.3f}; half of {pairs.size} pairs {first:.2f}–{third:.2f})"
