"""Effect sizes: known answers, the words for them, and the rules of thumb."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shipworthy.monitor.evidence import effect, effects, rules, wording
from shipworthy.signals.signal import Signal

BRIGHTNESS = Signal("image.mean", "number", "inputs", "brightness of image")
LENGTH = Signal("text.length", "number", "inputs", "length of text", unit="tokens")
CLASS = Signal("class", "class", "answers", "predicted class", classes=("cat", "dog", "fox"))
MISSING = Signal("missing", "share", "inputs", "missing")
NORMAL = stats.norm(4.9, 1.2).ppf((np.arange(1000) + 0.5) / 1000)


def test_a_median_that_moved() -> None:
    found = effect(BRIGHTNESS, NORMAL, NORMAL[::2] + 1.3)
    assert found.words == "brightness of image: median 4.9 → 6.2 (+1.1 deviations)"
    assert found.distance == pytest.approx(2 * stats.norm.cdf(1.3 / 1.2 / 2) - 1, abs=0.01)
    assert found.severity == "large"
    assert effect(LENGTH, NORMAL, NORMAL - 0.8).words == "length of text: median 4.9 → 4.1 tokens (-0.7 deviations)"


def test_a_spread_that_grew() -> None:
    found = effect(BRIGHTNESS, NORMAL, 4.9 + 2 * (NORMAL - 4.9))
    assert found.words == "brightness of image: spread 1.2 → 2.4 (2 times)"
    assert found.severity == "slight"


def test_tails_that_grew() -> None:
    live = NORMAL.copy()
    live[::10] += 6
    found = effect(BRIGHTNESS, NORMAL, live)
    assert found.words.startswith("brightness of image: outside 2.13 to 7.67: 2 % → 12 %")


def test_missing_values_are_told_and_judged() -> None:
    live = np.where(np.arange(1000) % 8 == 0, np.nan, NORMAL)
    found = effect(BRIGHTNESS, NORMAL, live)
    assert found.words.endswith(", missing 0 % → 12 %") and found.severity == "moderate"
    assert found.distance == pytest.approx(0.125, abs=0.005)
    gone = effect(BRIGHTNESS, NORMAL, np.full(9, np.nan))
    assert gone.words == "brightness of image: missing 0 % → 100 %"
    assert gone.distance == 1 and gone.severity == "large"


def test_a_constant_that_changed() -> None:
    found = effect(BRIGHTNESS, np.full(50, 2.0), np.full(50, 2.0001))
    assert found.words == "brightness of image: median 2 → 2.0001" and found.severity == "large"
    assert effect(BRIGHTNESS, np.full(50, 2.0), np.full(9, 2.0)).distance == 0


def test_classes_that_moved() -> None:
    before = np.repeat([0.0, 1, 2], [50, 40, 10])
    now = np.repeat([0.0, 1, 2], [45, 31, 24])
    found = effect(CLASS, before, now)
    assert found.words == "predicted class: share of fox: 10 % → 24 %"
    assert found.distance == pytest.approx(0.14) and found.severity == "moderate"
    counts = [effects.count_classes(values, 3) for values in (before, now)]
    assert effects.classes_moved(effects.class_names(CLASS, 4), *counts) == (
        "fox: 10 % → 24 %",
        "dog: 40 % → 31 %",
        "cat: 50 % → 45 %",
    )
    unknown = effect(CLASS, before, np.full(20, np.nan))
    assert unknown.words == "predicted class: share of other or missing: 0 % → 100 %"
    unnamed = Signal("class", "class", "answers", "predicted class")
    assert effect(unnamed, before, np.full(9, 7.0)).words == "predicted class: share of other or missing: 0 % → 100 %"


@pytest.mark.parametrize(
    ("now", "severity", "words"),
    [(2, "slight", "0 % → 2 %"), (8, "moderate", "0 % → 8 %"), (30, "large", "0 % → 30 %")],
)
def test_shares(now: int, severity: str, words: str) -> None:
    found = effect(MISSING, np.zeros(400), np.arange(100) < now)
    assert found.words == f"missing: {words}" and found.severity == severity
    assert found.distance == pytest.approx(now / 100)


def test_severity_is_the_effect_and_never_the_evidence() -> None:
    """A hundred times the samples are a hundred times the evidence for the same slight change."""
    few, many = (effect(BRIGHTNESS, np.repeat(NORMAL, k), np.repeat(NORMAL + 0.3, k)) for k in (1, 100))
    assert few.severity == many.severity == "slight" and few.distance == pytest.approx(many.distance)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_ks_distance_is_scipys(before: list[int], now: list[int]) -> None:
    first, second = np.array(before, float), np.array(now, float)
    expected = stats.ks_2samp(first, second, method="asymp").statistic
    assert effects.ks_distance(first, second) == pytest.approx(expected)
    counts = [np.bincount(values, minlength=10) for values in (before, now)]
    assert effects.ks_of_counts(*counts) == pytest.approx(expected)
    assert expected - 1e-9 <= effects.total_variation(*counts) <= 1


def test_psi_of_a_known_example() -> None:
    """Shares .5 .5 → .75 .25: .25 ln 1.5 - .25 ln .5 ... worked out by hand, apart from the half in each count."""
    assert effects.psi([50_000, 50_000], [75_000, 25_000]) == pytest.approx(
        0.25 * np.log(1.5) + 0.25 * np.log(2), abs=1e-4
    )
    assert effects.psi([10, 0, 20], [5, 0, 10]) == pytest.approx(0, abs=0.01)
    assert np.isfinite(effects.psi([0, 5], [5, 0]))


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_numbers_that_differ_look_different(before: float, now: float) -> None:
    left, right = wording.arrow(before, now).split(" → ")
    close = abs(before - now) <= 1e-4 * max(abs(before), abs(now))
    assert left != right or close


@pytest.mark.parametrize(
    ("share", "words"), [(0, "0 %"), (0.001, "0.1 %"), (0.0342, "3.4 %"), (0.05, "5 %"), (0.104, "10 %"), (1, "100 %")]
)
def test_percents(share: float, words: str) -> None:
    assert wording.percent(share) == words


def test_numbers_read_well() -> None:
    assert wording.arrow(1234567.0, 1234999.0) == "1,234,567 → 1,234,999"
    assert wording.arrow(0.00012, 0.5) == "0.00012 → 0.5"
    assert wording.arrow(2.0, 2.0) == "2 → 2"


def test_rules_of_thumb_say_that_they_are_uncalibrated() -> None:
    quiet = rules.mean_confidence(0.93, 0.91)
    loud = rules.mean_confidence(0.93, 0.7)
    assert not quiet.fires and loud.fires and loud.value == pytest.approx(0.23)
    assert loud.words.startswith("mean confidence 0.93 → 0.7")
    psi = rules.largest_psi({"brightness": 0.04, "contrast": 0.23})
    assert psi is not None and psi.fires and "0.23, above 0.2, of contrast" in psi.words
    share = rules.class_share(("cat", "dog"), [50, 50], [20, 30])
    assert share is not None and not share.fires and share.value == pytest.approx(0.1)
    assert "cat 50 % → 40 %" in share.words
    assert all("uncalibrated" in rule.words for rule in (quiet, loud, psi, share))
    assert rules.largest_psi({}) is None and rules.class_share((), [0], [0]) is None
