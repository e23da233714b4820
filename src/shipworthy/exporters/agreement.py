"""Whether an exported graph answers as eager does: this finds wrong graphs. How exact a right one is comes later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..contract import Array
from ..errors import EngineError, InputError
from ..runtime import OperatingPoint, open_runner
from .job import Case, Job

_ABSOLUTE, _RELATIVE = 1e-4, 1e-3
"""fp32 agrees where max|Δ| ≤ 1e-4 + 1e-3 max|y|."""
_LOW_PRECISION_DB = 10.0
_GROSS_DB = 20.0
"""An fp32 graph below this signal-to-noise ratio computes something else."""


@dataclass(frozen=True, slots=True)
class Gap:
    """How a graph departs from eager. `gross` where it computes something else."""

    reason: str
    gross: bool


def gap_of_artifact(job: Job) -> Gap | None:
    """Open the artifact, run every case, and compare. Raises EngineError where the engine refuses the file."""
    runner = open_runner(job.artifact, OperatingPoint(threads=job.contract.target.threads))
    try:
        answers = []
        for case in job.cases:
            try:
                answers.append(runner.run(case.feeds))
            except (EngineError, InputError) as error:
                return Gap(f"fails where eager does not: {error.reason}", gross=True)
    finally:
        runner.close()
    return gap(job.cases, answers, low_precision=job.precision != "fp32")


def gap(cases: Iterable[Case], answers: Iterable[Mapping[str, Array]], *, low_precision: bool) -> Gap | None:
    """The worst departure over all cases, None where there is none."""
    pairs = [(case, answer) for case, answer in zip(cases, answers, strict=True)]
    gaps = [
        found
        for name in pairs[0][0].outputs
        if (found := _output_gap(name, [(c.outputs[name], a[name], c) for c, a in pairs], low_precision)) is not None
    ]
    return max(gaps, key=lambda found: found.gross, default=None)


def _output_gap(name: str, pairs: list[tuple[Array, Array, Case]], low_precision: bool) -> Gap | None:
    for eager, answer, case in pairs:
        if eager.shape != answer.shape:
            where = f"{name} is {list(answer.shape)} where eager gives {list(eager.shape)}"
            return Gap(f"{where}, for {_shapes(case)}", gross=True)
    if pairs[0][0].dtype.kind != "f":
        return _discrete_gap(name, pairs, low_precision)
    worst: tuple[float, str] | None = None
    signal = noise = 0.0
    for eager, answer, case in pairs:
        if not np.array_equal(np.isfinite(eager), np.isfinite(answer)):
            return Gap(f"{name} is finite in other places than eager's, for {_shapes(case)}", gross=True)
        finite = np.isfinite(eager)
        reference = eager[finite].astype(np.float64)
        delta = np.abs(reference - answer[finite])
        signal, noise = signal + float((reference**2).sum()), noise + float((delta**2).sum())
        largest = float(delta.max(initial=0.0))
        allowed = _ABSOLUTE + _RELATIVE * float(np.abs(reference).max(initial=0.0))
        if largest > allowed and (worst is None or largest > worst[0]):
            worst = (largest, f"{name} is off by {largest:.3g} where {allowed:.3g} is allowed, for {_shapes(case)}")
    decibels = 10 * np.log10(signal / noise) if noise and signal else (np.inf if not noise else -np.inf)
    if low_precision:
        reason = f"{name} has a signal-to-noise ratio of {decibels:.1f} dB against eager fp32"
        return Gap(reason, gross=False) if decibels < _LOW_PRECISION_DB else None
    return None if worst is None else Gap(worst[1], gross=decibels < _GROSS_DB)


def _discrete_gap(name: str, pairs: list[tuple[Array, Array, Case]], low_precision: bool) -> Gap | None:
    """Integers and booleans: a rounding may tip a few of them over."""
    total = sum(eager.size for eager, _, _ in pairs)
    differing = sum(int((eager != answer).sum()) for eager, answer, _ in pairs)
    share = differing / total if total else 0.0
    if share <= (0.5 if low_precision else 0.02):
        return None
    return Gap(f"{name} differs from eager in {differing} of {total} values", gross=share > 0.2 and not low_precision)


def _shapes(case: Case) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in case.feeds.items())
