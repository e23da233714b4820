"""What a version's row takes from the evidence in its package."""

from __future__ import annotations

import json
import math

import pytest

from shipworthy.evidence import (
    BuildRecord,
    Candidate,
    CandidateResult,
    Compression,
    Environment,
    Evidence,
    LatencyPoint,
    MetricEvidence,
    Speed,
    ThroughputPoint,
)
from shipworthy.registry import Registry
from shipworthy.registry.figures import figures_of, parameters_of
from shipworthy.runtime.protocol import OperatingPoint

ONE, TWO = OperatingPoint(streams=1, threads=2, batch=4), OperatingPoint(streams=2, threads=1, batch=8)


def metric(split: str, candidate: float) -> MetricEvidence:
    return MetricEvidence(
        name="accuracy", split=split, samples=500, eager=0.95, candidate=candidate, drop=0.95 - candidate,
        drop_upper=0.02, confidence=0.95,
    )  # fmt: skip


MEASURED = Evidence(
    metrics=(metric("validation", 0.93), metric("holdout", 0.94)),
    latency=(
        LatencyPoint(batch=8, p50_ms=9.0, p99_ms=10.0, runs=9),
        LatencyPoint(batch=1, p50_ms=2.0, p99_ms=3.0, runs=9),
    ),
    throughput=(
        ThroughputPoint(point=ONE, items_per_s=900.0, p50_ms=4.0, p99_ms=5.0),
        ThroughputPoint(point=TWO, items_per_s=800.0, p50_ms=6.0, p99_ms=7.0),
    ),
    best=TWO,
    speed=(
        Speed(against="other", objective="throughput", ratio=9.0, lower=8.0, upper=10.0, rounds=5),
        Speed(against="torch-fp32", objective="throughput", ratio=2.5, lower=2.0, upper=3.0, rounds=5),
    ),
    rss_mb=120.0,
    size_mb=1.5,
)


def compression(before: int, after: int) -> Compression:
    return Compression(recipe="x", parameters_before=before, parameters_after=after, bytes_before=8, bytes_after=4)


def record(
    chosen: str | None = "openvino-int8", evidence: Evidence = MEASURED, **steps: tuple[Compression, ...]
) -> BuildRecord:
    results = (
        CandidateResult(candidate=Candidate(engine="torch", precision="fp32"), verdict="baseline", reason=""),
        CandidateResult(
            candidate=Candidate(engine="openvino", precision="int8"), verdict="chosen", reason="", evidence=evidence,
            compression=steps.get("own", ()),
        ),
        CandidateResult(
            candidate=Candidate(recipe="prune30", engine="openvino", precision="fp32"), verdict="rejected", reason="",
            compression=steps.get("pruned", ()),
        ),
    )  # fmt: skip
    return BuildRecord(
        name="digits", contract_digest="c", created="2026-01-02T03:04:05Z",
        environment=Environment(host={}, versions={}),
        results=results, chosen=chosen,
    )  # fmt: skip


def test_figures_of_the_chosen_variant() -> None:
    assert figures_of(record()) == {
        "metric.accuracy": 0.94,
        "drop": pytest.approx(0.01),
        "drop_upper": 0.02,
        "p50_ms": 2.0,
        "p99_ms": 3.0,
        "items_per_s": 800.0,
        "loaded_p99_ms": 7.0,
        "speedup": 2.5,
        "rss_mb": 120.0,
        "size_mb": 1.5,
    }


def test_what_was_not_measured_is_left_out() -> None:
    assert figures_of(record(chosen=None)) == figures_of(record(chosen="unknown")) == {}
    assert figures_of(record(evidence=Evidence())) == {}
    validated = figures_of(
        record(evidence=MEASURED.model_copy(update={"metrics": (metric("validation", 0.93),), "best": None}))
    )
    assert (validated["metric.accuracy"], validated["items_per_s"]) == (0.93, 900.0)
    assert "size_mb" not in figures_of(record(evidence=MEASURED.model_copy(update={"size_mb": math.inf})))


def test_parameters_are_counted_by_recipes() -> None:
    assert parameters_of(record()) is None
    assert parameters_of(record(chosen=None, pruned=(compression(100, 70),))) is None
    assert parameters_of(record(pruned=(compression(100, 70), compression(70, 60)))) == 100
    steps = (compression(100, 90), compression(90, 80))
    assert parameters_of(record(own=steps, pruned=(compression(100, 70),))) == 80


def test_they_stand_in_the_version(registry: Registry, package) -> None:
    content = json.loads(record(pruned=(compression(100, 70),)).model_dump_json())
    registry.register(package(results=content["results"], chosen="openvino-int8"))
    version = registry.version("digits:1")
    assert version.metrics["metric.accuracy"] == 0.94
    assert version.parameters == 100
