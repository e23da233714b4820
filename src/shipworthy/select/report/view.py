"""What a reader asks of a candidate, picked from its evidence: one `Row` each, and the `Headline` of the build."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ...contract import Contract
from ...evidence import BuildRecord, CandidateResult, LatencyPoint, MetricEvidence, Parity, Speed, ThroughputPoint
from . import figures

VERDICTS = ("chosen", "accepted", "baseline", "rejected", "skipped")


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate and its figures; what was not measured is None."""

    id: str
    result: CandidateResult
    pareto: bool
    metric: MetricEvidence | None
    """On the holdout where that was reached, else on the validation data."""
    searched: MetricEvidence | None
    """On the validation data, which every candidate saw, so that candidates can be compared; else as `metric`."""
    throughput: ThroughputPoint | None
    """At the best operating point."""
    latency: LatencyPoint | None
    """At the smallest batch that was measured."""
    speed: Speed | None
    """Against eager fp32."""
    parity: Parity | None
    """Of the output that is furthest from eager."""

    @property
    def verdict(self) -> str:
        return self.result.verdict

    @property
    def reason(self) -> str:
        return self.result.reason

    @property
    def size_mb(self) -> float | None:
        return self.result.evidence.size_mb


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the headline, with what it is and what bounds it."""

    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict of the whole build."""

    title: str
    why: str
    counts: str
    tiles: tuple[Tile, ...]


def rows(record: BuildRecord) -> tuple[Row, ...]:
    """Every candidate in the order of the record."""
    baseline = _baseline_id(record)
    return tuple(_row(result, record, baseline) for result in record.results)


def ranked(record: BuildRecord) -> list[Row]:
    """Every candidate: the chosen first, then accepted, baseline, rejected, skipped; the fastest first in each."""
    return sorted(rows(record), key=lambda row: (VERDICTS.index(row.verdict), -_rate(row), row.id))


def headline(record: BuildRecord, contract: Contract) -> Headline:
    counted: Counter[str] = Counter(result.verdict for result in record.results)
    named = ", ".join(f"{counted[verdict]} {verdict}" for verdict in VERDICTS if counted[verdict])
    counts = f"{len(record.results)} candidates: {named}. Built in {figures.duration(record.seconds)}."
    chosen = next((row for row in rows(record) if row.id == record.chosen), None)
    if chosen is None:
        return Headline("No candidate meets the contract", record.why, counts, ())
    tiles = (
        _speed_tile(chosen),
        _metric_tile(chosen, contract),
        _latency_tile(chosen, contract),
        _size_tile(record, chosen, contract),
    )
    return Headline(chosen.id, record.why, counts, tuple(tile for tile in tiles if tile is not None))


def _baseline_id(record: BuildRecord) -> str | None:
    return next((result.candidate.id for result in record.results if result.verdict == "baseline"), None)


def _row(result: CandidateResult, record: BuildRecord, baseline: str | None) -> Row:
    evidence = result.evidence
    metrics = {metric.split: metric for metric in evidence.metrics}
    return Row(
        id=result.candidate.id,
        result=result,
        pareto=result.candidate.id in record.pareto,
        metric=metrics.get("holdout", metrics.get("validation")),
        searched=metrics.get("validation", metrics.get("holdout")),
        throughput=_best_throughput(result),
        latency=min(evidence.latency, key=lambda point: point.batch, default=None),
        speed=next((speed for speed in evidence.speed if speed.against == baseline), None),
        parity=min(evidence.parity, key=lambda parity: parity.sqnr_db, default=None),
    )


def _best_throughput(result: CandidateResult) -> ThroughputPoint | None:
    points = result.evidence.throughput
    named = next((point for point in points if point.point == result.evidence.best), None)
    return named or max(points, key=lambda point: point.items_per_s, default=None)


def _rate(row: Row) -> float:
    return row.throughput.items_per_s if row.throughput else 0.0


def _speed_tile(row: Row) -> Tile | None:
    if row.speed is None:
        return None
    interval = f"at least {figures.ratio(row.speed.lower)} at 95 %, {row.speed.rounds} paired rounds"
    what = {"throughput": "throughput of eager", "latency": "as fast as eager", "size": "smaller than eager"}
    what["compressed-size"] = "smaller than eager, zipped"
    return Tile(what[row.speed.objective], figures.ratio(row.speed.ratio), interval)


def _metric_tile(row: Row, contract: Contract) -> Tile | None:
    if row.metric is None:
        return None
    metric = row.metric
    if metric.drop_upper is None or metric.confidence is None:
        bound = "observed, not bounded"
    else:
        bound = f"at most {figures.drop(metric.drop_upper)} at {figures.percent(metric.confidence)}"
    limit = contract.limits.max_metric_drop
    allowed = "" if limit is None else f"; {figures.significant(limit)} allowed"
    return Tile(f"drop of {metric.name} on the {metric.split}", figures.drop(metric.drop), bound + allowed)


def _latency_tile(row: Row, contract: Contract) -> Tile | None:
    if row.throughput is None:
        return None
    limit = contract.limits.p99_ms
    at = f"p99 at {_rate_at(row.throughput)}"
    allowed = "" if limit is None else f"; {figures.milliseconds(limit)} allowed"
    return Tile("p99 under full load", figures.milliseconds(row.throughput.p99_ms), at.removeprefix("p99 ") + allowed)


def _rate_at(point: ThroughputPoint) -> str:
    return f"{figures.rate(point.items_per_s)}, {point.point.streams} × {point.point.batch} in flight"


def _size_tile(record: BuildRecord, row: Row, contract: Contract) -> Tile | None:
    if row.size_mb is None:
        return None
    limit = contract.limits.size_mb
    notes = [] if limit is None else [f"{figures.megabytes(limit)} allowed"]
    if row.result.evidence.rss_mb is not None:
        notes.append(f"{figures.megabytes(row.result.evidence.rss_mb)} of memory at its peak")
    return Tile("on disk", figures.megabytes(row.size_mb), "; ".join(notes))
