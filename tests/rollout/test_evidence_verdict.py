"""What is decided, in which order, and what is said of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shipworthy.rollout.evidence import Alphas, Evidence, Judgement, Unpaired, judge

DELTA = 0.01


def shadow(agree: int = 0, worse: int = 0, better: int = 0, unlabelled: int = 0) -> Evidence:
    evidence = Evidence("shadow", DELTA)
    evidence.paired.add([0, 1, -1], count=[agree, worse, better])
    evidence.paired.add_open(1.0, count=unlabelled)
    return evidence


def canary(loss_old: float = 0.1, loss_new: float = 0.1, requests: int = 30_000) -> Evidence:
    evidence = Evidence("canary", 0.02)
    rng = np.random.default_rng(61)
    new = rng.random(requests) < 0.5
    evidence.unpaired.observe(new, 0.5, rng.random(requests) < np.where(new, loss_new, loss_old))
    return evidence


def verdict(judgement: Judgement) -> tuple[str | None, str | None]:
    return judgement.verdict, judgement.by


def test_nothing_is_said_of_nothing() -> None:
    for mode in ("shadow", "canary", "ab"):
        judgement = judge(Evidence(mode, DELTA))  # type: ignore[arg-type]
        assert verdict(judgement) == (None, None)
        assert {figure.e for figure in judgement.figures} == {1.0}
        assert "0 pairs" in judgement.reason or "mean loss none of 0 requests" in judgement.reason


def test_a_shadow_that_agrees_is_promoted() -> None:
    judgement = judge(shadow(agree=533))
    assert verdict(judgement) == ("promote", "promote")
    assert judgement.reason == (
        "The new version's mean loss is less than 0.01 above the old one's: e = 20.2, at least 20 (alpha 0.05). "
        "533 pairs, 0 disagree: the new one was better in 0 and worse in 0."
    )


def test_what_is_still_needed_is_said() -> None:
    judgement = judge(shadow(agree=400, unlabelled=2))
    assert judgement.verdict is None
    more = shadow(agree=400, unlabelled=2).paired.needed(0.05)
    assert more is not None
    assert judgement.reason.endswith(
        "402 pairs, 2 disagree: the new one was better in 0 and worse in 0, 2 have no label yet and count as the "
        f"worst case. Promotion takes {more:,} more pairs where all of them agree."
    )
    assert judge(shadow(agree=400 + more - 1, unlabelled=2)).verdict is None
    assert judge(shadow(agree=400 + more, unlabelled=2)).verdict == "promote"


def test_a_worse_shadow_is_rolled_back() -> None:
    judgement = judge(shadow(agree=200, worse=40, better=5))
    assert verdict(judgement) == ("rollback", "rollback")
    assert "more than 0.01 above" in judgement.reason
    assert "245 pairs, 45 disagree: the new one was better in 5 and worse in 40." in judgement.reason


def test_unlabelled_pairs_neither_promote_nor_roll_back() -> None:
    assert judge(shadow(agree=1_000, unlabelled=400)).verdict is None


@pytest.mark.parametrize(("loss_new", "expected"), [(0.1, "promote"), (0.05, "promote"), (0.2, "rollback")])
def test_a_canary_is_judged_by_its_losses(loss_new: float, expected: str) -> None:
    evidence = canary(loss_new=loss_new)
    judgement = judge(evidence)
    assert verdict(judgement) == (expected, expected)
    assert isinstance(evidence.quality, Unpaired)
    (old, new), (lost_old, lost_new) = evidence.quality.counts.tolist(), evidence.quality.losses.tolist()
    assert judgement.reason.endswith(
        f"New: mean loss {lost_new / new:.4g} of {new:,} requests; old: {lost_old / old:.4g} of {old:,}."
    )


def test_a_canary_says_about_how_many_requests_are_needed() -> None:
    evidence = canary(requests=1_000)
    judgement = judge(evidence, share=0.25)
    needed = evidence.unpaired.needed(0.05, 0.25)
    assert needed is not None
    assert 2_000 < needed < 40_000
    assert f"Promotion takes about {needed:,} more requests at a share of 0.25" in judgement.reason
    assert judge(evidence, share=0.0).reason.endswith("At this share nothing is compared.")


def test_the_estimate_of_what_is_needed_is_near_what_it_takes() -> None:
    fresh = Evidence("canary", 0.02)
    needed = fresh.unpaired.needed(0.05, 0.5)
    assert needed is not None
    # The table's mean for a base loss of 0.1, which the guess of a fresh process is too.
    assert 7_800 / 1.5 <= needed <= 7_800 * 1.5


@pytest.mark.parametrize(("process", "word"), [("errors", "fails"), ("latency", "is slow")])
def test_a_guardrail_rolls_back_whatever_else_is_shown(process: str, word: str) -> None:
    evidence = shadow(agree=10_000)
    failed = np.arange(40) < 30
    getattr(evidence, process).pairs(np.zeros(40, bool), failed)
    evidence.labelled.count(0.5, (10_000, 100))
    judgement = judge(evidence)
    assert verdict(judgement) == ("rollback", process)
    assert judgement.reason.startswith(f"The new version {word} more than 1.5 times as often as the old one: e = ")
    assert judgement.reason.endswith("at least 100 (alpha 0.01). New: 30 of 40 requests; old: 0 of 40.")


@pytest.mark.parametrize("stream", ["assigned", "completed", "labelled"])
@pytest.mark.parametrize("loss_new", [0.02, 0.2])
def test_a_mismatch_holds_for_good(stream: str, loss_new: float) -> None:
    """There is no verdict on quality from then on, also where later requests hide the mismatch."""
    evidence = canary(loss_new=loss_new)
    ratio = evidence.sample_ratio(stream)  # type: ignore[arg-type]
    ratio.count(0.5, (600, 300))
    judgement = judge(evidence)
    assert verdict(judgement) == ("hold", stream)
    assert "New: 300; old: 600." in judgement.reason
    assert "at least 3000 (alpha 0.00033)" in judgement.reason
    ratio.count(0.5, (0, 300))
    after = Evidence.from_json(evidence.to_json())
    assert ratio.log_e < math.log(3000)
    assert verdict(judge(after)) == ("hold", stream)
    assert "it was past its bar; now e = " in judge(after).reason
    after.errors.count(0.5, (0, 50), (1_000, 1_000))
    assert verdict(judge(after)) == ("rollback", "errors")


def test_three_sample_ratios_share_their_alpha() -> None:
    """e between 1,000 and 3,000 would be enough for one of them alone."""
    evidence = Evidence("canary", 0.02)
    counts = next(new for new in range(100) if _log_e(new) >= math.log(1_000))
    evidence.assigned.count(0.5, (0, counts))
    assert math.log(1_000) <= evidence.assigned.log_e < math.log(3_000)
    assert judge(evidence).verdict is None
    assert sum(f.alpha for f in judge(evidence).figures[-3:]) == pytest.approx(0.001)


def _log_e(new: int) -> float:
    evidence = Evidence("canary", 0.02)
    evidence.assigned.count(0.5, (0, new))
    return evidence.assigned.log_e


def test_rollback_comes_before_promotion() -> None:
    """Both may have passed in one merge; which was first is not known then."""
    evidence = shadow()
    evidence.paired.promote += 10
    evidence.paired.rollback += 10
    assert verdict(judge(evidence)) == ("rollback", "rollback")


def test_alphas_are_the_bars() -> None:
    evidence = shadow(agree=540)
    assert judge(evidence).verdict == "promote"
    assert judge(evidence, Alphas(verdict=0.001)).verdict is None
    figures = {figure.process: figure for figure in judge(evidence, Alphas(0.1, 0.02, 0.003)).figures}
    assert [figures[name].needed for name in ("promote", "rollback", "errors", "latency")] == [10, 10, 50, 50]
    assert figures["completed"].needed == pytest.approx(1_000)
    with pytest.raises(AssertionError):
        Alphas(verdict=0.0)


def test_figures_are_those_of_the_processes() -> None:
    evidence = canary()
    evidence.errors.count(0.25, (3, 4), (100, 50))
    figures = {figure.process: figure for figure in judge(evidence).figures}
    assert list(figures) == ["promote", "rollback", "errors", "latency", "assigned", "completed", "labelled"]
    assert figures["errors"].requests == (100, 50)
    assert figures["errors"].events == (3, 4)
    assert figures["errors"].log_e == evidence.errors.log_e
    assert figures["promote"].log_e == evidence.unpaired.log_promote
    assert figures["promote"].e == pytest.approx(math.exp(evidence.unpaired.log_promote))
    assert figures["promote"].requests is None
