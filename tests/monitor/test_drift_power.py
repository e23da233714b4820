"""How soon a change is seen, on images of digits with a small model."""

from __future__ import annotations

import numpy as np
import pytest
from drift_shifts import SHIFTS, delays, windows_until
from drift_world import classification
from scipy.stats import mannwhitneyu

CAP = 5_000
MEDIANS = {
    "noise 1, all": 69,
    "noise 2, half": 69,
    "noise 4, a tenth": 268,
    "rotation, a tenth": 441,
    "contrast, a tenth": 218,
}
"""Delays when the formulas were chosen, at a run length of 10,000 and with 1,000 samples of reference."""


def told(name: str, found: np.ndarray) -> float:
    """The median, printed with the tenths on both sides."""
    low, median, high = np.nanquantile(found, [0.1, 0.5, 0.9])
    print(f"{name}: {median:,.0f} ({low:,.0f}-{high:,.0f}), {(found >= CAP).sum()} of {len(found)} not within {CAP:,}")
    return float(median)


@pytest.mark.long
@pytest.mark.parametrize("name", MEDIANS)
def test_delays_are_those_that_the_formulas_were_chosen_for(name: str, effort: float) -> None:
    streams, cap = (40, CAP) if effort == 1 else (3, 1_000)
    found = delays(classification(), name, streams, 1e4, 1_000, cap, 1_000)
    assert told(f"{name}, run length 10,000", found) <= 1.3 * MEDIANS[name]


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SHIFTS)
def test_delays_at_the_usual_run_length(name: str) -> None:
    """For the table in docs/drift-statistics.md; what is slowest is a tenth of the requests moved by one pixel."""
    world = classification()
    small = delays(world, name, 40, 1e6, 300, CAP, 1_000)
    large = delays(world, name, 40, 1e6, 1_000, CAP, 1_000)
    told(f"{name}, reference of 300", small)
    median = told(f"{name}, reference of 1,000", large)
    told(f"{name}, windows, in samples", 500 * np.minimum(windows_until(world, name, 40, 1_000, 10), 10))
    # Forty delays scatter: a larger reference may look slower, but not be slower by more than a fifth.
    assert median <= 4_000
    assert mannwhitneyu(large, 1.2 * small, alternative="greater").pvalue > 0.001


@pytest.mark.full
def test_a_larger_reference_is_quicker() -> None:
    world = classification()
    medians = [np.median(delays(world, "noise 4, a tenth", 7, 1e4, samples, 2_000, 0)) for samples in (64, 2_000)]
    assert medians[1] < medians[0]
