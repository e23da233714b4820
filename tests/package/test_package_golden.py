"""The replay: what counts as the same answer."""

from __future__ import annotations

from dataclasses import dataclass

import mlp
import numpy as np
import pytest

from shipworthy.contract import Array, Arrays, Signature
from shipworthy.errors import GoldenMismatch
from shipworthy.package import Golden, GoldenCase, replay
from shipworthy.runtime.protocol import Kernel


@dataclass
class Fixed:
    """A runner that gives the same outputs whatever it is fed."""

    outputs: dict[str, Array]
    signature: Signature = mlp.contract().signature

    def run(self, feeds: Arrays) -> dict[str, Array]:
        return self.outputs

    def kernels(self) -> tuple[Kernel, ...]:
        return ()

    def close(self) -> None:
        pass


def ask(got: Array, expected: Array, tolerance: float | None = 0.1) -> float:
    variant = mlp.variant("onnxruntime", tolerance={} if tolerance is None else {"logits": tolerance})
    golden = Golden((GoldenCase({"features": mlp.features(1)}, {"logits": expected}),))
    return replay(Fixed({"logits": got}), variant, golden).max_abs["logits"]


def row(*values: float, dtype: str = "float32") -> Array:
    return np.array([values], dtype=dtype)


@pytest.mark.parametrize(
    ("got", "expected", "delta"),
    [
        (row(1, 2, 3), row(1, 2, 3), 0.0),
        (row(1, 2, 3.0625), row(1, 2, 3), 0.0625),
        (row(np.nan, np.inf, -np.inf), row(np.nan, np.inf, -np.inf), 0.0),
        (row(5, 6, dtype="int64"), row(5, 6, dtype="int64"), 0.0),
        (row(True, False, dtype="bool"), row(True, False, dtype="bool"), 0.0),
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), 0.0),
    ],
)
def test_within_tolerance(got: Array, expected: Array, delta: float) -> None:
    assert ask(got, expected) == delta


@pytest.mark.parametrize(
    ("got", "expected", "said"),
    [
        (row(1, 2, 3.25), row(1, 2, 3), "differs by 0.25, allowed are 0.1"),
        (row(1, 2, np.nan), row(1, 2, 3), "differs by inf"),
        (row(1, 2, 3), row(1, 2, np.nan), "differs by inf"),
        (row(1, 2, np.inf), row(1, 2, -np.inf), "differs by inf"),
        (row(1, 2, np.inf), row(1, 2, 3), "differs by inf"),
        (row(5, dtype="int64"), row(6, dtype="int64"), "differs by 1"),
        (row(2**62 + 1, dtype="int64"), row(2**62, dtype="int64"), "differs by"),
        (row(True, dtype="bool"), row(False, dtype="bool"), "differs by 1"),
        (row(1, 2), row(1, 2, 3), r"expected float32 \[1, 3\], got float32 \[1, 2\]"),
        (row(1, dtype="float64"), row(1), "got float64"),
    ],
)
def test_beyond_tolerance(got: Array, expected: Array, said: str) -> None:
    with pytest.raises(GoldenMismatch, match=said):
        ask(got, expected)


def test_without_a_tolerance_only_equal_will_do() -> None:
    assert ask(row(1), row(1), tolerance=None) == 0.0
    with pytest.raises(GoldenMismatch):
        ask(np.nextafter(row(1), np.float32(2)), row(1), tolerance=None)


def test_a_missing_output() -> None:
    golden = Golden((GoldenCase({"features": mlp.features(1)}, {"logits": row(1)}),))
    with pytest.raises(GoldenMismatch, match="got nothing"):
        replay(Fixed({}), mlp.variant("onnxruntime"), golden)


def test_report_has_the_worst_of_all_cases() -> None:
    cases = tuple(GoldenCase({"features": mlp.features(1)}, {"logits": row(value)}) for value in (1.0, 1.0625, 0.96875))
    report = replay(Fixed({"logits": row(1)}), mlp.variant("onnxruntime", tolerance={"logits": 1.0}), Golden(cases))
    assert report.variant == "onnxruntime-fp32" and report.cases == 3
    assert report.max_abs == {"logits": 0.0625}
