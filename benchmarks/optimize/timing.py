"""When a row is fastest, and by how much: a survey of operating points, then interleaved rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .rows import Row
from .serving import Failed, Server
from .subject import Subject


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    look_s: float = 0.15
    """At each point of a survey."""
    slice_s: float = 0.1
    """Of a row in a round."""
    rounds: int = 8
    phase_s: float = 20.0
    """Rounds end after about this time, but not before the fifth."""

    @staticmethod
    def quick() -> Effort:
        return Effort(look_s=0.1, slice_s=0.08, rounds=5, phase_s=8.0)


@dataclass(frozen=True)
class Point:
    batch: int
    streams: int

    def __str__(self) -> str:
        return f"batch {self.batch}, {self.streams} stream{'s' if self.streams > 1 else ''}"


@dataclass(frozen=True)
class Racer:
    """A row's server, open at a point."""

    key: str
    server: Server
    point: Point


@dataclass(frozen=True)
class Ratio:
    """Geometric mean over the rounds, with a two-sided 95 % interval of Student's t on the logarithms."""

    mean: float
    low: float
    high: float


@dataclass
class Laps:
    """Of one racer, round by round."""

    rates: list[float] = field(default_factory=list)
    """Samples per second."""
    times: list[float] = field(default_factory=list)
    """Seconds of single runs."""

    @property
    def rate(self) -> float:
        return float(np.mean(self.rates))

    @property
    def median_ms(self) -> float:
        return float(np.median(self.times)) * 1e3


_WORSE = 0.95
"""A batch size below this share of the best is a step down; after two of them larger ones are not tried."""
_TOO_SLOW_S = 4.0
_FEWEST_ROUNDS = 5


def survey(server: Server, row: Row, subject: Subject, effort: Effort) -> dict[Point, float]:
    """Samples per second at each point: all batch sizes with one stream, then those near the best one with more."""
    found: dict[Point, float] = {}
    steps_down = 0
    batches = [batch for batch in subject.batches if row.batches is None or batch in row.batches] or subject.batches
    for batch in batches:
        rate, seconds = _look(server, Point(batch, 1), effort)
        found[Point(batch, 1)] = rate
        steps_down = steps_down + 1 if rate < _WORSE * max(found.values()) else 0
        if steps_down == 2 or seconds > _TOO_SLOW_S:
            break
    best = max(found, key=lambda point: found[point]).batch
    near = sorted({subject.batches[0], best, max(subject.batches[0], best // 2)})
    for streams in row.streams:
        for batch in near if streams > 1 else ():
            found[Point(batch, streams)], _ = _look(server, Point(batch, streams), effort)
    return found


def _look(server: Server, point: Point, effort: Effort) -> tuple[float, float]:
    """Samples per second, and the seconds of the quickest run."""
    server.ask("open", limit=600.0, batch=point.batch, streams=point.streams)
    reply = _slice(server, point, effort.look_s, warm=1)
    return reply.rate * point.batch, min(reply.times)


def best_point(found: dict[Point, float]) -> Point:
    """The fastest; of points within 3 % of it, the one with the fewest samples in flight."""
    enough = 0.97 * max(found.values())
    return min((p for p, rate in found.items() if rate >= enough), key=lambda p: (p.streams * p.batch, -found[p]))


def interleave(racers: Sequence[Racer], effort: Effort) -> tuple[dict[str, Laps], dict[str, str]]:
    """Let the racers run in turn, each round begun by another one: what disturbs the host disturbs all alike.

    The laps of those that came to the end, and for the others what they failed with."""
    laps = {racer.key: Laps() for racer in racers}
    failed: dict[str, str] = {}

    def run(racer: Racer, warm: int) -> _Slice | None:
        if racer.key in failed:
            return None
        try:
            return _slice(racer.server, racer.point, effort.slice_s, warm=warm)
        except Failed as error:
            failed[racer.key] = str(error)
            return None

    first = [(racer, run(racer, 1)) for racer in racers]
    slowest = sum(sum(reply.times) / racer.point.streams for racer, reply in first if reply is not None)
    rounds = max(_FEWEST_ROUNDS, min(effort.rounds, int(effort.phase_s / max(slowest, 1e-9))))
    for number in range(rounds):
        turn = number % len(racers)
        for racer in (*racers[turn:], *racers[:turn]):
            if (reply := run(racer, 0)) is not None:
                laps[racer.key].rates.append(reply.rate * racer.point.batch)
                laps[racer.key].times.extend(reply.times)
    return {key: lap for key, lap in laps.items() if key not in failed}, failed


@dataclass(frozen=True)
class _Slice:
    rate: float
    """Runs per second."""
    times: list[float]


def _slice(server: Server, point: Point, seconds: float, *, warm: int) -> _Slice:
    reply = server.ask("time", batch=point.batch, streams=point.streams, seconds=seconds, least=1, warm=warm)
    return _Slice(float(reply["rate"]), list(reply["times"]))


def ratio(laps: Laps, against: Laps) -> Ratio:
    from scipy.stats import t

    logs = np.log(np.asarray(laps.rates) / np.asarray(against.rates))
    mean, count = float(logs.mean()), len(logs)
    reach = float(t.ppf(0.975, count - 1) * logs.std(ddof=1) / math.sqrt(count)) if count > 1 else 0.0
    return Ratio(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach))
