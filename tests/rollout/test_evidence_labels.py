"""Labels of shadow pairs that come late, for a part only, or as they please."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from benchmarks.rollout.streams import first
from test_evidence_peeking import ALPHA, EXPERIMENTS, PROMOTE, ROLLBACK, breaks, keeps, losses_differ

from shipworthy.rollout.evidence import Paired
from shipworthy.rollout.evidence.paired import promote_terms, rollback_terms

DELTA, STEPS, DISAGREE = 0.01, 4_000, 0.1
NEVER = STEPS
Delays = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def late(rng: np.random.Generator, z: np.ndarray) -> np.ndarray:
    """All come, after 300 samples in the mean."""
    return rng.geometric(1 / 300, z.shape)


def a_part(rng: np.random.Generator, z: np.ndarray) -> np.ndarray:
    """Nine of ten come, at once or late."""
    return np.where(rng.random(z.shape) < 0.9, rng.geometric(1 / 50, z.shape), NEVER)


def good_news_first(rng: np.random.Generator, z: np.ndarray) -> np.ndarray:
    """Where the new version was right the label comes at once; where it was wrong seldom, and late."""
    bad = np.where(rng.random(z.shape) < 0.2, rng.geometric(1 / 500, z.shape), NEVER)
    return np.where(z < 0, 1, bad)


def bad_news_first(rng: np.random.Generator, z: np.ndarray) -> np.ndarray:
    return good_news_first(rng, -z)


DELAYS = [late, a_part, good_news_first, bad_news_first]


def paths(z: np.ndarray, delays: np.ndarray, side: int) -> np.ndarray:
    """Log wealth after each sample, with the worst case for what is open: [experiments, steps, bets]."""
    terms = promote_terms if side == PROMOTE else rollback_terms
    values = np.array([-1.0, 0.0, 1.0])
    table = terms(values, DELTA)
    worst = table[2 if side == PROMOTE else 0]
    steps = np.where((z != 0)[..., None], worst, table[1])
    experiment, at = np.nonzero(z)
    comes = at + delays[experiment, at]
    seen = comes < STEPS
    experiment, at, comes = experiment[seen], at[seen], comes[seen]
    np.add.at(steps, (experiment, comes), table[z[experiment, at].astype(int) + 1] - worst)
    return np.cumsum(steps, axis=1)


def wrong(delays: Delays, side: int, experiments: int, seed: int, difference: float = DELTA) -> int:
    rng = np.random.default_rng(seed)
    count = 0
    for start in range(0, experiments, 50):
        here = min(50, experiments - start)
        z = losses_differ(DISAGREE, difference)(rng, here, np.arange(STEPS))
        count += int((first(paths(z, delays(rng, z), side), ALPHA) < STEPS).sum())
    return count


@pytest.mark.parametrize("side", [PROMOTE, ROLLBACK], ids=["promote", "rollback"])
@pytest.mark.parametrize("delays", DELAYS)
def test_verdicts_keep_alpha_whenever_labels_come(delays: Delays, side: int, effort: float) -> None:
    experiments = round(EXPERIMENTS * effort)
    keeps(wrong(delays, side, experiments, seed=31), experiments)


@pytest.mark.parametrize("side", [PROMOTE, ROLLBACK], ids=["promote", "rollback"])
def test_leaving_out_what_has_no_label_does_not(side: int, effort: float) -> None:
    """Pairs that are labelled, taken for all: the share of good news among them is not the share of good answers."""
    experiments = round(500 * effort) + 25
    rng = np.random.default_rng(32)
    delays = good_news_first if side == PROMOTE else bad_news_first
    z = losses_differ(DISAGREE, DELTA)(rng, experiments, np.arange(STEPS))
    labelled = np.where(np.arange(STEPS) + delays(rng, z) < STEPS, z, 0)
    terms = (promote_terms if side == PROMOTE else rollback_terms)(np.array([-1.0, 0.0, 1.0]), DELTA)
    passed = first(np.cumsum(terms[labelled.astype(int) + 1], axis=1), ALPHA) < STEPS
    breaks(int(passed.sum()), experiments, 0.5)


@pytest.mark.parametrize("delays", [late, a_part])
def test_a_better_version_is_promoted_all_the_same(delays: Delays, effort: float) -> None:
    experiments = round(200 * effort) + 20
    assert wrong(delays, PROMOTE, experiments, seed=33, difference=-0.04) >= 0.9 * experiments


@pytest.mark.parametrize("side", [PROMOTE, ROLLBACK], ids=["promote", "rollback"])
def test_what_is_shown_is_never_above_what_all_labels_would_show(side: int) -> None:
    rng = np.random.default_rng(34)
    z = losses_differ(DISAGREE, DELTA)(rng, 20, np.arange(STEPS))
    terms = (promote_terms if side == PROMOTE else rollback_terms)(np.array([-1.0, 0.0, 1.0]), DELTA)
    known = np.cumsum(terms[z.astype(int) + 1], axis=1)
    for delays in DELAYS:
        assert (paths(z, delays(rng, z), side) <= known + 1e-9).all()


def test_pairs_and_their_arrays_agree() -> None:
    """The class, sample by sample, is the array that is simulated above."""
    rng = np.random.default_rng(35)
    z = losses_differ(DISAGREE, DELTA)(rng, 1, np.arange(STEPS))
    delays = a_part(rng, z)
    pairs = Paired(DELTA)
    promote, rollback = paths(z, delays, PROMOTE)[0], paths(z, delays, ROLLBACK)[0]
    due: dict[int, list[float]] = {}
    for at, value in enumerate(z[0].tolist()):
        if value:
            pairs.add_open()
            due.setdefault(at + int(delays[0, at]), []).append(value)
        else:
            pairs.add(0.0)
        for label in due.pop(at, ()):
            pairs.settle(1.0, label)
        if at % 500 == 499:
            np.testing.assert_allclose(pairs.promote, promote[at], rtol=0, atol=1e-9)
            np.testing.assert_allclose(pairs.rollback, rollback[at], rtol=0, atol=1e-9)
    assert pairs.open == sum(map(len, due.values())) > 0


def test_a_number_counts_by_how_far_the_answers_are_apart() -> None:
    """Regression: |z| <= |new - old|/scale, so answers that are close cannot do much harm before the label comes."""
    rng = np.random.default_rng(36)
    truth = rng.normal(size=2_000)
    old, new = truth + rng.normal(0, 0.3, 2_000), truth + rng.normal(0, 0.3, 2_000)
    bounds = np.minimum(1, np.abs(new - old) / 2)
    z = np.minimum(1, np.abs(new - truth) / 2) - np.minimum(1, np.abs(old - truth) / 2)
    opened, settled, known = Paired(DELTA), Paired(DELTA), Paired(DELTA)
    for pairs in (opened, settled):
        pairs.add_open(bounds)
    settled.settle(bounds, z)
    known.add(z)
    np.testing.assert_allclose(settled.promote, known.promote, rtol=0, atol=1e-9)
    np.testing.assert_allclose(settled.rollback, known.rollback, rtol=0, atol=1e-9)
    assert (opened.promote < known.promote).all()
    assert (opened.rollback < known.rollback).all()
    assert (settled.open, settled.better + settled.worse, opened.open) == (0, 2_000, 2_000)


def test_without_labels_agreement_alone_promotes() -> None:
    pairs = Paired(DELTA)
    needed = pairs.needed(ALPHA)
    assert needed == 533
    pairs.add(0.0, count=needed - 1)
    assert pairs.log_promote < np.log(20)
    pairs.add(0.0)
    assert pairs.log_promote >= np.log(20)
    assert pairs.needed(ALPHA) == 0


@pytest.mark.parametrize(("delta", "needed"), [(0.005, 1068), (0.01, 533), (0.02, 265)])
def test_how_many_pairs_have_to_agree(delta: float, needed: int) -> None:
    assert Paired(delta).needed(ALPHA) == needed
