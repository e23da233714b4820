"""A quick look at every operating point: the latency curve, and the throughput of streams × batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract import Arrays, Contract
from ..contract.spec import TargetSpec
from ..data import Chunk, Dataset
from ..evidence import LatencyPoint, ThroughputPoint
from ..runtime.protocol import Artifact, OperatingPoint
from . import messages as say
from .process import Worker

LARGEST_BATCH = 32
NEAR = 0.97
"""Points within 3 % of the best throughput are equal; the one with the fewest requests in flight is taken."""
SHARED = 0.93
"""Points with several streams come before those with one from this share of the best throughput on. The threads of a
single stream wait for one another in every layer, so that whatever else the cores do stops all of them: ResNet-50 in
int8 on two cores was served at 267/s with one stream and at 291/s with two (docs/figures.md)."""
_TOO_SLOW_S = 2.0
"""A run that takes longer ends the ladder of batch sizes."""
_SLOW_S = 0.1
"""Where runs take longer than this, batches that no longer bring more throughput end it too."""
_DIVISIBLE_MS = 20.0
"""A run of the smallest batch that takes longer is work enough for all threads: one alone is not looked at."""
_LEVEL = 2
"""Batch sizes in a row that were not better than the best before them; one is enough where runs are long."""


@dataclass(frozen=True, slots=True)
class SurveyTimes:
    """How long a survey looks at each point."""

    curve_s: float = 0.1
    point_s: float = 0.06
    warm_s: float = 0.02
    long_s: float = 0.3
    """Runs that take longer are long: they are looked at twice instead of three times, and the first batch size that
    brings nothing more is the last."""


@dataclass(frozen=True, slots=True)
class Survey:
    latency: tuple[LatencyPoint, ...]
    throughput: tuple[ThroughputPoint, ...]


def batch_sizes(contract: Contract) -> tuple[int, ...]:
    """1, 2, 4, … 32, within the bounds of the contract's batch dimension."""
    batch = next(iter(contract.signature.dynamic()))
    ladder = [size for size in (1, 2, 4, 8, 16, 32) if size <= LARGEST_BATCH and batch.holds(size)]
    return tuple(ladder) or (batch.min,)


def stream_counts(threads: int) -> tuple[int, ...]:
    """1, 2, 4, … and all threads: each stream needs a thread of its own."""
    doubling = [1 << power for power in range(threads.bit_length()) if 1 << power <= threads]
    return tuple(sorted({*doubling, threads}))


def timing_cases(contract: Contract, data: Dataset | None, probe: Arrays) -> list[tuple[str, Arrays]]:
    """One case per batch size, named by it: real rows of the median shape where there is data, else a probe's rows."""
    rows = _typical(data).inputs if data is not None and len(data) else probe
    count = len(next(iter(rows.values())))
    return [
        (str(size), {name: np.ascontiguousarray(array[np.arange(size) % count]) for name, array in rows.items()})
        for size in batch_sizes(contract)
    ]


def _typical(data: Dataset) -> Chunk:
    """The chunk that holds the median sample when the samples are ordered by their size."""
    chunks = sorted((chunk for chunk in data.chunks if len(chunk)), key=_row_bytes)
    middle = (len(data) + 1) // 2
    for chunk in chunks:
        middle -= len(chunk)
        if middle <= 0:
            return chunk
    return chunks[-1]


def _row_bytes(chunk: Chunk) -> int:
    return sum(array.nbytes for array in chunk.inputs.values()) // len(chunk)


def survey(
    worker: Worker, artifact: Artifact, contract: Contract, feeds: Path, *, times: SurveyTimes | None = None
) -> Survey:
    """Open the graph once for each number of streams, and time each batch size."""
    times = times or SurveyTimes()
    target, sizes = contract.target, batch_sizes(contract)
    latency: list[LatencyPoint] = []
    throughput: list[ThroughputPoint] = []
    for point in operating_points(target):
        if latency and point.threads < target.threads and latency[0].p50_ms > _DIVISIBLE_MS:
            continue
        open_graph(worker, artifact, point, feeds, sizes)
        curve = point.streams == 1 and point.threads == target.threads
        rates: list[float] = []
        run_s = 0.0
        for size in sizes:
            seconds = times.curve_s if curve else times.point_s
            least = 2 if run_s > times.long_s / 2 else 3
            loop = say.TimeLoop(
                case=str(size), streams=point.streams, seconds=seconds, warm_s=times.warm_s, least=least
            )
            reply = worker.ask(loop, say.TimeReply)
            throughput.append(throughput_point(point.model_copy(update={"batch": size}), reply.rate, reply.times))
            if curve:
                latency.append(latency_point(size, reply.times))
            rates.append(reply.rate * size)
            run_s = min(reply.times)
            if _climbed(rates, run_s, times.long_s):
                break
    return Survey(tuple(latency), tuple(throughput))


def operating_points(target: TargetSpec) -> tuple[OperatingPoint, ...]:
    """Streams × threads, the latency curve first: one stream on all threads, one on a single thread (what a small
    model loses when its work is divided, it gains there), and more streams that share all threads."""
    alone = OperatingPoint(streams=1, threads=target.threads)
    single = [OperatingPoint()] if target.threads > 1 else []
    if target.objective == "latency":
        return (alone, *single)
    shared = [OperatingPoint(streams=n, threads=target.threads) for n in stream_counts(target.threads) if n > 1]
    return (alone, *shared, *single)


def _climbed(rates: Sequence[float], run_s: float, long_s: float) -> bool:
    """Whether larger batches are not worth their time: seconds for each run, and nothing gained by the last two."""
    if run_s > _TOO_SLOW_S:
        return True
    level = _LEVEL if run_s <= long_s else 1
    return run_s > min(_SLOW_S, long_s) and len(rates) > level and max(rates[-level:]) < max(rates[:-level]) / NEAR


def open_graph(worker: Worker, artifact: Artifact, point: OperatingPoint, feeds: Path, sizes: Sequence[int]) -> float:
    """Open at a point with these batch sizes at hand; seconds from the file to the first answer."""
    cases = tuple(str(size) for size in sizes)
    return worker.ask(say.OpenGraph(artifact=artifact, point=point, feeds=feeds, cases=cases), say.OpenReply).load_s


def ranked(points: Sequence[ThroughputPoint], target: TargetSpec, limit_ms: float | None) -> list[ThroughputPoint]:
    """The points worth a closer look, the best first; none where the p50 of every point exceeds the latency limit.

    A survey has too few runs for a p99: one pause of the host would rule a point out that keeps the limit.

    The points near the best throughput come before the rest, the one with the fewest in flight first; those with
    several streams, where one of them comes near. For latency there is only one: a single request of the smallest
    batch."""
    if target.objective == "latency":
        least = min((p.point.batch for p in points), default=0)
        points = sorted((p for p in points if p.point.batch == least), key=lambda p: p.p50_ms)[:1]
    allowed = [point for point in points if limit_ms is None or point.p50_ms <= limit_ms]
    if not allowed:
        return []
    best = max(point.items_per_s for point in allowed)
    shared = [point for point in allowed if point.point.streams > 1]
    most = max((point.items_per_s for point in shared), default=0.0)
    preferred, enough = (shared, NEAR * most) if most >= SHARED * best else (allowed, NEAR * best)
    near = sorted((p for p in preferred if p.items_per_s >= enough), key=lambda p: p.point.streams * p.point.batch)
    rest = sorted((p for p in allowed if p not in near), key=lambda p: -p.items_per_s)
    return [*near, *rest]


def latency_point(batch: int, times: Sequence[float]) -> LatencyPoint:
    p50, p99 = np.quantile(times, (0.5, 0.99)) * 1e3
    return LatencyPoint(batch=batch, p50_ms=float(p50), p99_ms=float(p99), runs=len(times))


def throughput_point(point: OperatingPoint, rate: float, times: Sequence[float]) -> ThroughputPoint:
    p50, p99 = np.quantile(times, (0.5, 0.99)) * 1e3
    return ThroughputPoint(point=point, items_per_s=rate * point.batch, p50_ms=float(p50), p99_ms=float(p99))
