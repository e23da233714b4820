"""Small real packages of a model `digits`, one better than the other, for a registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from shipworthy.contract import Contract, Limits
from shipworthy.evidence import (
    BuildRecord,
    Candidate,
    CandidateResult,
    Environment,
    Evidence,
    LatencyPoint,
    MetricEvidence,
    Speed,
    ThroughputPoint,
)
from shipworthy.package import read_package, write_package, write_ship
from shipworthy.runtime.protocol import OperatingPoint

STORED = Path(__file__).parents[1] / "package" / "stored" / "format1"
Run = Callable[..., tuple[int, str, str]]
"""Words of a command line → exit code, standard output, standard error."""
HOST = {"cpu": "a processor", "cores": "2", "memory": "8.0 GB", "devices": "cpu"}


def evidence(accuracy: float, p50_ms: float, batches: tuple[int, ...] = (1, 32)) -> Evidence:
    point = OperatingPoint(streams=2, threads=2, batch=32)
    drop = 0.9926 - accuracy
    metric = MetricEvidence(
        name="accuracy", split="holdout", samples=270, eager=0.9926, candidate=accuracy, drop=drop,
        drop_upper=drop + 0.0094, confidence=0.9875, method="clopper-pearson",
    )  # fmt: skip
    return Evidence(
        metrics=(metric,),
        latency=tuple(
            LatencyPoint(batch=b, p50_ms=p50_ms * b**0.5, p99_ms=p50_ms * b**0.5 * 2, runs=99) for b in batches
        ),
        throughput=(ThroughputPoint(point=point, items_per_s=2000 / p50_ms, p50_ms=p50_ms, p99_ms=3 * p50_ms),),
        best=point,
        speed=(
            Speed(
                against="torch-fp32", objective="throughput", ratio=0.5 / p50_ms, lower=0.4 / p50_ms,
                upper=0.6 / p50_ms, rounds=20,
            ),
        ),
        load_s=0.08,
        rss_mb=92.5,
        size_mb=0.504,
    )  # fmt: skip


def record(contract: Contract, measured: Evidence, **parts: Any) -> BuildRecord:
    results = (
        CandidateResult(candidate=Candidate(engine="torch", precision="fp32"), verdict="baseline", reason="eager fp32"),
        CandidateResult(
            candidate=Candidate(engine="onnxruntime", precision="fp32"),
            verdict="chosen",
            reason="the fastest",
            evidence=measured,
        ),
        CandidateResult(candidate=Candidate(engine="openvino", precision="fp32"), verdict="accepted", reason="as good"),
    )
    given: dict[str, Any] = {
        "name": contract.name,
        "contract_digest": contract.digest,
        "created": "2026-11-02T03:04:05Z",
        "environment": Environment(host=HOST, versions={"onnxruntime": "1.23.0", "openvino": "2026.0.0"}),
        "results": results,
        "chosen": "onnxruntime-fp32",
        "why": "onnxruntime-fp32 is the fastest that meets the contract.",
    }
    return BuildRecord(**{**given, **parts})


def package(
    ship: Path, measured: Evidence, *, name: str = "digits", limits: Limits | None = None, **parts: Any
) -> Path:
    """A `.ship` file with the stored network under another name, and with these measurements."""
    with read_package(STORED) as stored:
        contract = stored.contract.model_copy(update={"name": name, "limits": limits or Limits(p99_ms=50.0)})
        folder = write_package(
            ship.with_suffix(""),
            contract=contract,
            variants=[(variant, stored.root / variant.directory) for variant in stored.manifest.variants],
            golden=stored.golden,
            record=record(contract, measured, **parts),
            report_html=f"<!doctype html><title>{name}</title>\n",
            card=f"# {name}\n",
        )
    return write_ship(folder, ship)
