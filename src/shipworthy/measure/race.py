"""Interleaved rounds between live workers, and what they say of who is faster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from ..contract.spec import Objective
from ..evidence import Speed, ThroughputPoint
from ..runtime.protocol import OperatingPoint
from . import messages as say
from .process import Deadline, Worker
from .survey import throughput_point

Pacing: TypeAlias = Literal["throughput", "latency"]

SIZES: frozenset[Objective] = frozenset({"size", "compressed-size"})
"""Objectives that compare bytes, exactly, and race nothing."""
FASTER = 1.03
"""A lower bound of the ratio above this is faster; anything else is a tie or slower."""
CONFIDENCE = 0.95
_FEWEST = 4
"""Rounds, however long they take: with fewer an interval says next to nothing."""
_LONG_RUN_S = 0.25
"""A run that takes longer is a slice by itself."""
TAIL_RUNS = 100
"""Runs that a 99th percentile is judged on."""
_TAIL_S = 3.0


@dataclass(frozen=True, slots=True)
class Course:
    """How long a race is: rounds, and for how long each racer runs in one."""

    rounds: int = 10
    slice_s: float = 0.06
    longest_s: float = 10.0

    def rounds_of(self, round_s: float) -> int:
        """How many rounds of so many seconds there are: fewer where they are long, but never fewer than four."""
        return max(min(_FEWEST, self.rounds), int(min(self.rounds, self.longest_s / round_s)))

    def turn_s(self, run_s: float) -> float:
        """What a racer's turn takes whose runs take so long, with the run that warms it up."""
        return run_s if run_s > _LONG_RUN_S else max(self.slice_s, 2 * run_s) + run_s


@dataclass(frozen=True, slots=True)
class Racer:
    """A candidate whose graph is open at `point` in a live worker."""

    id: str
    worker: Worker
    point: OperatingPoint


@dataclass(frozen=True, slots=True)
class Lap:
    """One racer's results, round by round."""

    id: str
    point: OperatingPoint
    rates: tuple[float, ...]
    """Per round: instances per second of the closed loop, or at the round's median latency."""
    times: tuple[float, ...]
    """Of all single runs, in seconds."""

    def throughput(self) -> ThroughputPoint:
        return throughput_point(self.point, float(np.mean(self.rates)) / self.point.batch, self.times)


def race(
    racers: Sequence[Racer], objective: Pacing, course: Course | None = None, deadline: Deadline | None = None
) -> dict[str, Lap]:
    """Let the racers run in turn, round after round, each round begun by another one.

    What disturbs the host disturbs all racers of a round alike, so that the ratios within a round stay true. A race
    that would not be over at the deadline has fewer rounds, but never fewer than four."""
    course, deadline = course or Course(), deadline or Deadline()
    rates: dict[str, list[float]] = {racer.id: [] for racer in racers}
    times: dict[str, list[float]] = {racer.id: [] for racer in racers}
    first = {racer.id: _slice(racer, course, warm_s=0.05) for racer in racers}
    least = {name: 1 if min(lap.times) > _LONG_RUN_S else 2 for name, lap in first.items()}
    around = sum(course.turn_s(min(lap.times)) for lap in first.values())
    for number in range(course.rounds_of(around)):
        if number >= _FEWEST and deadline.left() < 2 * around:
            break
        turn = number % len(racers)
        for racer in (*racers[turn:], *racers[:turn]):
            lap = _slice(racer, course, warm_s=0.0, least=least[racer.id])
            rate = (
                lap.rate * racer.point.batch
                if objective == "throughput"
                else racer.point.batch / float(np.median(lap.times))
            )
            rates[racer.id].append(rate)
            times[racer.id].extend(lap.times)
    return {racer.id: Lap(racer.id, racer.point, tuple(rates[racer.id]), tuple(times[racer.id])) for racer in racers}


def with_tail(racer: Racer, lap: Lap) -> Lap:
    """The lap with single runs added until there are enough for its p99, or some seconds have passed."""
    lacking, streams = TAIL_RUNS - len(lap.times), racer.point.streams
    if lacking <= 0:
        return lap
    # A tenth more time than the runs should take: the last run of a stream must not be cut off by the clock.
    seconds = min(_TAIL_S, 1.1 * math.ceil(lacking / streams) * float(np.median(lap.times)))
    loop = say.TimeLoop(case=str(racer.point.batch), streams=streams, seconds=seconds, least=1)
    return replace(lap, times=(*lap.times, *racer.worker.ask(loop, say.TimeReply).times))


def _slice(racer: Racer, course: Course, *, warm_s: float, least: int = 2) -> say.TimeReply:
    loop = say.TimeLoop(
        case=str(racer.point.batch),
        streams=racer.point.streams,
        seconds=course.slice_s,
        least=least,
        warm_s=warm_s,
        # What runs for long has no cold start to speak of in each round.
        warm_runs=1 if least > 1 else 0,
    )
    return racer.worker.ask(loop, say.TimeReply)


def speed(candidate: Lap, against: Lap, objective: Pacing) -> Speed:
    """The paired ratio of rates, with one-sided 95 % bounds of Student's t on its logarithms.

    The rounds are the sample; the geometric mean treats twice as fast and half as fast alike."""
    from scipy.stats import t  # type: ignore[import-untyped]

    logs = np.log(np.asarray(candidate.rates) / np.asarray(against.rates))
    rounds, mean = len(logs), float(logs.mean())
    reach = float(t.ppf(CONFIDENCE, rounds - 1) * logs.std(ddof=1) / math.sqrt(rounds))
    return Speed(
        against=against.id,
        objective=objective,
        ratio=math.exp(mean),
        lower=math.exp(mean - reach),
        upper=math.exp(mean + reach),
        rounds=rounds,
    )


def size_ratio(candidate_mb: float, against_mb: float, against: str, objective: Objective = "size") -> Speed:
    """How many times smaller: exact, so its bounds are itself."""
    ratio = against_mb / candidate_mb
    return Speed(against=against, objective=objective, ratio=ratio, lower=ratio, upper=ratio, rounds=1)


def is_faster(comparison: Speed) -> bool:
    """Also smaller, where the comparison is of sizes."""
    return comparison.lower > FASTER
