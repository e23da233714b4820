"""What labels say of a version: bounds, a level, and an alarm that is false as rarely as it is said to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shipworthy.contract import Array
from shipworthy.contract.spec import TaskKind
from shipworthy.monitor.alarms import Acknowledgement
from shipworthy.monitor.evidence.quality import ALARM, CELLS, GRID, LOWER, count, log_below
from shipworthy.monitor.guardrail import PATIENCE, lone_alarm, told_of
from shipworthy.monitor.quality import HOUR_S, alarm_of, below, level_of, notes_of, quality_of, with_quality
from shipworthy.monitor.view import Alarm, Moved, Point, Promise, View
from shipworthy.registry import Losses
from shipworthy.registry.words import check_details
from shipworthy.signals.reference import Accepted

SINCE = 1_790_000_000.0 - 1_790_000_000 % HOUR_S
ACCEPTED = Accepted("accuracy", 0.96, 0.95, 2000)


def losses(
    counts: Array, *, kind: TaskKind = "classification", scale: float | None = None, unknown: int = 0, hour: int = 0
) -> Losses:
    """Rows [spans, 101], one for each hour from the registration on, or from some hour after it."""
    begins = (SINCE + HOUR_S * (hour + np.arange(len(counts)))).astype(np.int64)
    return Losses(kind, scale, SINCE, begins, counts, unknown)


def right_and_wrong(right: Any, wrong: Any) -> Array:
    """Counts [hours, 101] of answers [hours]."""
    made = np.zeros((len(np.atleast_1d(right)), CELLS), np.int64)
    made[:, 0], made[:, -1] = right, wrong
    return made


def view(**changes: Any) -> View:
    promise = Promise(1e6, 500, 0.001, 1, 1000, "")
    plain = View("digits", "3", "onnxruntime-fp32", ("one",), SINCE, SINCE, 0, 0, 0, promise)
    return replace(plain, **changes)


def drifted(raised: float = SINCE + 60, began: float = SINCE + 30, **changes: Any) -> Alarm:
    plain = Alarm("a1", "digits", "2", "one", "sequential", raised, began, 900, "large", "brightness has moved")
    return replace(plain, **changes)


def test_nothing_is_said_before_the_first_label() -> None:
    none = losses(np.zeros((0, CELLS), np.int64))
    assert quality_of(none, ACCEPTED) is None and notes_of(none, ACCEPTED) == ()
    assert alarm_of(view(), none, ACCEPTED, SINCE) is None
    assert with_quality(view(), None, ACCEPTED) == view()
    assert with_quality(view(), none, ACCEPTED).quality is None


def test_accuracy_has_bounds_a_level_and_its_hours() -> None:
    quality = quality_of(losses(right_and_wrong([90, 95], [10, 5])), ACCEPTED)
    assert quality is not None
    assert (quality.metric, quality.labels, quality.level, quality.below) == ("accuracy", 200, 0.95, False)
    assert quality.value == pytest.approx(0.925) and quality.confidence == 0.95
    assert 0.8 < quality.lower < 0.925 < quality.upper < 0.99
    assert [(hour, labels) for hour, labels, _ in quality.by_hour] == [(SINCE, 100), (SINCE + HOUR_S, 100)]
    assert [mean for *_, mean in quality.by_hour] == pytest.approx([0.9, 0.95])


def test_workers_and_nodes_add_up_to_one_that_saw_all() -> None:
    draw = np.random.default_rng(2)
    parts = [right_and_wrong(draw.integers(0, 50, 30), draw.integers(1, 5, 30)) for _ in range(3)]
    together = np.sum(parts, axis=0)
    assert quality_of(losses(together), ACCEPTED) == quality_of(losses(parts[0] + parts[1] + parts[2]), ACCEPTED)
    alone = [log_below(part.sum(0), 0.95) for part in parts]
    assert log_below(together.sum(0), 0.95) != pytest.approx(max(alone)), "and no part of them is all"


def test_what_is_proven_raises_an_alarm_that_stays_until_it_is_acknowledged() -> None:
    bad = losses(right_and_wrong([80] * 5, [20] * 5))
    seen = with_quality(view(scored=700), bad, ACCEPTED, SINCE + 5 * HOUR_S)
    assert seen.quality is not None and seen.quality.below
    (alarm,) = seen.alarms
    assert (alarm.node, alarm.detector, alarm.severity) == ("", "quality", "large"), "it is of no node"
    assert (alarm.began, alarm.raised, alarm.scored) == (SINCE, SINCE + 5 * HOUR_S, 700)
    assert "accuracy of digits:3 is proven to be below the 0.95 that it was accepted at: 0.8 by 500 labels" in (
        alarm.summary
    )
    again = with_quality(replace(seen, quality=None, notes=()), bad, ACCEPTED, SINCE + 6 * HOUR_S)
    assert again.alarms == seen.alarms, "it was raised once"
    good = losses(np.concatenate([bad.counts, right_and_wrong([10**6], [0])]))
    later = quality_of(good, ACCEPTED, seen.alarms)
    assert later is not None and later.below, "and stands, whatever comes then"
    answered = replace(alarm, acknowledged=SINCE + 6 * HOUR_S)
    calm = with_quality(view(alarms=(answered,)), bad, ACCEPTED, SINCE + 7 * HOUR_S)
    assert calm.alarms == (answered,) and calm.quality is not None and not calm.quality.below
    worse = losses(np.concatenate([bad.counts, right_and_wrong([0, 80, 80, 80, 80], [0, 20, 20, 20, 20])]))
    worse = replace(worse, begins=np.delete(worse.begins, 5), counts=np.delete(worse.counts, 5, axis=0))
    new = alarm_of(view(alarms=(answered,)), worse, ACCEPTED, SINCE + 10 * HOUR_S)
    assert new is not None and new.id != alarm.id and new.began >= SINCE + 6 * HOUR_S


def test_all_nodes_have_one_alarm_of_the_quality() -> None:
    """A new node neither raises what another has raised, nor what was seen to before it was there."""
    bad = losses(right_and_wrong([80] * 6, [20] * 6))
    now = SINCE + 6 * HOUR_S
    (alarm,) = with_quality(view(), bad, ACCEPTED, now).alarms
    drift = drifted(version="3", node="other")
    new = with_quality(view(), bad, ACCEPTED, now + 99, elsewhere=[drift, alarm])
    assert new.alarms == (alarm,) and new.quality is not None and new.quality.below
    said = Acknowledgement(alarm.id, "ada", "a bad night", now + 60)
    closed = replace(alarm, acknowledged=now + 60, who="ada", why="a bad night")
    for elsewhere in ([], [alarm], [closed]):
        calm = with_quality(view(), bad, ACCEPTED, now + 99, elsewhere=elsewhere, said=[said])
        assert calm.quality is not None and not calm.quality.below
        assert [(one.id, one.acknowledged, one.who) for one in calm.alarms] == [(alarm.id, now + 60, "ada")]


def test_a_drop_after_a_good_month_is_seen_soon_and_its_beginning_told() -> None:
    month, after = 30 * 24, 12
    counts = right_and_wrong([196] * month + [170] * after, [4] * month + [30] * after)
    alarm = alarm_of(view(), losses(counts), ACCEPTED, SINCE + (month + after) * HOUR_S)
    assert alarm is not None
    assert abs(alarm.began - (SINCE + month * HOUR_S)) <= 2 * HOUR_S
    assert (alarm.severity, "by 2,400 labels" in alarm.summary) == ("moderate", True)
    assert log_below(counts.sum(0), 0.95) < 0, "all labels together say that all is well"


@pytest.mark.parametrize(
    "traffic", ["steady", *(pytest.param(name, marks=pytest.mark.full) for name in ("few", "better at times"))]
)
def test_the_alarm_is_false_as_rarely_as_it_says(traffic: str, effort: float) -> None:
    """Streams whose accuracy is what was accepted or better, looked at again and again for ten days."""
    draw = np.random.default_rng(["steady", "few", "better at times"].index(traffic))
    streams, hours, fired = int(2000 * effort) + 100, 240, 0
    for _ in range(streams):
        number = draw.poisson(3, hours) + 1 if traffic == "few" else np.full(hours, 60)
        loss = np.where(np.arange(hours) // 12 % 2, 0.05, 0.02) if traffic == "better at times" else 0.05
        wrong = draw.binomial(number, loss)
        fired += bool(
            evidence_at(right_and_wrong(number - wrong, wrong), 0.95, every=6 if effort == 1 else 12).max()
            >= -np.log(ALARM)
        )
    assert fired <= streams * ALARM + 3 * np.sqrt(streams * ALARM * (1 - ALARM))


def evidence_at(counts: Array, level: float, every: int) -> Array:
    """What `below` says after every so many hours, of all streams that began before: all at once, in sums."""
    loss = 1 - level
    bets = np.cumsum(counts @ np.log1p(GRID * (LOWER[:, None] - loss) / loss), axis=0)
    before = np.concatenate([np.zeros((1, len(GRID))), bets[:-1]])
    ends = np.arange(every - 1, len(counts), every)
    logs = np.logaddexp.reduce(bets[ends][:, None] - before, axis=2) - np.log(len(GRID))
    hours = np.arange(len(counts))
    weighted = np.where(hours <= ends[:, None], logs - np.log(2 * (hours + 1) * (hours + 2)), -np.inf)
    found: Array = np.logaddexp(np.logaddexp.reduce(weighted, axis=1), logs[:, 0] - np.log(2))
    return found


def test_that_is_what_is_computed_for_a_view() -> None:
    draw = np.random.default_rng(8)
    wrong = draw.binomial(40, 0.07, 48)
    counts = right_and_wrong(40 - wrong, wrong)
    said = [below(losses(counts[:end]), 0.95) for end in range(12, 49, 12)]
    assert [one.log_e for one in said if one] == pytest.approx(evidence_at(counts, 0.95, every=12).tolist(), abs=1e-9)


def test_hours_that_are_put_together_only_lower_the_evidence() -> None:
    draw = np.random.default_rng(4)
    wrong = draw.binomial(50, 0.08, 96)
    counts = right_and_wrong(50 - wrong, wrong)
    fine = below(losses(counts), 0.95)
    days = losses(counts.reshape(4, 24, CELLS).sum(1))
    coarse = below(replace(days, begins=(SINCE + 24 * HOUR_S * np.arange(4)).astype(np.int64)), 0.95)
    assert fine is not None and coarse is not None
    assert coarse.log_e < fine.log_e


def test_spans_before_the_registration_have_one_share_of_the_weight() -> None:
    """A clock that was wrong, or what is older than days are kept."""
    counts = right_and_wrong([0, 0, 0], [1, 1, 1])
    early = replace(losses(counts), begins=np.array([0, SINCE - 7 * HOUR_S, SINCE - HOUR_S], np.int64))
    found = below(early, 0.95)
    assert found is not None
    every = log_below(counts.sum(0), 0.95)
    assert found.log_e == pytest.approx(np.logaddexp(every - np.log(2), every - np.log(4)))


@pytest.mark.parametrize(
    ("kind", "scale", "accepted", "level"),
    [
        ("classification", None, ACCEPTED, 0.95),
        ("classification", None, Accepted("accuracy", 1.0, 1.0, 99), 0.99),
        ("classification", None, Accepted("f1_macro", 0.9, 0.9, 500), None),
        ("classification", None, None, None),
        ("multilabel", None, Accepted("multilabel_f1", 0.9, 0.9, 500), None),
        ("regression", 5.0, Accepted("neg_mae", -1.0, -1.25, 500), 0.75),
        ("regression", 5.0, Accepted("neg_rmse", -1.0, -1.25, 500), 0.75),
        ("regression", 5.0, Accepted("neg_mae", -1.0, -7.0, 500), None),
        ("regression", None, Accepted("r2", 0.9, 0.9, 500), None),
        ("embedding", None, Accepted("cosine", 0.99, 0.99, 500), None),
    ],
)
def test_only_what_can_be_compared_is_a_level(
    kind: TaskKind, scale: float | None, accepted: Accepted | None, level: float | None
) -> None:
    found = losses(right_and_wrong([0], [100]), kind=kind, scale=scale)
    assert level_of(found, accepted) == pytest.approx(level)
    quality = quality_of(found, accepted)
    assert quality is not None and quality.below == (level is not None)
    assert (alarm_of(view(), found, accepted, SINCE) is None) == (level is None)
    notes = notes_of(found, accepted)
    assert any("no level to keep" in note for note in notes) == (accepted is None)
    assert any("cannot be compared" in note for note in notes) == (level is None and accepted is not None)


def test_a_regression_whose_errors_grow_is_found_and_one_that_keeps_its_level_is_not() -> None:
    draw = np.random.default_rng(6)
    accepted, scale = Accepted("neg_mae", -1.0, -1.1, 500), 5.0
    for size, fires in ((1.0, False), (1.5, True)):
        errors = np.abs(draw.laplace(0, size, (10, 200)))
        counts = np.stack([count(np.minimum(1, hour / scale)) for hour in errors])
        found = losses(counts, kind="regression", scale=scale)
        quality = quality_of(found, accepted)
        assert quality is not None and quality.metric == "1 - loss"
        assert quality.value == pytest.approx(1 - np.minimum(1, errors / scale).mean(), abs=0.005)
        assert quality.below == fires
    assert "an absolute error of 5 or more counts as a loss of 1" in notes_of(found, accepted)


def test_losses_between_right_and_wrong_are_no_accuracy() -> None:
    found = losses(count([0.0, 0.3, 1.0])[None])
    quality = quality_of(found, ACCEPTED)
    assert quality is not None and quality.metric == "1 - loss"


@pytest.mark.parametrize(
    ("kind", "told"), [("regression", "let the contract's metric be neg_mae or neg_rmse"), ("multilabel", "do not say")]
)
def test_labels_that_say_nothing_are_told_of(kind: TaskKind, told: str) -> None:
    none = losses(np.zeros((0, CELLS), np.int64), kind=kind, unknown=12)
    (note,) = notes_of(none, None)
    assert note.startswith("12 labels say nothing of the quality") and told in note
    assert with_quality(view(), none, None).notes == (note,)


def points(scored: int, *at: float) -> tuple[Point, ...]:
    return tuple(Point(one, scored, (), 0.0, None) for one in at)


Changed = Callable[[View, View], tuple[View, View]]


@pytest.mark.parametrize(
    ("change", "alone"),
    [
        (lambda new, old: (new, old), True),
        (lambda new, old: (replace(new, alarms=()), old), False),
        (lambda new, old: (replace(new, alarms=(drifted(acknowledged=SINCE),)), old), False),
        (lambda new, old: (replace(new, alarms=(drifted(detector="quality"),)), old), False),
        (lambda new, old: (new, replace(old, alarms=(drifted(version="1"),))), False),
        (lambda new, old: (new, replace(old, alarms=(drifted(version="1", acknowledged=SINCE),))), True),
        (lambda new, old: (new, replace(old, alarms=(drifted(version="1", detector="quality"),))), True),
        (lambda new, old: (new, replace(old, timeline=points(150 * PATIENCE - 1, SINCE + 40))), False),
        (lambda new, old: (replace(new, alarms=(drifted(detector="window"),)), old), False),
        (lambda new, old: (new, replace(old, alarms=(drifted(version="1", detector="window"),))), False),
        (lambda new, old: (new, replace(old, promise=None)), False),
    ],
)
def test_an_alarm_tells_against_a_challenger_where_the_champion_had_time_for_one(change: Changed, alone: bool) -> None:
    new = view(version="2", alarms=(drifted(),), timeline=points(50, SINCE, SINCE + 40, SINCE + 50, SINCE + 70))
    old = view(version="1", timeline=points(150, SINCE, SINCE + 40, SINCE + 70))
    challenger, champion = change(new, old)
    assert (lone_alarm(challenger, champion) is not None) == alone


@pytest.mark.parametrize(("seconds", "alone"), [(1, False), (2, False), (3, True)])
def test_a_change_that_took_a_blink_gives_the_champion_time_too(seconds: int, alone: bool) -> None:
    """At full speed an alarm takes a tenth of a second, and begins and ends inside one point."""
    alarm = drifted(began=SINCE + 10.1, raised=SINCE + 10.2)
    new = view(version="2", alarms=(alarm,), timeline=points(500, *(SINCE + place for place in range(10 + seconds))))
    old = replace(new, version="1", alarms=())
    assert (lone_alarm(new, old) is not None) == alone


def test_the_history_keeps_what_moved() -> None:
    moved = Moved("image.mean", "brightness of image", "median 4.9 → 6.2", 0.31, float("inf"))
    alarm = drifted(moved=(moved,) * 500, classes=("3: 10 % → 24 %",), samples=("s1",))
    told = told_of(alarm)["alarm"]
    assert told["moved"][0] == {
        "signal": "image.mean", "title": "brightness of image", "words": "median 4.9 → 6.2", "distance": 0.31,
        "evidence": None,
    }  # fmt: skip
    assert len(told["moved"]) == 20 and told["classes"] == ["3: 10 % → 24 %"]
    assert "samples" not in told
    assert check_details({"alarm": told}) == {"alarm": told}
