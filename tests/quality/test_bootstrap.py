"""Bounds by resampling: known answers, and what they refuse to say."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.stats import bootstrap

from shipworthy.contract import Array
from shipworthy.quality.bootstrap import (
    bca_upper,
    bootstrap_samples_needed,
    bootstrap_t_upper,
    carriers,
    grouped_differences,
    too_little,
)


def _values(count: int = 200) -> Array:
    return np.random.default_rng(0).gamma(2.0, 1.0, count)


def test_bca_is_that_of_an_independent_implementation() -> None:
    values = _values()

    def mean(rows: Array) -> float:
        return float(values[rows].mean())

    differences = grouped_differences(mean, 200, seed=0)
    found = bca_upper(mean, differences, 200, 0.95, seed=1)
    theirs = bootstrap((values,), np.mean, confidence_level=0.9, method="BCa", rng=np.random.default_rng(2))
    assert found == pytest.approx(theirs.confidence_interval.high, abs=0.03)


def test_the_bootstrap_t_bound_is_seeded_and_near_students_on_normal_values() -> None:
    values = np.random.default_rng(3).normal(1.0, 2.0, 400)
    first = bootstrap_t_upper(values, 0.95, seed=3)
    assert first == bootstrap_t_upper(values, 0.95, seed=3)
    assert first == pytest.approx(values.mean() + 1.649 * values.std(ddof=1) / 20, abs=0.02)


def test_many_values_take_no_longer_than_their_blocks() -> None:
    values = _values(200_003)
    start = time.perf_counter()
    upper = bootstrap_t_upper(values, 0.95, seed=0)
    assert time.perf_counter() - start < 5
    assert upper == pytest.approx(values.mean() + 1.645 * values.std() / math.sqrt(len(values)), abs=1e-3)


def test_carriers_count_the_values_that_matter() -> None:
    assert carriers(np.ones(50)) == pytest.approx(50)
    assert carriers(np.array([1.0] + [1e-6] * 49)) == pytest.approx(1, abs=1e-3)
    assert carriers(np.zeros(5)) == 0


@pytest.mark.parametrize(("values", "samples", "word"), [
    (np.zeros(100), 100, "differ enough"), (np.full(100, 1e-5), 100, "differ enough"),
    (np.array([1.0] * 5 + [0.0] * 95), 100, "fewer than 10 samples carry"), (_values(29), 29, "fewer than the 30"),
    (np.array([math.nan] * 100), 100, "not defined"), (_values(30), 30, None),
])  # fmt: skip
def test_what_says_too_little_is_told(values: Array, samples: int, word: str | None) -> None:
    why = too_little(values, samples, 0.01)
    assert (why is None) if word is None else (why is not None and word in why)


def test_a_metric_that_most_resamples_lack_has_no_bound() -> None:
    def drop(rows: Array) -> float:
        return float(rows.mean()) if 0 in rows and 1 in rows and 2 in rows else math.nan

    differences = np.random.default_rng(0).normal(size=50)
    assert bca_upper(drop, differences, 50, 0.95, seed=0, resamples=200) == math.inf


def test_bootstrap_samples_grow_with_the_square() -> None:
    assert bootstrap_samples_needed(drop=0.0, upper=0.02, samples=100, limit=0.01) == 400
    assert bootstrap_samples_needed(drop=0.02, upper=0.04, samples=100, limit=0.01) is None
