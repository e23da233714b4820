"""What is fitted in one pass is what the whole data has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shipworthy.contract import Array
from shipworthy.signals.moments import Directions, Moments, Range

TABLES = arrays(np.float64, (12, 3), elements=st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf]))


@settings(max_examples=60, deadline=None)
@given(table=TABLES, cuts=st.lists(st.integers(0, 12), max_size=3))
def test_chunks_give_the_moments_of_the_whole(table: Array, cuts: list[int]) -> None:
    moments, span = Moments(), Range()
    for chunk in np.split(table, sorted(cuts)):
        moments.see(chunk)
        span.see(chunk)
    for place, column in enumerate(table.T):
        valid = column[np.isfinite(column)]
        if not len(valid):
            assert span.bounds()[:, place].tolist() == [-np.inf, np.inf]
            continue
        scale = np.abs(valid).max() + 1e-300
        assert moments.mean[place] == pytest.approx(valid.mean(), abs=1e-12 * scale)
        deviation = moments.deviation(alike=False)[place]
        if valid.std() > 1e-9 * scale:
            assert deviation == pytest.approx(valid.std(), rel=1e-6)
        low, high = span.bounds()[:, place]
        assert low <= valid.min() and valid.max() <= high


def test_a_deviation_is_never_nothing() -> None:
    moments = Moments()
    moments.see(np.array([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]]))
    assert moments.deviation(alike=False).tolist() == [np.inf, pytest.approx(np.std([1, 3, 5]))]
    # Where the columns are alike, the one that never varies has a part of the deviation of all.
    overall = np.std([0.1, 0.1, 0.1, 1, 3, 5])
    assert moments.deviation(alike=True)[0] == pytest.approx(0.05 * overall)


def test_directions_are_those_of_the_covariance() -> None:
    random = np.random.default_rng(0)
    turned = np.linalg.qr(random.normal(size=(100, 100)))[0]
    table = random.normal(size=(2000, 100)) * (0.7 ** np.arange(100)) @ turned + 3
    directions = Directions()
    for chunk in np.split(table, 10):
        directions.see(chunk)
    found = directions.found()
    _, vectors = np.linalg.eigh(np.cov(table.T))
    assert found.shape == (100, 4)
    np.testing.assert_allclose(np.abs((found * vectors[:, ::-1][:, :4]).sum(0)), 1.0, atol=1e-3)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-9)


@pytest.mark.parametrize(("rows", "rank"), [(0, 0), (1, 0), (2, 1), (3, 2)])
def test_few_rows_have_few_directions(rows: int, rank: int) -> None:
    directions = Directions()
    directions.see(np.random.default_rng(0).normal(size=(rows, 8)))
    assert directions.found().shape == (8, rank)
