"""Alarms of one monitor: raised once, latched, acknowledged; the baseline; samples; and what is kept of none."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_cases import contract, draw, feed, monitor, reference

from shipworthy.contract import Array
from shipworthy.errors import MonitorError
from shipworthy.monitor import Monitor, MonitorOptions, View
from shipworthy.monitor.alarms import Acknowledgement
from shipworthy.monitor.collecting import FITTED
from shipworthy.signals import MOST

SHIFT = 0.8
START = 1e9


@cache
def _shifted() -> tuple[bytes, bytes]:
    watched = monitor()
    random = np.random.default_rng(0)
    assert feed(watched, 2000, random) == []
    feed(watched, 1000, random, shift=SHIFT, at=START + 20)
    return watched.state(), watched.samples_state()


def shifted() -> Monitor:
    """After 2,000 rows as they should be and 1,000 that are shifted, one second for each 100."""
    watched = monitor()
    state, samples = _shifted()
    watched.restore(state)
    watched.restore_samples(samples)
    return watched


def test_no_alarm_without_a_shift() -> None:
    watched = monitor()
    assert feed(watched, 5000, np.random.default_rng(1)) == []
    view = watched.check()
    assert view.alarms == ()
    assert view.scored == view.requests == 5000
    assert max(signal.evidence for signal in view.signals) < 1


def test_a_shift_raises_one_alarm_of_each_detector_and_says_what_has_moved() -> None:
    view = shifted().check()
    assert sorted(alarm.detector for alarm in view.alarms) == ["sequential", "window"]
    for alarm in view.alarms:
        assert alarm.acknowledged is None
        assert {moved.signal for moved in alarm.moved} & {"point.0", "point.1"}
        assert alarm.began == pytest.approx(START + 20, abs=1.1)
        assert alarm.began <= alarm.raised <= START + 30
        assert 2000 < alarm.scored <= 3000
        assert alarm.model == "points" and alarm.version == "3" and alarm.node == "a"
        assert "points:3 drifts" in alarm.summary
    sequential = next(alarm for alarm in view.alarms if alarm.detector == "sequential")
    assert sequential.moved[0].evidence >= 1
    assert sequential.severity in ("moderate", "large")
    assert any(":" in words for words in sequential.classes)


def test_an_alarm_stands_until_it_is_acknowledged_and_then_its_detector_begins_anew() -> None:
    watched = shifted()
    random = np.random.default_rng(5)
    assert feed(watched, 1000, random, shift=SHIFT, at=START + 40) == []
    before = watched.check().alarms
    for alarm in before:
        assert watched.acknowledge(alarm.id, "ada", "seen")
        assert not watched.acknowledge(alarm.id, "ada", "again")
    view = watched.check()
    assert [(alarm.who, alarm.why) for alarm in view.alarms] == [("ada", "seen")] * 2
    assert all(alarm.acknowledged is not None for alarm in view.alarms)
    assert max(signal.evidence for signal in view.signals) == 0
    again = feed(watched, 1000, random, shift=SHIFT, at=START + 60)
    assert len(again) == 2
    assert not {alarm.id for alarm in before} & set(again)


def test_an_unknown_alarm_is_not_acknowledged() -> None:
    assert not monitor().acknowledge("nothing", "ada")


def test_a_new_baseline_takes_the_shift_as_right() -> None:
    watched = shifted()
    points, logits, _ = draw(1000, np.random.default_rng(7), shift=SHIFT)
    watched.set_baseline({"point": points}, {"logits": logits})
    assert all(alarm.acknowledged is not None for alarm in watched.check().alarms)
    assert sum(sample.reason == "drift" for sample in watched.samples) > 20
    assert sum(point.scored for point in watched.check().timeline) == 3000
    assert feed(watched, 3000, np.random.default_rng(8), shift=SHIFT, at=START + 50) == []
    assert any("requests of" in note for note in watched.check().notes)
    assert feed(watched, 1000, np.random.default_rng(9), at=START + 90)


def said(alarm: str, rows: int = 0, at: float = START) -> Acknowledgement:
    return Acknowledgement(alarm, "ada", "", at, rows)


def test_who_has_seen_to_an_alarm_may_ask_for_a_new_baseline_once() -> None:
    watched = shifted()
    first = watched.check().alarms[0].id
    assert watched.acknowledge(first, "ada")
    assert not watched.renew([said(first)]), "nobody has asked for one"
    assert watched.renew([said("older", 500, START - 5), said(first, 400), said("another")])
    assert watched.check().collecting == (0, 400)
    assert not watched.alarms.drifted, "the other detector's alarm is of the old reference"
    assert feed(watched, 2000, np.random.default_rng(8), shift=SHIFT, at=START + 50) == []
    view = watched.check()
    assert view.promise is not None and view.promise.reference == 400
    again = monitor()
    again.restore(watched.state())
    for each in (watched, again):
        assert not each.renew([said("older", 500, START - 5), said(first, 400)]), "it was done"
        assert each.renew([said("newest", 100, START + 70)])


def test_a_large_baseline_takes_no_more_memory_than_a_reference() -> None:
    watched = monitor(baseline=6000)
    random = np.random.default_rng(0)
    points, logits, _ = draw(5000, random)
    watched.update(points, logits, START)
    collecting = watched.collecting
    assert collecting is not None
    assert (len(collecting.values), collecting.collected) == (MOST, 5000)
    again = monitor(baseline=6000)
    again.restore(watched.state())
    assert again.check().collecting == (5000, 6000)
    for each in (watched, again):
        rest, answers, _ = draw(1500, np.random.default_rng(1))
        each.update(rest, answers, START + 1)
        view = each.check()
        assert view.promise is not None and (view.promise.reference, view.scored) == (MOST, 500)
        assert each.compared is not None
        kept = each.compared.reference
        column = kept.scores[:, [signal.name for signal in kept.signals].index("point.0")]
        # Of the first rows and of the last ones two thirds are kept.
        for some, share in ((points[:, 0], 2 / 3), (rest[:1000, 0], 2 / 3)):
            assert np.isin(some.astype(np.float64), column).mean() == pytest.approx(share, abs=0.05)


def test_a_baseline_without_constants_is_fitted_on_few_of_the_rows() -> None:
    watched = Monitor((contract(), None), options=MonitorOptions(baseline=100))
    points, logits, _ = draw(2000, np.random.default_rng(0))
    with pytest.raises(MonitorError, match="at least 32"):
        watched.set_baseline(points[:50], logits[:50])
    assert watched.signals is None and watched.collecting is not None
    watched.set_baseline(points, logits)
    assert watched.compared is not None and watched.compared.reference.samples == 2000 - FITTED


def test_bare_arrays_will_do_where_there_is_one_input_and_one_output() -> None:
    watched = monitor()
    points, logits, _ = draw(100, np.random.default_rng(0))
    assert watched.update(points, logits) == []
    assert watched.check().scored == 100


@pytest.mark.parametrize(
    ("feeds", "outputs", "said"),
    [
        ({"other": np.zeros((2, 2))}, {"logits": np.zeros((2, 3))}, "no 'point'"),
        ({"point": np.zeros((2, 2))}, {"logits": np.zeros((3, 3))}, "differ in number"),
        ({"point": np.zeros((2, 5))}, {"logits": np.zeros((2, 3))}, "expected float32"),
        ({"point": np.zeros(())}, {"logits": np.zeros((2, 3))}, "expected float32"),
        ({"point": np.array([["a", "b"]])}, {"logits": np.zeros((1, 3))}, "expected float32"),
    ],
)
def test_rows_that_do_not_fit_are_refused(feeds: dict[str, Array], outputs: dict[str, Array], said: str) -> None:
    watched = monitor()
    with pytest.raises(MonitorError, match=said):
        watched.update(feeds, outputs)
    assert watched.check().scored == 0


def test_times_that_do_not_fit_are_refused() -> None:
    points, logits, _ = draw(3, np.random.default_rng(0))
    with pytest.raises(MonitorError, match="latency_s: has the shape"):
        monitor().update(points, logits, 1.0, [0.1, 0.2])
    with pytest.raises(MonitorError, match="at: is not finite"):
        monitor().update(points, logits, float("nan"))


def test_without_a_reference_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(MonitorError, match="baseline=1000"):
        Monitor((contract(), None))


def test_the_first_requests_become_the_reference() -> None:
    watched = Monitor((contract(), reference()), options=MonitorOptions(baseline=500))
    random = np.random.default_rng(3)
    feed(watched, 300, random, shift=SHIFT)
    assert watched.check().collecting == (300, 500)
    assert watched.check().promise is None
    assert feed(watched, 2000, random, shift=SHIFT) == []
    view = watched.check()
    assert view.collecting is None and view.promise is not None
    assert view.promise.reference == 500
    assert view.requests == 2300 and view.scored == 1800
    assert feed(watched, 1000, random)


def test_the_first_requests_will_do_without_a_reference_of_the_package() -> None:
    watched = Monitor((contract(), None), options=MonitorOptions(baseline=400))
    random = np.random.default_rng(3)
    feed(watched, 1500, random)
    view = watched.check()
    # 256 of them have fitted the constants.
    assert view.promise is not None and view.promise.reference == 400
    assert view.scored == 1500 - 256 - 400
    assert feed(watched, 1000, random, shift=SHIFT)


def test_a_baseline_of_few_rows_is_refused() -> None:
    points, logits, _ = draw(31, np.random.default_rng(0))
    with pytest.raises(MonitorError, match="at least 32"):
        monitor().set_baseline(points, logits)
    with pytest.raises(MonitorError, match="at least 32"):
        monitor().collect_baseline(31)


def test_a_small_reference_is_found() -> None:
    assert any("has 100 samples" in note for note in monitor(samples=100).check().notes)
    assert not any("samples:" in note for note in monitor(samples=400).check().notes)


def test_the_promise_has_all_its_numbers() -> None:
    promise = monitor(run_length=5e5, window=300, window_rate=0.002, nodes=3).check().promise
    assert promise is not None
    for part in ("N/500,000", "exchangeable", "1,000 samples", "windows of 300", "0.2 %", "3 nodes", "scored requests"):
        assert part in promise.words


def test_samples_show_the_shift() -> None:
    watched = shifted()
    kept = {sample.id: sample for sample in watched.samples}
    assert 0 < len(kept) <= watched.options.keep
    for alarm in watched.check().alarms:
        assert alarm.samples
        for name in alarm.samples:
            assert kept[name].reason in ("drift", "low-confidence")
            assert kept[name].at >= alarm.began
            assert kept[name].feeds["point"].shape == (2,)
            assert kept[name].outputs["logits"].shape == (3,)
    least = [sample for sample in kept.values() if sample.reason == "low-confidence"]
    assert least and all(np.diff(np.sort(sample.outputs["logits"]))[-1] < 2 for sample in least)


def test_keeping_nothing_keeps_nothing_of_a_request() -> None:
    watched = monitor(keep=0)
    odd = np.float32(123.4375)
    points, logits, _ = draw(499, np.random.default_rng(2))
    points[:, 0] = odd
    assert watched.update(points[:20], logits[:20], START)
    for rows in range(20, 499, 8):
        watched.update(points[rows : rows + 8], logits[rows : rows + 8], START + rows)
    view = watched.check(START + 500)
    assert len(watched.samples) == 0 and watched.samples_state() == b""
    assert view.alarms and all(alarm.samples == () for alarm in view.alarms)
    assert any("nothing of what is asked is kept" in note for note in view.notes)
    assert all("123" not in moved.words for alarm in view.alarms if alarm.scored < 30 for moved in alarm.moved)
    state = watched.state()
    assert odd.tobytes() not in state and np.float64(odd).tobytes() not in state
    # A window of one row has no sums.
    watched.update(points[:2], logits[:2], START + 600)
    assert watched.check(START + 700).scored == 501
    state = watched.state()
    assert odd.tobytes() not in state and np.float64(odd).tobytes() not in state
    # A mean of so few rows would be one of them.
    assert all(np.isnan(point.means).all() for point in view.timeline if point.scored < 32)


def test_keeping_nothing_an_alarm_after_a_restart_tells_no_number_of_one_request() -> None:
    watched, again = monitor(keep=0), monitor(keep=0)
    random = np.random.default_rng(0)
    points, logits, _ = draw(100, random)
    points[:, 0] = 123.4375
    row = 0
    while max(signal.evidence for signal in watched.check().signals) < 0.02:
        watched.update(points[row : row + 1], logits[row : row + 1], START)
        row += 1
    assert not watched.alarms.drifted
    again.restore(watched.state())
    points[:, 0] = 321.0625
    (alarm,) = again.update(points[90:95], logits[90:95], START + 1)
    leading = alarm.moved[0]
    assert leading.words.endswith("has moved") and 0.2 < leading.distance <= 1 and alarm.severity == "large"
    assert "321" not in repr(alarm) and "drifts: " in alarm.summary and alarm.classes == ()


def test_rules_of_thumb_say_that_they_are_uncalibrated() -> None:
    rules = {rule.name: rule for rule in shifted().check().rules}
    assert set(rules) == {"mean-confidence", "psi", "class-share"}
    assert all("uncalibrated" in rule.words for rule in rules.values())
    assert rules["psi"].fires


def test_the_estimate_follows_the_confidence() -> None:
    watched = monitor()
    feed(watched, 2000, np.random.default_rng(2))
    estimate = watched.check().estimate
    assert estimate is not None
    assert estimate.value == pytest.approx(estimate.reference, abs=0.03)
    points, _, _ = draw(2000, np.random.default_rng(3))
    watched.update(points, np.zeros((2000, 3), np.float32))
    unsure = watched.check().estimate
    assert unsure is not None and unsure.value < estimate.value - 0.3


def test_the_latency_of_the_last_windows() -> None:
    watched = monitor()
    points, logits, _ = draw(1000, np.random.default_rng(0))
    watched.update(points, logits, START, np.linspace(0.001, 0.1, 1000))
    shown = watched.check().latency_ms
    assert shown["target"] == 20.0
    for name, expected in (("p50", 50.5), ("p95", 95.0), ("p99", 99.0)):
        assert shown[name] == pytest.approx(expected, rel=0.05)


def test_what_labels_raise_is_remembered_until_it_is_acknowledged() -> None:
    from dataclasses import replace

    from shipworthy.monitor.view import Alarm

    alarm = Alarm("q", "points", "3", "", "quality", START, START, 10, "large", "accuracy is below its level")

    def told(view: View) -> View:
        return view if any(one.id == "q" for one in view.alarms) else replace(view, alarms=(alarm, *view.alarms))

    watched = Monitor((contract(), reference()), quality=told)
    assert [one.id for one in watched.check().alarms] == ["q"]
    assert watched.acknowledge("q", "ada")
    assert [one.acknowledged is None for one in watched.check().alarms] == [False]


def test_a_view_is_json_and_reads_as_a_few_lines() -> None:
    from shipworthy.monitor.record import record_of, text_of, view_of_text

    view = shifted().check(START + 60)
    assert record_of(view_of_text(text_of(view), "it")) == record_of(view)
    assert json.loads(text_of(view))["model"] == "points"
    assert "ALARM" in str(view) and "began about 2001-09-09" in str(view)
    with pytest.raises(MonitorError, match="is no view"):
        view_of_text("[1]", "it")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=15)
@given(choice=st.data())
def test_what_is_no_view_is_refused(choice: st.DataObject) -> None:
    from shipworthy.monitor.record import record_of, view_of_text

    record = record_of(VIEW)
    for name in choice.draw(st.lists(st.sampled_from(sorted(record)), min_size=1, max_size=3)):
        record[name] = choice.draw(JSON)
    try:
        found = view_of_text(json.dumps(record), "it")
    except MonitorError as error:
        assert "is no view" in str(error)
    else:
        assert isinstance(found, View)


VIEW = monitor().check(2e9)


def test_what_was_acknowledged_last_is_remembered_of_each_detector() -> None:
    """A drop of the quality that was seen to would raise again behind many newer alarms."""
    from shipworthy.monitor.alarms import MOST, Alarms
    from shipworthy.monitor.view import Alarm, Detector

    alarms = Alarms()

    def one(name: str, detector: Detector, at: float) -> None:
        alarms.add(Alarm(name, "points", "3", "a", detector, at, 0.0, 1, "slight", ""))
        assert alarms.acknowledge(name, at + 0.5, "ada", "") is not None

    one("first", "quality", 0.0)
    one("second", "quality", 1.0)
    for number in range(2 * MOST):
        one(f"drift-{number}", "sequential", 2.0 + number)
    names = [alarm.id for alarm in alarms.newest_first]
    assert len(names) == MOST and names[-1] == "second" and "first" not in names


def test_old_alarms_are_forgotten_and_those_that_stand_never() -> None:
    from shipworthy.monitor.alarms import MOST, Alarms
    from shipworthy.monitor.view import Alarm

    alarms = Alarms()
    for number in range(3 * MOST):
        name = f"alarm-{number}"
        alarms.add(Alarm(name, "points", "3", "a", "sequential", float(number), 0.0, 1, "slight", ""))
        if number != 7:
            assert alarms.acknowledge(name, float(number), "ada", "") is not None
    names = [alarm.id for alarm in alarms.newest_first]
    assert len(names) == MOST and names[0] == f"alarm-{3 * MOST - 1}" and names[-1] == "alarm-7"
    assert [alarm.id for alarm in alarms.drifted] == ["alarm-7"]
