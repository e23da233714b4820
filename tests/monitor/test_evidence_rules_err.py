"""Rules of thumb on windows without drift: how often they fire, beside the windowed test on the same windows."""

from __future__ import annotations

import numpy as np
import pytest
from drift_world import WORLDS, World
from scipy import stats

from shipworthy.monitor.evidence import WindowTest, effects, rules

RULES = ("p < .05 of any signal", "PSI > .1", "PSI > .2", "mean confidence", "class share", "ours")


def fired(world: World, windows: int, size: int, seed: int) -> dict[str, float]:
    """Share of windows in which each rule fires; each window with a reference of its own."""
    random = np.random.default_rng([seed, size])
    names = [signal.name for signal in world.signals]
    kinds = np.array([signal.kind for signal in world.signals])
    pool, found = world.pool, dict.fromkeys(RULES, 0)
    for window in range(windows):
        before, now = (pool[random.integers(len(pool), size=rows)] for rows in (1_000, size))
        numbers = np.flatnonzero(kinds == "number")
        p = min(stats.ks_2samp(before[:, place], now[:, place], method="asymp").pvalue for place in numbers)
        found["p < .05 of any signal"] += p < 0.05
        psi = rules.largest_psi({names[place]: tenths(before[:, place], now[:, place]) for place in numbers})
        assert psi is not None
        found["PSI > .1"] += psi.fires
        found["PSI > .2"] += psi.value > rules.PSI_LARGE
        if "confidence" in names:
            place = names.index("confidence")
            found["mean confidence"] += rules.mean_confidence(before[:, place].mean(), now[:, place].mean()).fires
        if "class" in names:
            place = names.index("class")
            counts = [effects.count_classes(rows[:, place], 10) for rows in (before, now)]
            share = rules.class_share([str(label) for label in range(11)], *counts)
            found["class share"] += share is not None and share.fires
        test = WindowTest(before, world.signals, size, seed=window)
        found["ours"] += bool(test.test(now).rejected.any())
    return {rule: count / windows for rule, count in found.items()}


def tenths(before: np.ndarray, now: np.ndarray) -> float:
    edges = np.unique(np.quantile(before, np.linspace(0.1, 0.9, 9)))
    return effects.psi(*(np.bincount(np.searchsorted(edges, rows), minlength=len(edges) + 1) for rows in (before, now)))


@pytest.mark.full
@pytest.mark.parametrize("name", WORLDS)
def test_rules_of_thumb_keep_no_rate(name: str) -> None:
    for size in (100, 500):
        found = fired(WORLDS[name](), 300, size, 1)
        print(f"{name}, windows of {size}: " + ", ".join(f"{rule} {share:.3f}" for rule, share in found.items()))
        assert found["p < .05 of any signal"] > 0.1
        assert found["ours"] <= 0.01
        if size == 100:
            assert found["PSI > .1"] > 0.1
