"""Wrong verdicts where one looks after every sample: evidence keeps its alpha, a z-test beside it does not.

Every experiment stands at the boundary: the true difference is delta."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.rollout import naive
from benchmarks.rollout.streams import (
    Pairs,
    Requests,
    Stream,
    alternating,
    canary,
    diurnal,
    first,
    fixed,
    losses_differ,
    ramp,
    share_passed,
    sticky,
)

from shipworthy.rollout.evidence import Paired, Unpaired, judge, state
from shipworthy.rollout.evidence.bets import bar
from shipworthy.rollout.seen import first_in_batch

ALPHA = 0.05
EXPERIMENTS = 2_000
PROMOTE, ROLLBACK = 0, 1
SIDES = pytest.mark.parametrize("side", [PROMOTE, ROLLBACK], ids=["promote", "rollback"])


def keeps(wrong: int, experiments: int, alpha: float = ALPHA) -> None:
    """At most alpha and three standard errors; of verdicts, in full, all of the 95 % interval is at most alpha."""
    assert wrong / experiments <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / experiments)
    if experiments >= EXPERIMENTS and alpha == ALPHA:
        assert binomtest(wrong, experiments).proportion_ci(0.95, "exact").high <= alpha


def breaks(wrong: int, experiments: int, at_least: float) -> None:
    """Above `at_least`, which itself is far above alpha, and so is the 99 % interval."""
    assert wrong / experiments >= at_least
    assert binomtest(wrong, experiments).proportion_ci(0.99, "exact").low > 2 * ALPHA


@pytest.fixture
def experiments(effort: float) -> int:
    return round(EXPERIMENTS * effort)


PAIRED: dict[str, Stream] = {
    "1 % disagree": losses_differ(0.01, 0.01),
    "5 % disagree": losses_differ(0.05, 0.01),
    "20 % disagree": losses_differ(0.2, 0.01),
}


@SIDES
@pytest.mark.parametrize("name", PAIRED)
def test_shadow_at_the_boundary(name: str, side: int, experiments: int) -> None:
    wrong = share_passed(PAIRED[name], Pairs(0.01), side, experiments=experiments, limit=10_000, seed=11)
    keeps(wrong, experiments)


def test_shadow_better_than_the_boundary_is_hardly_rolled_back(experiments: int) -> None:
    """An equal version, and one that is better: rollback is wrong there too, and rarer."""
    for difference in (0.0, -0.01):
        stream = losses_differ(0.05, difference)
        wrong = share_passed(stream, Pairs(0.01), ROLLBACK, experiments=experiments, limit=5_000, seed=12)
        keeps(wrong, experiments)
        assert wrong <= 0.01 * experiments


@SIDES
def test_shadow_where_the_difference_alternates(side: int, experiments: int) -> None:
    """The running mean is never beyond the boundary, the present mean is half of the time: fixed bets hold."""
    far = 0.06 if side == PROMOTE else -0.04
    stream = losses_differ(0.1, alternating(far, 0.02 - far, 400))
    keeps(share_passed(stream, Pairs(0.01), side, experiments=experiments, limit=10_000, seed=13), experiments)


def test_bets_that_follow_the_running_mean_are_fooled_there(experiments: int) -> None:
    """Why bets are fixed: one that bets on the mean of the last 100 wins from a null that holds."""
    runs, steps, delta = min(experiments, 200), 10_000, 0.01
    rng = np.random.default_rng(14)
    z = losses_differ(0.1, alternating(-0.04, 0.06, 400))(rng, runs, np.arange(steps)).astype(np.float64)
    sums = np.concatenate([np.zeros((runs, 1)), np.cumsum(z, axis=1)], axis=1)
    late = np.arange(steps)
    mean = (sums[:, late] - sums[:, np.maximum(late - 100, 0)]) / np.clip(late, 1, 100)
    bet = np.clip((mean - delta) / 0.1, 0, 0.9 / (1 + delta))
    wealth = np.cumsum(np.log1p(bet * (z - delta)), axis=1)
    breaks(int((wealth >= bar(ALPHA)).any(axis=1).sum()), runs, 0.5)


@SIDES
def test_a_z_test_of_pairs_errs_far_more(side: int, experiments: int) -> None:
    z = PAIRED["5 % disagree"](np.random.default_rng(15), min(experiments, 500), np.arange(20_000))
    breaks(int(naive.pairs_pass(z, 0.01)[side].sum()), len(z), 0.2)


CANARIES: dict[str, Stream] = {
    "half": canary(fixed(0.5), fixed(0.1), 0.02),
    "5 %": canary(fixed(0.05), fixed(0.1), 0.02),
    "ramp, diurnal": canary(ramp, diurnal(0.02, 0.3, 20_000), 0.02),
    "half, alternating": canary(fixed(0.5), alternating(0.02, 0.5, 500), 0.02),
}


@SIDES
@pytest.mark.parametrize("name", CANARIES)
def test_canary_at_the_boundary(name: str, side: int, experiments: int) -> None:
    # The ramp is at its end after 20,000 requests, so it goes on for longer.
    limit = 25_000 if "ramp" in name and experiments == EXPERIMENTS else 10_000
    wrong = share_passed(CANARIES[name], Requests(0.02), side, experiments=experiments, limit=limit, seed=16)
    keeps(wrong, experiments)


def test_canary_better_than_the_boundary_is_hardly_rolled_back(experiments: int) -> None:
    runs = max(30, experiments // 4)
    for difference in (0.0, -0.02):
        stream = canary(ramp, diurnal(0.05, 0.3, 20_000), difference)
        wrong = share_passed(stream, Requests(0.02), ROLLBACK, experiments=runs, limit=15_000, seed=17)
        keeps(wrong, runs)
        assert wrong <= 0.03 * runs


@SIDES
def test_pooled_counts_of_a_ramp_compare_mornings_with_evenings(side: int, experiments: int) -> None:
    """Simpson's paradox: the new version has most of its requests when all do well, or badly."""
    runs = max(20, experiments // 10)
    rates = (0.3, 0.02) if side == PROMOTE else (0.02, 0.3)
    stream = canary(ramp, diurnal(*rates, 60_000), 0.02)
    new, _, y = stream(np.random.default_rng(18), runs, np.arange(30_000))
    breaks(int(naive.requests_pass(new, y, 0.02)[side].sum()), runs, 0.8)
    keeps(share_passed(stream, Requests(0.02), side, experiments=runs, limit=30_000, seed=18), runs)


@SIDES
def test_a_z_test_of_requests_errs_far_more(side: int, experiments: int) -> None:
    runs = min(experiments, 500)
    new, _, y = CANARIES["half"](np.random.default_rng(19), runs, np.arange(20_000))
    breaks(int(naive.requests_pass(new, y, 0.02)[side].sum()), runs, 0.2)


@SIDES
def test_requests_of_sticky_callers_are_no_samples(side: int, experiments: int) -> None:
    """A caller who stays on one version is one draw, however many requests: the first counts, the others do not."""
    runs = max(40, experiments // 4)
    every, once = sticky(100, 0.02, once=False), sticky(10_000, 0.02, once=True)
    breaks(share_passed(every, Requests(0.02), side, experiments=runs, limit=20_000, seed=20), runs, 0.2)
    keeps(share_passed(once, Requests(0.02), side, experiments=runs, limit=20_000, seed=20), runs)


def rows_alike(rows: int, stream: Stream) -> Stream:
    """Requests of so many instances each, all of them alike: what the stream gives, so many times in a row."""

    def repeated(rng: np.random.Generator, experiments: int, at: np.ndarray) -> Any:
        requests = stream(rng, experiments, np.arange(-(-len(at) // rows)))
        parts = requests if isinstance(requests, tuple) else (requests,)
        many = tuple(np.repeat(part, rows, axis=-1)[..., : len(at)] for part in parts)
        return many if isinstance(requests, tuple) else many[0]

    return repeated


def one_row_drawn(rows: int, stream: Stream) -> Stream:
    """What a shadow copies of them."""
    many = rows_alike(rows, stream)

    def drawn(rng: np.random.Generator, experiments: int, at: np.ndarray) -> Any:
        every = many(rng, experiments, np.arange(len(at) * rows)).reshape(experiments, len(at), rows)
        return np.take_along_axis(every, rng.integers(rows, size=(experiments, len(at), 1)), axis=2)[..., 0]

    return drawn


def first_label_counts(rows: int, stream: Stream) -> Stream:
    """What a canary counts of them, whose ids have a digest for each request: the others as if their share were 0."""
    many = rows_alike(rows, stream)

    def counted(rng: np.random.Generator, experiments: int, at: np.ndarray) -> Any:
        new, share, y = many(rng, experiments, at)
        digests = np.repeat(rng.integers(1, 2**63, -(-len(at) // rows)).astype(np.uint64), rows)[: len(at)]
        counts = first_in_batch(digests)
        return new & counts, np.where(counts, share, 0.0), y

    return counted


@SIDES
@pytest.mark.parametrize("rows", [4, 16])
def test_rows_of_one_request_are_no_samples(rows: int, side: int, experiments: int) -> None:
    """A request is one draw of whatever its rows have in common, however many they are."""
    runs = max(40, experiments // 4)
    pairs, requests = PAIRED["5 % disagree"], CANARIES["half"]
    every, once = rows_alike(rows, pairs), one_row_drawn(rows, pairs)
    breaks(share_passed(every, Pairs(0.01), side, experiments=runs, limit=4_000, seed=24), runs, 0.2)
    keeps(share_passed(once, Pairs(0.01), side, experiments=runs, limit=1_500, seed=24), runs)
    every, once = rows_alike(rows, requests), first_label_counts(rows, requests)
    breaks(share_passed(every, Requests(0.02), side, experiments=runs, limit=4_000, seed=24), runs, 0.2)
    keeps(share_passed(once, Requests(0.02), side, experiments=runs, limit=4_000, seed=24), runs)


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_the_arrays_simulated_here_are_what_rollouts_use(mode: str) -> None:
    """One experiment goes through `Evidence` and `judge`, sample by sample, and ends at the same one."""
    shadow = mode == "shadow"
    stream = losses_differ(0.2, 0.06) if shadow else canary(fixed(0.4), fixed(0.1), 0.15)
    process = Pairs(0.01) if shadow else Requests(0.01)
    process.begin(1)
    seen = stream(np.random.default_rng(22), 1, np.arange(4_000))
    ends = first(np.cumsum(process.terms(seen)[ROLLBACK], axis=1), ALPHA)[0]
    assert 10 < ends < 4_000
    evidence = state.Evidence(mode, 0.01)  # type: ignore[arg-type]
    for at in range(ends + 1):
        assert judge(evidence).verdict is None
        if isinstance(evidence.quality, Paired):
            evidence.quality.add(float(seen[0, at]))
        else:
            assert isinstance(evidence.quality, Unpaired)
            evidence.quality.observe([seen[0][0, at]], [seen[1][at]], [seen[2][0, at]])
    assert judge(evidence).verdict == "rollback"
