"""One step of each bet, by enumeration: what the whole promise rests on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from shipworthy.rollout.evidence import Ratio, paired, unpaired
from shipworthy.rollout.evidence.bets import mix, reach

DELTAS = (0.005, 0.01, 0.02, 0.2)
SHARES = (0.01, 0.05, 0.25, 0.5, 0.9)


def expectation(outcomes: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """Of the factors: [(probability, log factors [K])] -> [K]."""
    assert sum(probability for probability, _ in outcomes) == pytest.approx(1)
    return sum(probability * np.exp(terms) for probability, terms in outcomes)  # type: ignore[return-value]


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("disagreement", [0.2, 0.5, 1.0])
def test_a_pair_at_the_boundary_is_a_fair_bet(delta: float, disagreement: float) -> None:
    """mean z = delta: the factor's expectation is exactly 1, of each bet of both sides."""
    worse, better = (disagreement + delta) / 2, (disagreement - delta) / 2
    chances = [(worse, 1.0), (better, -1.0), (1 - disagreement, 0.0)]
    for terms in (paired.promote_terms, paired.rollback_terms):
        np.testing.assert_allclose(expectation([(p, terms(z, delta)) for p, z in chances]), 1, atol=1e-12)


def test_a_pair_of_graded_losses_at_the_boundary_is_a_fair_bet() -> None:
    z = np.linspace(-1, 1, 9)
    tilt = np.exp(np.linspace(0, 2, 9))
    chances = tilt / tilt.sum()
    delta = float(chances @ z)
    assert 0 < delta < 1
    for terms in (paired.promote_terms, paired.rollback_terms):
        np.testing.assert_allclose(chances @ np.exp(terms(z, delta)), 1, atol=1e-12)


@pytest.mark.parametrize("mean", [-0.1, 0.0, 0.01, 0.05, 0.3])
def test_a_pair_within_the_null_loses_on_average(mean: float) -> None:
    delta = 0.01
    chances = [((0.4 + mean) / 2, 1.0), ((0.4 - mean) / 2, -1.0), (0.6, 0.0)]
    promote = expectation([(p, paired.promote_terms(z, delta)) for p, z in chances])
    rollback = expectation([(p, paired.rollback_terms(z, delta)) for p, z in chances])
    assert (promote <= 1 + 1e-12).all() == (mean >= delta)
    assert (rollback <= 1 + 1e-12).all() == (mean <= delta)


@pytest.mark.parametrize("terms", [paired.promote_terms, paired.rollback_terms])
def test_factors_of_pairs_are_positive_and_monotonic(terms: object) -> None:
    """Positive, so wealth is never lost for good; monotonic in z, which makes the imputed worst case the worst."""
    factors = terms(np.linspace(-1, 1, 101), 0.005)  # type: ignore[operator]
    assert np.isfinite(factors).all()
    steps = np.diff(factors, axis=0)
    assert (steps < 0).all() if terms is paired.promote_terms else (steps > 0).all()


@pytest.mark.parametrize("delta", [0.0, *DELTAS])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("base", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("guess", [0.0, 0.1, 0.7, 1.0])
def test_a_request_at_the_boundary_is_a_fair_bet(delta: float, share: float, base: float, guess: float) -> None:
    """Whatever the share, the loss of the old version and the guess of it are."""
    rates = {False: base, True: base + delta}
    for sign in (1, -1):
        outcomes = []
        for new, y in itertools.product((False, True), (0.0, 1.0)):
            chance = (share if new else 1 - share) * (rates[new] if y else 1 - rates[new])
            x = unpaired.scores(new, np.array(share), np.array(y), np.array(guess), delta)
            outcomes.append((chance, np.log1p(sign * unpaired.GRID * x)))
        np.testing.assert_allclose(expectation(outcomes), 1, atol=1e-12)


def test_factors_of_requests_are_positive() -> None:
    share, y, b = np.meshgrid(np.linspace(1e-4, 1 - 1e-4, 201), [0.0, 0.3, 1.0], [0.0, 0.5, 1.0])
    for new, delta in itertools.product((False, True), (0.0, 0.02, 0.9)):
        assert (np.abs(unpaired.scores(new, share, y, b, delta)) < 1).all()


@pytest.mark.parametrize("share", SHARES)
def test_an_event_at_the_boundary_is_a_fair_bet(share: float) -> None:
    """Given an event, it is on the new version with q = pi rho/(pi rho + 1 - pi); and below rho the bet loses."""
    guardrail, sample = Ratio.guardrail(), Ratio.sample_ratio()
    for ratio, truth, fair in ((guardrail, 1.5, True), (guardrail, 1.0, False), (sample, 1.0, True)):
        q = share * truth / (share * truth + 1 - share)
        mean = expectation([(q, ratio.terms(share, new=True)), (1 - q, ratio.terms(share, new=False))])
        if fair:
            np.testing.assert_allclose(mean, 1, atol=1e-12)
        else:
            assert (mean < 1).all()


@pytest.mark.parametrize("share", SHARES)
def test_terms_of_events_are_log_likelihood_ratios(share: float) -> None:
    ratio = Ratio.guardrail()
    q0 = share * 1.5 / (share * 1.5 + 1 - share)
    q = np.array([share * r / (share * r + 1 - share) for r in ratio.alternatives])
    np.testing.assert_allclose(ratio.terms(share, new=True), np.log(q / q0), atol=1e-12)
    np.testing.assert_allclose(ratio.terms(share, new=False), np.log((1 - q) / (1 - q0)), atol=1e-12)


@pytest.mark.parametrize("old_rate", [0.01, 0.2, 0.6])
@pytest.mark.parametrize("together", [0.0, 0.5, 1.0])
def test_pairs_of_events_are_no_better_than_fair(old_rate: float, together: float) -> None:
    """Shadow: both versions do the same work, and are slow or fail as alike as may be, or apart."""
    ratio = Ratio.guardrail()
    new_rate = 1.5 * old_rate
    least, most = max(0.0, old_rate + new_rate - 1), min(old_rate, new_rate)
    both = least + together * (most - least)
    chances = {(1, 1): both, (0, 1): new_rate - both, (1, 0): old_rate - both}
    chances[0, 0] = 1 - sum(chances.values())
    terms = [old * ratio.terms(0.5, new=False) + new * ratio.terms(0.5, new=True) for old, new in chances]
    assert (expectation(list(zip(chances.values(), terms, strict=True))) <= 1 + 1e-12).all()


def test_the_mean_of_bets_is_a_bet() -> None:
    wealth = np.array([[0.5, 1.5, 4.0], [1e-3, 1e3, 1.0]])
    np.testing.assert_allclose(mix(np.log(wealth)), np.log(wealth.mean(axis=1)))
    assert mix(np.full(3, 2000.0)) == pytest.approx(2000)


def test_reach_is_the_fewest_steps() -> None:
    growth = np.array([0.0, 0.01, -0.5])
    steps = reach(np.zeros(3), growth, 0.05)
    assert steps is not None
    assert mix(steps * growth) >= np.log(20) > mix((steps - 1) * growth)
    assert reach(np.full(3, 5.0), growth, 0.05) == 0
    assert reach(np.zeros(3), np.array([0.0, -0.1, -0.5]), 0.05) is None
