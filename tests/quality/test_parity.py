"""Parity: the figures on known errors, and the gates."""

from __future__ import annotations

import numpy as np
import pytest

from shipworthy.contract import Array
from shipworthy.contract.spec import Precision
from shipworthy.quality import ParityJudge

_FEEDS = {"x": np.zeros((4, 3), np.float32)}


def _judge(expected: Array, got: Array, *, ranked: bool = False) -> ParityJudge:
    judge = ParityJudge(frozenset({"y"}) if ranked else frozenset())
    judge.add(_FEEDS, {"y": expected}, {"y": got})
    return judge


def test_the_figures_of_a_known_error() -> None:
    expected = np.array([[3.0, 4.0], [0.0, 5.0]], np.float32)
    judge = _judge(expected, expected + np.array([[0.1, 0.0], [0.0, 0.0]], np.float32), ranked=True)
    (parity,) = judge.parity()
    assert parity.max_abs == pytest.approx(0.1, rel=1e-5)
    assert parity.max_rel == pytest.approx(0.02, rel=1e-5)
    assert parity.sqnr_db == pytest.approx(10 * np.log10(50 / 0.01), rel=1e-4)
    assert parity.cosine == pytest.approx((3.1 * 3 + 16 + 25) / np.sqrt(50 * (3.1**2 + 16 + 25)), rel=1e-6)
    assert parity.top1_agreement == 1.0
    assert parity.worst_shape == (4, 3)


def test_equal_outputs_are_at_infinity() -> None:
    same = np.ones((2, 2), np.float32)
    (parity,) = _judge(same, same.copy()).parity()
    assert (parity.max_abs, parity.sqnr_db, parity.cosine, parity.top1_agreement) == (0.0, 999.0, 1.0, None)


def test_all_zero_outputs_are_no_division() -> None:
    zero = np.zeros((2, 2), np.float32)
    assert _judge(zero, zero.copy()).too_far("fp32") is None
    (parity,) = _judge(zero, zero + 1).parity()
    assert (parity.sqnr_db, parity.cosine) == (-999.0, 0.0)


def test_the_worst_probe_is_named() -> None:
    judge = ParityJudge()
    for size, error in ((1, 0.1), (5, 0.3), (2, 0.2)):
        ones = np.ones((size, 2), np.float32)
        judge.add({"x": np.zeros((size, 7), np.float32)}, {"y": ones}, {"y": ones + np.float32(error)})
    assert judge.parity()[0].worst_shape == (5, 7)


@pytest.mark.parametrize(("error", "precision", "passes"), [
    (5e-4, "fp32", True), (2e-3, "fp32", False),
    (0.05, "bf16", True), (0.07, "bf16", False),
    (0.3, "int8", True), (0.4, "int8", False),
])  # fmt: skip
def test_the_gates_of_each_precision(error: float, precision: Precision, passes: bool) -> None:
    ones = np.ones((10, 4), np.float32)
    why = _judge(ones, ones + np.float32(error)).too_far(precision)
    assert (why is None) is passes
    assert passes or "output 'y'" in str(why)


def test_predicted_classes_are_judged_by_agreement() -> None:
    classes = np.zeros(1000, np.int64)
    other = classes.copy()
    other[:20] = 1
    judge = _judge(classes, other)
    assert judge.misfit is None
    assert judge.too_far("bf16") is None
    assert "98.0% of the values" in str(judge.too_far("fp32"))
    assert judge.tolerance() == {"y": 4.0}


@pytest.mark.parametrize("got", [
    np.ones((2, 3), np.float64), np.ones((3, 2), np.float32), np.array([[1, np.nan, 1]] * 2, np.float32),
    np.array([[1, np.inf, 1]] * 2, np.float32),
])  # fmt: skip
def test_what_cannot_be_compared_is_a_misfit(got: Array) -> None:
    judge = _judge(np.ones((2, 3), np.float32), got)
    assert judge.misfit is not None
    assert judge.misfit.startswith("output 'y' for inputs of shape [4, 3]")


def test_a_missing_output_is_a_misfit() -> None:
    judge = ParityJudge()
    judge.add(_FEEDS, {"y": np.ones(2, np.float32)}, {})
    assert judge.misfit == "output 'y' for inputs of shape [4, 3] is missing"


def test_nan_where_eager_has_nan_is_equal() -> None:
    values = np.array([1.0, np.nan, np.inf], np.float32)
    judge = _judge(values, values.copy())
    assert judge.misfit is None
    assert judge.too_far("fp32") is None


def test_the_tolerance_is_four_times_the_error_with_a_floor() -> None:
    ones = np.ones((2, 2), np.float32)
    assert _judge(ones, ones + np.float32(0.5)).tolerance()["y"] == pytest.approx(2.0)
    assert _judge(ones, ones.copy()).tolerance()["y"] == pytest.approx(1.1e-5)
