"""The exporter of each engine, and the choice between several ways to the same file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import EngineError, ExportError
from ..evidence import Finding
from .agreement import Gap, gap_of_artifact
from .job import Done, Job


@dataclass(frozen=True, slots=True)
class Route:
    """One way to write an artifact. `frozen` where a branch on data may be lost on it."""

    name: str
    write: Callable[[Job], None]
    may_freeze: bool = False


@dataclass(frozen=True, slots=True)
class _Tried:
    route: Route
    reason: str
    gap: Gap | None = None


def first_agreeing(job: Job, routes: Sequence[Route]) -> Done:
    """Write by each route in turn until the graph answers as eager fp32 does.

    If none does, the last that is only less exact than fp32 should be is kept, with a finding.
    Raises ExportError with every reason where there is none such either."""
    tried: list[_Tried] = []
    for route in routes:
        attempt = _attempt(job, route)
        if attempt is None:
            return Done(route.name, tuple(_lost(job, route, tried)))
        tried.append(attempt)
    inexact = next((attempt for attempt in tried if attempt.gap is not None and not attempt.gap.gross), None)
    if inexact is None:
        raise ExportError(
            job.engine,
            "; ".join(f"{attempt.route.name}: {attempt.reason}" for attempt in tried),
            "use the engine torchscript, or change what is named here",
        )
    inexact.route.write(job)
    return Done(inexact.route.name, (*_lost(job, inexact.route, tried), _inexact(job, inexact)))


def _attempt(job: Job, route: Route) -> _Tried | None:
    try:
        route.write(job)
        gap = gap_of_artifact(job)
    except (ExportError, EngineError) as error:
        return _Tried(route, f"{error.culprit}: {error.reason}" + (f"; {error.remedy}" if error.remedy else ""))
    return None if gap is None else _Tried(route, gap.reason, gap)


def _lost(job: Job, taken: Route, tried: Sequence[_Tried]) -> list[Finding]:
    """What the routes that were tried before have shown."""
    findings = []
    for attempt in tried:
        if attempt.route is taken:
            continue
        wrong = attempt.gap is not None
        rule = "trace-froze-branch" if wrong and attempt.route.may_freeze else "wrong-graph" if wrong else "fallback"
        findings.append(
            Finding(
                rule=rule,
                severity="warning" if wrong else "note",
                where=f"{job.engine}, {attempt.route.name}",
                why=attempt.reason,
                remedy=f"nothing to do: the graph was made by {taken.name} instead, which answers as eager does",
            )
        )
    return findings


def _inexact(job: Job, attempt: _Tried) -> Finding:
    return Finding(
        rule="inexact-graph",
        severity="warning",
        where=f"{job.engine}, {attempt.route.name}",
        why=attempt.reason,
        remedy="look at the parity of this candidate before it is used",
    )


def exporters() -> dict[str, Callable[[Job], Done]]:
    """By engine. Imported here, because each brings torch."""
    from .aoti import export_aoti
    from .eager import export_eager
    from .onnx_graph import export_onnx, export_reference
    from .openvino_ir import export_openvino
    from .torchscript import export_torchscript

    return {
        "torch": export_eager,
        "torchscript": export_torchscript,
        "aoti": export_aoti,
        "onnxruntime": export_onnx,
        "onnx-reference": export_reference,
        "openvino": export_openvino,
    }
