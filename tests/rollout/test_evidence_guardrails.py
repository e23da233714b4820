"""Guardrails and sample ratios: how often they err, and how soon they see what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.rollout.guardrails import passed_at, requests
from benchmarks.rollout.streams import Array, Rate, diurnal, first, fixed, ramp
from test_evidence_peeking import breaks, keeps

from shipworthy.rollout.evidence import Ratio, Threshold

GUARD, MISMATCH = 0.01, 0.001


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_errors_at_the_boundary(share: float, effort: float) -> None:
    """Only errors are drawn, as nothing else moves the process: 1,000 in each experiment."""
    experiments = round(8_000 * effort)
    ratio, rng = Ratio.guardrail(), np.random.default_rng(41)
    terms = np.stack([ratio.terms(share, new=False), ratio.terms(share, new=True)])
    on_new = 1.5 * share / (1.5 * share + 1 - share)
    wrong = 0
    for _ in range(0, experiments, 200):
        paths = np.cumsum(terms[(rng.random((200, 1_000)) < on_new).astype(int)], axis=1)
        wrong += int((first(paths, GUARD) < 1_000).sum())
    keeps(wrong, experiments, GUARD)


def test_errors_at_the_boundary_of_a_ramp_where_their_rate_moves(effort: float) -> None:
    experiments = round(2_000 * effort)
    rng = np.random.default_rng(42)
    streams = (requests(rng, ramp, diurnal(0.002, 0.1, 10_000), 1.5, 20_000) for _ in range(experiments))
    keeps(sum(passed_at(Ratio.guardrail(), *stream, GUARD) is not None for stream in streams), experiments, GUARD)


@pytest.mark.parametrize(
    ("base", "times", "median"),
    [(0.01, 2, 33_600), (0.01, 3, 11_800), (0.01, 10, 3_500), (0.001, 5, 17_700), (0.001, 10, 10_800)],
)
def test_errors_fire_on_a_ramp(base: float, times: float, median: float, effort: float) -> None:
    """The figures are for alpha .05; at a guardrail's .01 it takes longer, by half at most."""
    runs = max(40, round(300 * effort))
    rng = np.random.default_rng(43)
    streams = [requests(rng, ramp, fixed(base), times, 100_000) for _ in range(runs)]
    usual, strict = (
        np.median(
            [100_000 if (at := passed_at(Ratio.guardrail(), *stream, alpha)) is None else at for stream in streams]
        )
        for alpha in (0.05, GUARD)
    )
    # The median of few runs scatters by itself.
    slack = 1.3 if effort == 1 else 1.7
    assert median / slack <= usual <= median * slack
    assert usual <= strict <= 1.6 * usual


def test_twice_as_many_of_rare_errors_are_mostly_not_seen(effort: float) -> None:
    runs = max(30, round(200 * effort))
    rng = np.random.default_rng(50)
    found = [passed_at(Ratio.guardrail(), *requests(rng, ramp, fixed(0.001), 2, 100_000), GUARD) for _ in range(runs)]
    assert sum(at is None for at in found) > 0.5 * runs


def loads(rng: np.random.Generator, steps: int) -> Array:
    """What all latencies of a moment share: it wanders, and stays for hundreds of requests."""
    noise = rng.normal(0, 0.03, steps)
    level = 0.0
    found = np.empty(steps)
    for at, step in enumerate(noise.tolist()):
        level = 0.995 * level + step
        found[at] = level
    return found


def timed(rng: np.random.Generator, share: float, times: float, steps: int) -> tuple[Array, Array, Array]:
    """new [steps], seconds [steps], and whether each was slow (-1 where there was no limit yet)."""
    new = rng.random(steps) < share
    seconds = 0.01 * np.exp(loads(rng, steps) + rng.normal(0, 0.3, steps)) * np.where(new, times, 1)
    threshold = Threshold()
    slow = [threshold.slow(*one) for one in zip(seconds.tolist(), new.tolist(), strict=True)]
    return new, seconds, np.array([-1 if one is None else int(one) for one in slow])


def fires(new: Array, slow: Array, share: float) -> int | None:
    """After how many requests of the new version that had a limit."""
    judged = slow >= 0
    new, slow = new[judged], slow[judged]
    at = passed_at(Ratio.guardrail(), new, np.full(len(new), share), slow == 1, GUARD)
    return None if at is None else int(new[: at + 1].sum())


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_latency_of_an_equal_version_under_load_that_wanders(share: float, effort: float) -> None:
    experiments = round(1_000 * effort)
    rng = np.random.default_rng(44)
    wrong = naive = 0
    for _ in range(experiments):
        new, seconds, slow = timed(rng, share, 1.0, 6_000)
        wrong += fires(new, slow, share) is not None
        naive += a_fixed_rule_fires(new, seconds)
    keeps(wrong, experiments, GUARD)
    if share == 0.05:
        breaks(naive, experiments, 0.5)


def a_fixed_rule_fires(new: Array, seconds: Array) -> bool:
    """ "p95 of the last 100 above 1.2 times the other version's": those of the new one are of a longer time."""
    arrivals, others = np.flatnonzero(new), np.flatnonzero(~new)
    for end in range(100, len(arrivals), 20):
        before = others[others < arrivals[end]][-100:]
        if np.quantile(seconds[arrivals[end - 100 : end]], 0.95) > 1.2 * np.quantile(seconds[before], 0.95):
            return True
    return False


@pytest.mark.parametrize(("times", "within"), [(1.5, 60), (2, 20)])
def test_a_slow_version_is_seen_soon(times: float, within: int, effort: float) -> None:
    runs = round(100 * effort) + 20
    rng = np.random.default_rng(45)
    found = [fires(new, slow, 0.25) for new, _, slow in (timed(rng, 0.25, times, 3_000) for _ in range(runs))]
    assert None not in found
    assert np.median([at for at in found if at is not None]) <= within


def test_shadow_pairs_that_are_slow_together_do_not_fire(effort: float) -> None:
    experiments = round(1_000 * effort)
    rng = np.random.default_rng(46)
    ratio = Ratio.guardrail()
    wrong = 0
    for _ in range(experiments):
        u = rng.random(10_000)
        old, new = u < 0.1, np.where(rng.random(10_000) < 0.5, u, rng.random(10_000)) < 0.15
        steps = old[:, None] * ratio.terms(0.5, new=False) + new[:, None] * ratio.terms(0.5, new=True)
        wrong += int(first(np.cumsum(steps, axis=0)[None], GUARD)[0]) < 10_000
    keeps(wrong, experiments, GUARD)


@pytest.mark.parametrize("share", [fixed(0.5), fixed(0.05), ramp], ids=["half", "5 %", "ramp"])
def test_sample_ratio_as_it_should_be(share: Rate, effort: float) -> None:
    experiments = round(1_000 * effort)
    rng = np.random.default_rng(47)
    wrong = 0
    for _ in range(experiments):
        new, shares, all_ = requests(rng, share, fixed(1.0), 1.0, 10_000)
        wrong += passed_at(Ratio.sample_ratio(), new, shares, all_, MISMATCH) is not None
    keeps(wrong, experiments, MISMATCH)


@pytest.mark.parametrize(("truth", "within"), [(0.55, 5_000), (0.45, 5_000), (0.52, 30_000)])
def test_sample_ratio_that_is_off_is_seen(truth: float, within: int, effort: float) -> None:
    """Logged as one half, drawn otherwise."""
    runs = round(40 * effort) + 10
    rng = np.random.default_rng(48)
    share, all_ = np.full(within, 0.5), np.ones(within, bool)
    found = [passed_at(Ratio.sample_ratio(), rng.random(within) < truth, share, all_, MISMATCH) for _ in range(runs)]
    assert sum(at is not None for at in found) >= 0.9 * runs


def test_labels_that_depend_on_the_arm_are_seen() -> None:
    """Every request is labelled on one version, four of five on the other."""
    rng = np.random.default_rng(49)
    new = rng.random(20_000) < 0.5
    labelled = ~new | (rng.random(20_000) < 0.8)
    ratio = Ratio.sample_ratio()
    ratio.observe(new[labelled], 0.5)
    assert ratio.log_e > np.log(3 / MISMATCH)
    assigned = Ratio.sample_ratio()
    assigned.observe(new, 0.5)
    assert assigned.log_e < 0
