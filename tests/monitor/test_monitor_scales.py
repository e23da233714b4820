"""How values are counted for pictures, distances and PSI; and latency."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shipworthy.contract import Array
from shipworthy.monitor.evidence.effects import ks_distance
from shipworthy.monitor.latency import EDGES_S, SIZE, counts_of, quantiles_ms
from shipworthy.monitor.scales import Scale, Scales
from shipworthy.monitor.viewing import distance_of, psi_of
from shipworthy.signals import Reference, Signal

NUMBER = Signal("x", "number", "inputs", "x")
VALUES = arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e9, 1e9) | st.just(np.nan) | st.integers(0, 3))


@settings(max_examples=30)
@given(reference=VALUES, live=VALUES)
def test_every_value_has_a_bin(reference: Array, live: Array) -> None:
    scales = Scales.of(Reference((NUMBER,), np.sort(reference)[:, None]))
    (scale,) = scales.each
    assert scale.size == len(scale.edges) + 2
    assert (np.diff(scale.edges) > 0).all()
    assert scales.reference.sum() == len(reference)
    # Beyond the edges there is nothing of the reference.
    assert (scales.reference[0] == 0 and scales.reference[-2] == 0) or not len(reference[~np.isnan(reference)])
    counts = scales.count(live[:, None])
    assert counts.sum() == len(live) and counts[-1] == np.isnan(live).sum()


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0, 9.0])
def test_the_distance_of_counts_is_nearly_that_of_the_values(shift: float) -> None:
    random = np.random.default_rng(0)
    reference, live = np.sort(random.normal(size=1000)), random.normal(size=700) + shift
    scales = Scales.of(Reference((NUMBER,), reference[:, None]))
    exact = ks_distance(reference, live)
    counted = distance_of("number", scales.reference, scales.count(live[:, None]))
    assert exact - 0.025 <= counted <= exact + 1e-9


def test_psi_is_read_from_tenths_of_the_reference() -> None:
    random = np.random.default_rng(1)
    reference = np.sort(random.normal(size=10_000))
    scales = Scales.of(Reference((NUMBER,), reference[:, None]))
    same, moved = (scales.count(random.normal(size=(10_000, 1)) + shift) for shift in (0.0, 0.5))
    assert psi_of(scales.reference, same, numbers=True) < 0.01
    # Of two normal distributions, half a deviation apart, whose index without bins is 0.25.
    assert psi_of(scales.reference, moved, numbers=True) == pytest.approx(0.25, abs=0.03)
    assert psi_of(scales.reference, np.zeros_like(same), numbers=True) == 0


def test_classes_and_shares() -> None:
    classes = Scale.of(Signal("class", "class", "answers", "class", classes=("a", "b")), np.array([0.0, 1.0]))
    assert classes.place(np.array([0, 1, 2, -1, np.nan])).tolist() == [0, 1, 2, 2, 2]
    share = Scale.of(Signal("missing", "share", "inputs", "missing"), np.zeros(3))
    assert share.place(np.array([0.0, 1.0, np.nan])).tolist() == [0, 1, 2]
    assert share.classes == ("no", "yes")
    unnamed = Scale.of(Signal("class", "class", "answers", "class"), np.array([0.0, 2.0, np.nan]))
    assert unnamed.classes == ("0", "1", "2", "other")
    assert unnamed.place(np.array([2.0, 7.0, np.nan])).tolist() == [2, 3, 4]


def test_latency_counts_add_and_tell_quantiles() -> None:
    seconds = np.random.default_rng(0).lognormal(-5, 1, 20_000)
    parts = [counts_of(part) for part in np.array_split(seconds, 3)]
    counts = np.sum(parts, axis=0)
    assert len(counts) == SIZE and counts.sum() == 20_000
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        assert quantiles_ms(counts.tolist())[name] == pytest.approx(1000 * np.quantile(seconds, share), rel=0.04)
    assert quantiles_ms([]) == quantiles_ms([0] * SIZE) == {}


def test_strange_latencies() -> None:
    counts = counts_of(np.array([np.nan, np.inf, -1.0, 0.0, 1e9]))
    assert counts.sum() == 3
    assert 0 < quantiles_ms(counts.tolist())["p50"] <= 1000 * EDGES_S[-1]
