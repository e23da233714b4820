"""A version's figures, taken from the evidence in its package."""

from __future__ import annotations

import math

from ..evidence import BuildRecord, CandidateResult, MetricEvidence, ThroughputPoint


def figures_of(record: BuildRecord) -> dict[str, float]:
    """Figures of the chosen variant, those that were measured and are finite.

    - `metric.<name>`, `drop`, `drop_upper`: the metric, how much less it is than eager's, and the upper bound of that;
      on the holdout, else on the validation data.
    - `p50_ms`, `p99_ms`: of single runs of the smallest batch that was timed, on one stream.
    - `items_per_s`, `loaded_p99_ms`: at the best operating point, under full load.
    - `speedup`: against the baseline, in what the contract asks for.
    - `size_mb`, `rss_mb`: of the graph's files, and the peak of the process that ran it, in 10^6 bytes."""
    chosen = _chosen(record)
    if chosen is None:
        return {}
    evidence = chosen.evidence
    metrics = {metric.split: metric for metric in evidence.metrics}
    figures = _of_metric(metrics.get("holdout") or metrics.get("validation"))
    latency = min(evidence.latency, key=lambda point: point.batch, default=None)
    if latency is not None:
        figures |= {"p50_ms": latency.p50_ms, "p99_ms": latency.p99_ms}
    best = _best(chosen)
    if best is not None:
        figures |= {"items_per_s": best.items_per_s, "loaded_p99_ms": best.p99_ms}
    baseline = next((result.candidate.id for result in record.results if result.verdict == "baseline"), None)
    speed = next((speed for speed in evidence.speed if speed.against == baseline), None)
    figures |= {
        "speedup": None if speed is None else speed.ratio,
        "size_mb": evidence.size_mb,
        "rss_mb": evidence.rss_mb,
    }
    return {name: value for name, value in figures.items() if value is not None and math.isfinite(value)}


def parameters_of(record: BuildRecord) -> int | None:
    """Parameters of the chosen variant: what its last recipe left, or those that every recipe began with.

    None where no recipe of the build counted them."""
    chosen = _chosen(record)
    if chosen is None:
        return None
    if chosen.compression:
        return chosen.compression[-1].parameters_after
    return next((result.compression[0].parameters_before for result in record.results if result.compression), None)


def _chosen(record: BuildRecord) -> CandidateResult | None:
    return next((result for result in record.results if result.candidate.id == record.chosen), None)


def _of_metric(metric: MetricEvidence | None) -> dict[str, float | None]:
    if metric is None:
        return {}
    return {f"metric.{metric.name}": metric.candidate, "drop": metric.drop, "drop_upper": metric.drop_upper}


def _best(result: CandidateResult) -> ThroughputPoint | None:
    points = result.evidence.throughput
    named = next((point for point in points if point.point == result.evidence.best), None)
    return named or max(points, key=lambda point: point.items_per_s, default=None)
