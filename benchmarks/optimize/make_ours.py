"""Shipworthy: one call of `shipworthy.build` on the model's contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import shipworthy

from .made import megabytes
from .make_torch import Said
from .subject import Subject


def build(subject: Subject, folder: Path, name: str) -> Said:
    """The package with the chosen variant first. The time is the whole build's: checks, search and proof."""
    report = shipworthy.build(subject.root / subject.contracts[name], work=folder / "work", progress=False)
    (folder / "record.json").write_text(report.json())
    (folder / "report.html").write_text(report.html())
    if report.best is None:
        raise SystemExit(f"no candidate meets the contract: {report.record.why}{_lacking(report.record)}")
    report.best.save(folder / "package")
    chosen = next(row for row in report.record.results if row.verdict == "chosen")
    candidate = chosen.candidate
    engine = "torch" if candidate.engine in ("torchscript", "aoti") else candidate.engine
    return {
        "size_mb": chosen.evidence.size_mb or megabytes(folder / "package" / "variants" / candidate.id),
        "precision": candidate.precision,
        "peak": f"{engine}-{candidate.precision}",
        "detail": candidate.id,
        **_proof(chosen),
    }


def _lacking(record: Any) -> str:
    """How many samples the nearest proof lacks, where it is the data that is too small."""
    needed = [one.samples_needed for row in record.results for one in row.evidence.metrics if one.samples_needed]
    return f" {min(needed):,} samples would be needed." if needed else ""


def _proof(chosen: Any) -> Said:
    """What the build has proven of the metric's drop on the holdout; nothing where there is no metric."""
    proof = next((one for one in chosen.evidence.metrics if one.split == "holdout"), None)
    if proof is None:
        return {}
    return {"drop_upper": proof.drop_upper, "confidence": proof.confidence, "samples_needed": proof.samples_needed}
