"""The gates: what rejects a candidate, from what was measured and what the contract says."""

from __future__ import annotations

from collections.abc import Sequence

from ..contract import Contract
from ..evidence import Candidate, MetricEvidence, Speed
from ..measure import FASTER, SIZES, TAIL_RUNS, is_faster, precision_refusal
from .recipes import PLAIN
from .results import Exported, Pace, Quality, Refusal


def judge_quality(contract: Contract, candidate: Candidate, exported: Exported, quality: Quality) -> Refusal | None:
    """Parity, the metric on the validation data, the kernels, the size."""
    if quality.refusal is not None:
        return quality.refusal
    if quality.misfit is not None:
        return Refusal(gate="parity", reason=quality.misfit)
    if quality.too_far is not None and not metric_decides(contract, candidate, quality.metric):
        return Refusal(gate="parity", reason=quality.too_far)
    false_claim = precision_refusal(quality.kernels, candidate.precision)
    if false_claim is not None:
        return Refusal(gate="kernels", reason=false_claim)
    return _metric_refusal(contract, quality.metric) or _over(contract.limits.size_mb, exported.size_mb, "size", "MB")


def metric_decides(contract: Contract, candidate: Candidate, metric: MetricEvidence | None) -> bool:
    """What is another function than eager's is judged by what it does to the metric, where its drop is limited and
    was measured: a lower precision, and a module that was pruned or distilled."""
    changed = candidate.precision != "fp32" or candidate.recipe != PLAIN
    return changed and metric is not None and contract.limits.max_metric_drop is not None


def judge_pace(contract: Contract, pace: Pace, baseline: str, parents: Sequence[str]) -> Refusal | None:
    """The latency limit, the memory limit, and the speed (or size) against eager and the simpler candidates."""
    if pace.refusal is not None:
        return pace.refusal
    if pace.best is None:
        return Refusal(gate="limits", reason=_too_slow(contract, pace))
    over = _over(contract.limits.rss_mb, pace.rss_mb, "peak memory", "MB")
    return over or _speed_refusal(contract, pace.speed, baseline, parents)


def _too_slow(contract: Contract, pace: Pace) -> str:
    above = f"above the limit of {contract.limits.p99_ms:g} ms"
    if pace.closest is None:
        lowest = min(point.p50_ms for point in pace.throughput)
        return f"p50 is at least {lowest:.3g} ms at every operating point, and p99 is never less, {above}"
    point, runs = pace.closest.point, pace.closest_runs
    few = "" if runs >= TAIL_RUNS else f"; {TAIL_RUNS} runs, which a p99 asks for, would have taken too long"
    at = f"{point.streams} × {point.batch} in flight"
    return f"p99 is {pace.closest.p99_ms:.3g} ms over {runs} runs at {at}, the best of the points tried, {above}{few}"


def _speed_refusal(
    contract: Contract, speeds: tuple[Speed, ...], baseline: str, parents: Sequence[str]
) -> Refusal | None:
    """Against eager and the parents. Where size is the objective, eager is no rival: it cannot be packed."""
    objective = contract.target.objective
    for rival in (*(() if objective in SIZES else (baseline,)), *parents):
        speed = next((s for s in speeds if s.against == rival and s.objective == objective), None)
        if speed is not None and not is_faster(speed):
            return Refusal(gate="speed", reason=_not_faster(speed))
    return None


def _not_faster(speed: Speed) -> str:
    if speed.objective in SIZES:
        zipped = ", zipped," if speed.objective == "compressed-size" else ""
        return (
            f"is{zipped} {speed.ratio:.2f} times as small as {speed.against}, which is not smaller (needed: {FASTER:g})"
        )
    word = "a tie with" if speed.upper >= 1 else "slower than"
    return (
        f"is {word} {speed.against}: {speed.ratio:.2f}× its {speed.objective}, "
        f"at 95 % at least {speed.lower:.2f}× (needed: above {FASTER:g})"
    )


def _metric_refusal(contract: Contract, metric: MetricEvidence | None) -> Refusal | None:
    limit = contract.limits.max_metric_drop
    if metric is None or limit is None or metric.drop <= limit:
        return None
    return Refusal(
        gate="metric", reason=f"{metric.name} drops by {metric.drop:.4g} on the {metric.split}, above {limit:g}"
    )


def judge_proof(contract: Contract, candidate: Candidate, metric: MetricEvidence | None) -> Refusal | None:
    """On the holdout the drop must be within the limit, and where a confidence is asked for, proven to be.

    The unchanged graph in fp32 is the same function up to rounding, which parity has judged on values. Where the
    samples differ too little to give any bound of the metric, there is nothing more to prove."""
    limit = contract.limits.max_metric_drop
    seen = _metric_refusal(contract, metric)
    if seen is not None or metric is None or limit is None or contract.limits.confidence is None:
        return seen
    if metric.drop_upper is not None and metric.drop_upper <= limit:
        return None
    if metric.drop_upper is None and candidate.precision == "fp32" and candidate.recipe == "plain":
        return None
    return Refusal(
        gate="metric",
        reason=f"a drop of {metric.name} within {limit:g} is not proven: {metric.drop:.4g} was seen on "
        f"{metric.samples:,} samples, {_unproven(metric)}",
    )


def _unproven(metric: MetricEvidence) -> str:
    needed = metric.samples_needed
    if metric.drop_upper is None:
        more = f"about {needed:,} such samples may be enough" if needed else "how many would be enough cannot be told"
        return f"which give no bound: {metric.method}; {more}"
    enough = f"{needed:,} such samples would be enough" if needed else "no number of samples would be enough"
    return f"the bound at {metric.confidence:.4g} is {metric.drop_upper:.4g}; {enough}"


def _over(limit: float | None, value: float | None, what: str, unit: str) -> Refusal | None:
    if limit is None or value is None or value <= limit:
        return None
    return Refusal(gate="limits", reason=f"{what} {value:.4g} {unit} is above the limit of {limit:g} {unit}")
