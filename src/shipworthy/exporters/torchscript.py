"""TorchScript: traced or scripted, whichever is right, and frozen."""

from __future__ import annotations

import torch

from ..errors import ExportError
from ..evidence import Finding
from ..runtime.describe import SIGNATURE_KEY
from .job import TRACE_FROZE, Done, Job
from .script import Way, chosen_way, conditions, may_freeze


def export_torchscript(job: Job) -> Done:
    """model.pt, made in the way that answers as eager does in fp32, with the signature stored inside."""
    way, ways = chosen_way(job)
    module = way.module if job.precision == "fp32" else _lowered(way, job)
    stored = {SIGNATURE_KEY: job.signature.model_dump_json()}
    torch.jit.save(module, str(job.directory / "model.pt"), _extra_files=stored)
    findings = [finding for other in ways if other is not way for finding in _findings(job, other, way)]
    findings += may_freeze(job, way.name, way.frozen_at)
    if not way.agrees:
        findings.append(_finding("inexact-graph", job, way, way.why_not, "look at the parity of this candidate"))
    if way.name == "script" and (kept := conditions(way.module)):
        why = f"{kept} branches or loops depend on data or sizes, and are kept as they are"
        findings.append(_finding("kept-branches", job, way, why, "nothing to do", severity="note"))
    return Done(way.name, tuple(findings))


def _lowered(way: Way, job: Job) -> torch.jit.ScriptModule:
    try:
        module: torch.jit.ScriptModule = way.make(job)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ExportError(f"torchscript {job.precision}", reason, "keep the model in fp32") from error
    return module


def _findings(job: Job, other: Way, taken: Way) -> list[Finding]:
    remedy = f"nothing to do: the graph was made by {taken.name} instead, which answers as eager does"
    if other.gap is not None and other.name == "trace":
        why = f"tracing alone would be wrong: {other.gap.reason}"
        return [_finding(TRACE_FROZE, job, other, why, remedy)]
    if other.gap is not None:
        return [_finding("wrong-graph", job, other, other.gap.reason, remedy)]
    if other.error is not None and other.name == "trace":
        return [_finding("fallback", job, other, other.error, remedy, severity="note")]
    return []


def _finding(rule: str, job: Job, way: Way, why: str, remedy: str, severity: str = "warning") -> Finding:
    return Finding.model_validate(
        {"rule": rule, "severity": severity, "where": f"{job.engine}, {way.name}", "why": why, "remedy": remedy}
    )
