"""What is simulated: an engine, and those who call it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from ..parts import Bounds


@dataclass(frozen=True)
class Engine:
    """How long runs take."""

    seconds: Mapping[int, float]
    """Of a batch by its rows."""
    padded: bool = True
    """It runs these sizes only, so that a batch between two of them takes the time of the larger; else as much as in
    proportion lies between."""
    streams: int = 1
    cores: float = 1.0
    """That one stream keeps busy."""
    noise: float = 0.03
    """Standard deviation of the logarithm of a run's time."""
    hiccups: tuple[float, float] = (0.0, 1.0)
    """The share of runs that take longer, and by what factor."""
    contention: float = 0.0
    """By this share a run is slower for each other stream of its model that is busy when it starts."""
    drift: tuple[tuple[float, float], ...] = ()
    """From these times on, runs take so many times as long."""
    scales: Mapping[Hashable, float] = field(default_factory=dict)
    """The same for the rows of these keys."""

    def duration(self, rows: int, key: Hashable, busy: int, crowd: float, now: float, random: Random) -> float:
        """Seconds that a run of `rows` takes beside `busy` other streams of its model; `crowd` is by how many times
        the host's cores are taken."""
        seconds = self.exact(rows) * (1.0 + self.contention * busy) * max(1.0, crowd) * self.scales.get(key, 1.0)
        slower = 1.0
        for since, factor in self.drift:
            if now >= since:
                slower = factor
        seconds *= slower
        if self.noise:
            seconds *= random.lognormvariate(0.0, self.noise)
        share, factor = self.hiccups
        return seconds * factor if share and random.random() < share else seconds

    def exact(self, rows: int) -> float:
        """Seconds of a run of `rows` without any disturbance."""
        sizes = sorted(self.seconds)
        place = bisect_left(sizes, rows)
        if place == len(sizes):
            return self.seconds[sizes[-1]] * rows / sizes[-1]
        if sizes[place] == rows or not place or self.padded:
            return self.seconds[sizes[place]]
        low, high = sizes[place - 1], sizes[place]
        return self.seconds[low] + (self.seconds[high] - self.seconds[low]) * (rows - low) / (high - low)


@dataclass(frozen=True)
class Load:
    """Callers of one kind."""

    rate: float = 0.0
    """Requests a second, at random (Poisson)."""
    clients: int = 0
    """In place of a rate: so many callers, each of which asks again when it was answered."""
    target: float = 0.05
    """Seconds in which an answer counts."""
    timeout: float | None = None
    """Seconds after which the caller said that an answer is of no use."""
    rows: int = 1
    key: Hashable = None
    scale: float = 1.0
    """What the server is told of the cost of a row of this key."""
    body: float = 0.0
    """Seconds, on average, from the headers to the end of the body."""
    burst: int = 1
    """So many come together."""
    start: float = 0.0
    stop: float = float("inf")
    leave: float = 0.0
    """The share of callers that give up, at a random time within the target."""
    size: int = 1000
    """Bytes of a body."""

    def arrivals(self, until: float, random: Random) -> Iterator[float]:
        """When requests come, of callers that do not wait for answers."""
        now, until = self.start, min(until, self.stop)
        while self.rate:
            now += random.expovariate(self.rate / self.burst)
            if now >= until:
                return
            for _ in range(self.burst):
                yield now


@dataclass(frozen=True)
class Model:
    """A model that is served."""

    name: str
    engine: Engine
    loads: tuple[Load, ...]
    believed: Mapping[int, float] | None = None
    """The curve that the server is given, where it is not that of the engine."""
    bounds: Bounds | None = None
