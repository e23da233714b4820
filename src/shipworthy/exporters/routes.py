"""The exporter of each engine, and the choice between several ways to the same file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import EngineError, ExportError, MissingExtra, ShipworthyError
from ..evidence import Finding
from .agreement import Gap, gap_of_artifact
from .job import MAY_FREEZE, TRACE_FROZE, Done, Job, NoProgramError


@dataclass(frozen=True, slots=True)
class Route:
    """One way to write an artifact. `write` returns what there is to say of the graph, before it is compared."""

    name: str
    write: Callable[[Job], tuple[Finding, ...]]
    by_trace: bool = False
    by_program: bool = False


@dataclass(frozen=True, slots=True)
class _Attempt:
    route: Route
    findings: tuple[Finding, ...] = ()
    gap: Gap | None = None
    error: ShipworthyError | None = None

    @property
    def agrees(self) -> bool:
        return self.error is None and self.gap is None

    @property
    def rank(self) -> int:
        """0 right, 1 right as far as the probes see, 2 less exact than fp32 should be, 3 unusable."""
        if self.error is not None or (self.gap is not None and self.gap.gross):
            return 3
        if self.gap is not None:
            return 2
        return 1 if any(finding.rule == MAY_FREEZE for finding in self.findings) else 0

    @property
    def reason(self) -> str:
        return self.gap.reason if self.gap is not None else str(self.error)


def first_agreeing(job: Job, routes: Sequence[Route]) -> Done:
    """Write by each route in turn until the graph answers as eager fp32 does, and no branch can have been lost.

    If none does, the best of the others is kept, with a finding. Raises ExportError where none is usable."""
    attempts: list[_Attempt] = []
    for route in routes:
        if route.by_program and any(isinstance(attempt.error, NoProgramError) for attempt in attempts):
            continue
        attempts.append(_attempt(job, route))
        if attempts[-1].rank == 0:
            break
    best = min(attempts, key=lambda attempt: attempt.rank)
    if best.rank == 3:
        raise _none_usable(job, attempts)
    if best is not attempts[-1]:
        best.route.write(job)
    others = [_lost(job, attempt, best.route) for attempt in attempts if not attempt.agrees and attempt is not best]
    inexact = [] if best.gap is None else [_inexact(job, best)]
    return Done(best.route.name, (*others, *best.findings, *inexact))


def _attempt(job: Job, route: Route) -> _Attempt:
    try:
        findings = route.write(job)
        return _Attempt(route, findings, gap_of_artifact(job))
    except MissingExtra:
        raise
    except (ExportError, EngineError) as error:
        return _Attempt(route, error=error)


def _none_usable(job: Job, attempts: Sequence[_Attempt]) -> ExportError:
    if len(attempts) == 1 and isinstance(attempts[0].error, ExportError):
        return attempts[0].error
    reasons = "; ".join(f"{attempt.route.name}: {attempt.reason}" for attempt in attempts)
    return ExportError(f"{job.engine} {job.precision}", reasons, "use another engine, or change what is named here")


def _lost(job: Job, attempt: _Attempt, taken: Route) -> Finding:
    """What a route that was tried before the one that is taken has shown."""
    wrong = attempt.gap is not None
    rule = TRACE_FROZE if wrong and attempt.route.by_trace else "wrong-graph" if wrong else "fallback"
    return Finding(
        rule=rule,
        severity="warning" if wrong else "note",
        where=f"{job.engine}, {attempt.route.name}",
        why=attempt.reason,
        remedy=f"nothing to do: the graph was made by {taken.name} instead",
    )


def _inexact(job: Job, attempt: _Attempt) -> Finding:
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
