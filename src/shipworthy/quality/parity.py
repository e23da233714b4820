"""How far a candidate's outputs are from eager's, and whether that is near enough."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contract import Array, Arrays
from ..contract.spec import Precision
from ..evidence import Parity

INFINITE_DB = 999.0
"""Stands for an infinite ratio, which JSON cannot write."""

FP32_ABSOLUTE, FP32_RELATIVE = 1e-4, 1e-3
LEAST_SQNR_DB: dict[Precision, float] = {"bf16": 25.0, "fp16": 25.0, "int8": 10.0, "fp8": 10.0}
LEAST_AGREEMENT: dict[Precision, float] = {"fp32": 0.999, "bf16": 0.95, "fp16": 0.95, "int8": 0.9, "fp8": 0.9}
"""Of integer and bool outputs, such as a predicted class: the share of equal elements."""


@dataclass(slots=True)
class _Tally:
    """Sums of one output over the probes that were seen."""

    max_abs: float = 0.0
    peak: float = 0.0
    """max|y| of eager."""
    signal: float = 0.0
    noise: float = 0.0
    other: float = 0.0
    """Σ ŷ²."""
    dot: float = 0.0
    equal: int = 0
    compared: int = 0
    top1: int = 0
    rows: int = 0
    exact: bool = False
    """True for integers and bools."""
    worst_shape: tuple[int, ...] = ()


@dataclass(slots=True)
class ParityJudge:
    """Takes the outputs of probe after probe; `misfit` is set by the first that cannot be compared at all.

    `ranked` names outputs whose last axis is classes, for the top-1 agreement."""

    ranked: frozenset[str] = frozenset()
    misfit: str | None = None
    _tallies: dict[str, _Tally] = field(default_factory=dict)

    def add(self, feeds: Arrays, eager: Arrays, candidate: Arrays) -> None:
        self.misfit = self.misfit or misfit(feeds, eager, candidate)
        if self.misfit is None:
            for name, expected in eager.items():
                self._tally(name, expected, candidate[name], _shape(feeds))

    def _tally(self, name: str, expected: Array, got: Array, shape: tuple[int, ...]) -> None:
        tally = self._tallies.setdefault(name, _Tally())
        tally.exact = expected.dtype.kind in "biu"
        finite = np.isfinite(expected) if expected.dtype.kind == "f" else np.ones(expected.shape, dtype=bool)
        y, z = expected[finite].astype(np.float64), got[finite].astype(np.float64)
        error = np.abs(z - y)
        worst = float(error.max(initial=0.0))
        if worst > tally.max_abs or not tally.worst_shape:
            tally.max_abs, tally.worst_shape = max(worst, tally.max_abs), tuple(shape)
        tally.peak = max(tally.peak, float(np.abs(y).max(initial=0.0)))
        tally.signal += float(y @ y)
        tally.noise += float(error @ error)
        tally.other += float(z @ z)
        tally.dot += float(y @ z)
        tally.equal += int((error == 0).sum())
        tally.compared += error.size
        if name in self.ranked and expected.ndim > 1 and expected.shape[-1] > 1:
            tally.top1 += int((expected.argmax(-1) == got.argmax(-1)).sum())
            tally.rows += math.prod(expected.shape[:-1])

    def parity(self) -> tuple[Parity, ...]:
        return tuple(_parity(name, tally) for name, tally in self._tallies.items())

    def tolerance(self, factor: float = 4.0) -> dict[str, float]:
        """Absolute golden tolerance per output: `factor` × the error seen.

        Not below what another processor's order of additions makes of fp32: 1e-6 + 1e-5·max|y|."""
        return {
            name: factor * tally.max_abs if tally.exact else max(factor * tally.max_abs, 1e-6 + 1e-5 * tally.peak)
            for name, tally in self._tallies.items()
        }

    def too_far(self, precision: Precision) -> str | None:
        """Why the values are too far from eager's for this precision, or None.

        fp32: max|Δ| ≤ 1e-4 + 1e-3·max|y|. bf16, fp16: SQNR ≥ 25 dB; int8, fp8: ≥ 10 dB. Integer outputs: the share
        of equal elements."""
        return next(
            (why for name, tally in self._tallies.items() if (why := _too_far(name, tally, precision)) is not None),
            None,
        )


def misfit(feeds: Arrays, eager: Arrays, candidate: Arrays) -> str | None:
    """Why the answers cannot be compared at all, or None: one is missing, of another shape or dtype, or not finite."""
    whys = (_misfit(name, expected, candidate.get(name), _shape(feeds)) for name, expected in eager.items())
    return next((why for why in whys if why is not None), None)


def _shape(feeds: Arrays) -> tuple[int, ...]:
    return tuple(next(iter(feeds.values())).shape)


def _misfit(name: str, expected: Array, got: Array | None, shape: tuple[int, ...]) -> str | None:
    at = f"output {name!r} for inputs of shape {list(shape)}"
    if got is None:
        return f"{at} is missing"
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return f"{at} is {got.dtype} {list(got.shape)}, eager gives {expected.dtype} {list(expected.shape)}"
    if expected.dtype.kind == "f" and not np.array_equal(*_special(expected, got), equal_nan=True):
        return f"{at} has NaN or infinite values where eager has none, or the reverse"
    return None


def _special(expected: Array, got: Array) -> tuple[Any, Any]:
    """Both arrays with every finite value as 0, so that only NaN and infinities are compared."""
    return np.where(np.isfinite(expected), 0, expected), np.where(np.isfinite(got), 0, got)


def _parity(name: str, tally: _Tally) -> Parity:
    return Parity(
        output=name,
        max_abs=tally.max_abs,
        max_rel=tally.max_abs / tally.peak if tally.peak else (0.0 if not tally.max_abs else INFINITE_DB),
        cosine=_cosine(tally),
        sqnr_db=_sqnr_db(tally),
        top1_agreement=tally.top1 / tally.rows if tally.rows else None,
        worst_shape=tally.worst_shape,
    )


def _cosine(tally: _Tally) -> float:
    if not tally.signal or not tally.other:
        return 1.0 if tally.signal == tally.other else 0.0
    return max(-1.0, min(1.0, tally.dot / math.sqrt(tally.signal) / math.sqrt(tally.other)))


def _sqnr_db(tally: _Tally) -> float:
    if not tally.noise:
        return INFINITE_DB
    return 10 * math.log10(tally.signal / tally.noise) if tally.signal else -INFINITE_DB


def _too_far(name: str, tally: _Tally, precision: Precision) -> str | None:
    if tally.exact:
        share = tally.equal / tally.compared if tally.compared else 1.0
        least = LEAST_AGREEMENT[precision]
        return None if share >= least else f"output {name!r}: {share:.1%} of the values are eager's, below {least:.1%}"
    if precision == "fp32":
        allowed = FP32_ABSOLUTE + FP32_RELATIVE * tally.peak
        if tally.max_abs <= allowed:
            return None
        shape = list(tally.worst_shape)
        return f"output {name!r}: max|Δ| {tally.max_abs:.2e} above {allowed:.2e} (inputs of shape {shape})"
    sqnr, least = _sqnr_db(tally), LEAST_SQNR_DB[precision]
    return None if sqnr >= least else f"output {name!r}: SQNR {sqnr:.1f} dB below {least:.0f} dB"
