"""Rows of different callers: when they may share a batch, and what finds out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlp
import numpy as np
import pytest

from shipworthy.contract import Array, Arrays
from shipworthy.errors import EngineError
from shipworthy.package import Golden, GoldenCase
from shipworthy.predict import load, loading
from shipworthy.predict.mixing import rows_are_independent

Run = Callable[[Arrays], dict[str, Array]]


def golden(dtype: str = "float32", rows: int = 1) -> Golden:
    random = np.random.default_rng(1)
    values = random.normal(0, 9, (rows, 2, 5)).astype(dtype)
    return Golden((GoldenCase({"x": values[:, :1, :]}, {}), GoldenCase({"x": values}, {})))


def by_row(feeds: Arrays) -> dict[str, Array]:
    return {"y": feeds["x"].sum(axis=(1, 2))}


def by_range(feeds: Arrays) -> dict[str, Array]:
    """Quantized with one range for the whole batch."""
    x = feeds["x"].astype(np.float64)
    step = (x.max() - x.min()) / 255
    return {"y": (np.round(x / step) * step).sum(axis=(1, 2))}


def by_mean(feeds: Arrays) -> dict[str, Array]:
    return {"z": np.zeros(len(feeds["x"])), "y": (feeds["x"] - feeds["x"].mean(axis=0)).sum(axis=(1, 2))}


def fails_of_one(feeds: Arrays) -> dict[str, Array]:
    if len(np.unique(feeds["x"], axis=0)) > 1:
        raise EngineError("engine", "fails on one of the rows")
    return by_row(feeds)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("size", [2, 8])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_rows_that_do_not_know_of_each_other(dtype: str, rows: int, size: int) -> None:
    assert rows_are_independent(by_row, golden(dtype, rows), size)


@pytest.mark.parametrize("run", [by_range, by_mean, fails_of_one])
@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("rows", [1, 3])
def test_rows_that_show_in_each_other(run: Run, dtype: str, rows: int) -> None:
    assert not rows_are_independent(run, golden(dtype, rows), 8)


@pytest.mark.parametrize("variant", ["onnxruntime-fp32", "openvino-fp32"])
def test_engines_keep_rows_apart(variant: str, stored: Path) -> None:
    pytest.importorskip(variant.partition("-")[0])
    with load(stored, variant=variant) as predictor:
        assert predictor.mixes


def test_a_variant_that_does_not_is_served_without_mixing(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(loading, "rows_are_independent", lambda *given: False)
    with load(stored) as predictor:
        assert not predictor.mixes and predictor.padding is None
        rows = mlp.features(20)
        # One caller's own rows are still run in chunks of the measured sizes.
        np.testing.assert_allclose(predictor.run({"features": rows})["logits"], mlp.eager(rows), atol=1e-4)
