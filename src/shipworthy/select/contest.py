"""How fast a candidate is: a look at every operating point, then a race against what is simpler at the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import EngineError, MeasureError
from ..evidence import Speed, ThroughputPoint
from ..measure import (
    SIZES,
    Lap,
    MemoryReply,
    Pacing,
    Racer,
    ReadMemory,
    Worker,
    race,
    ranked,
    size_ratio,
    speed,
    survey,
    with_tail,
)
from ..runtime.protocol import Artifact, OperatingPoint
from .bench import Bench
from .results import Pace

_CLOSER_LOOKS = 2
"""Operating points that are raced, until one keeps the latency limit there too."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """The candidate whose pace is measured."""

    id: str
    artifact: Artifact
    size_mb: float
    zipped_mb: float | None

    @property
    def megabytes(self) -> float:
        """Zipped where that is the objective."""
        return self.size_mb if self.zipped_mb is None else self.zipped_mb


@dataclass(frozen=True, slots=True)
class Rival(Entrant):
    """Something simpler that was measured already, at the point that was best for it."""

    point: OperatingPoint

    @property
    def key(self) -> tuple[object, ...]:
        """What a comparison with it depends on: its folder bears the key of all that it came from."""
        return self.id, self.artifact.directory.name, self.point.model_dump()


@dataclass(frozen=True, slots=True)
class _Raced:
    laps: dict[str, Lap]
    load_s: float | None
    rss_mb: float
    device_mb: float | None


def pace_of(bench: Bench, own: Entrant, worker: Worker, rivals: Sequence[Rival]) -> Pace:
    """`worker` looks at the points; the race, with load time and memory, has a process that does nothing else."""
    contract = bench.contract
    seen = survey(worker, own.artifact, contract, bench.timing(), times=bench.effort.times)
    pace = Pace(latency=seen.latency, throughput=seen.throughput)
    for point in _worth_racing(bench, own, seen.throughput):
        raced = _race(bench, own, point.point, rivals)
        lap = raced.laps[own.id]
        closer = lap.throughput()
        points = tuple(closer if old.point == closer.point else old for old in pace.throughput)
        hurried = pace.hurried or bench.hurried(raced.laps)
        pace = pace.model_copy(update={"throughput": points, "hurried": hurried})
        if _keeps_limit(bench, own, closer):
            found = {"best": point.point, "load_s": raced.load_s, "rss_mb": raced.rss_mb, "device_mb": raced.device_mb}
            cleared = {"closest": None, "closest_runs": 0}
            return pace.model_copy(update={**found, **cleared, "speed": _speeds(bench, own, raced.laps, rivals)})
        if pace.closest is None or closer.p99_ms < pace.closest.p99_ms:
            pace = pace.model_copy(update={"closest": closer, "closest_runs": len(lap.times)})
    return pace


def _keeps_limit(bench: Bench, own: Entrant, closer: ThroughputPoint) -> bool:
    """Eager has no limit to keep: it is what the others are compared with."""
    limit = bench.contract.limits.p99_ms
    return limit is None or closer.p99_ms <= limit or own.id == bench.baseline.id


def _worth_racing(bench: Bench, own: Entrant, points: Sequence[ThroughputPoint]) -> list[ThroughputPoint]:
    """The best few, and last the one with the lowest p99 of all: only if that one is too slow are all of them."""
    contract = bench.contract
    found = ranked(points, contract.target, contract.limits.p99_ms)
    if not found:
        return ranked(points, contract.target, None)[:1] if own.id == bench.baseline.id else []
    surest = min(found, key=lambda point: point.p99_ms)
    return list(dict.fromkeys((*found[:_CLOSER_LOOKS], surest)))


def _race(bench: Bench, own: Entrant, point: OperatingPoint, rivals: Sequence[Rival]) -> _Raced:
    racer, load_s = bench.racer(own.id, own.artifact, point)
    laps = _laps(bench, racer, rivals)
    if bench.contract.limits.p99_ms is not None:
        laps[own.id] = with_tail(racer, laps[own.id])
    memory = racer.worker.ask(ReadMemory(), MemoryReply)
    return _Raced(laps, load_s, memory.peak_mb, None if memory.device is None else memory.device.peak_mb)


def _laps(bench: Bench, own: Racer, rivals: Sequence[Rival]) -> dict[str, Lap]:
    """A rival that dies here had passed its own trial: it is opened anew once, and then left out. Eager must run."""
    left, died = list(rivals), set[str]()
    while True:
        try:
            return _run(bench, own, left)
        except (MeasureError, EngineError) as error:
            name = error.culprit
            over = isinstance(error, MeasureError) and error.gate == "budget"
            if over or name not in {rival.id for rival in left} or (name in died and name == bench.baseline.id):
                raise
            bench.retire(name)
            left = [rival for rival in left if rival.id != name or name not in died]
            died.add(name)


def _run(bench: Bench, own: Racer, rivals: Sequence[Rival]) -> dict[str, Lap]:
    racers = [bench.racer(rival.id, rival.artifact, rival.point)[0] for rival in rivals]
    return race([*racers, own], _rate(bench), bench.effort.course, bench.deadline)


def _speeds(bench: Bench, own: Entrant, laps: dict[str, Lap], rivals: Sequence[Rival]) -> tuple[Speed, ...]:
    speeds = [speed(laps[own.id], laps[rival.id], _rate(bench)) for rival in rivals if rival.id in laps]
    objective = bench.contract.target.objective
    if objective in SIZES:
        speeds += [size_ratio(own.megabytes, rival.megabytes, rival.id, objective) for rival in rivals]
    return tuple(speeds)


def _rate(bench: Bench) -> Pacing:
    """What a race compares: where size is the objective, throughput is still of interest."""
    return "latency" if bench.contract.target.objective == "latency" else "throughput"
