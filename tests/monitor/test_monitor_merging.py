"""Views of several nodes: what adds equals one monitor that saw all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from monitor_cases import draw, monitor

from shipworthy.monitor import Monitor, View, merged
from shipworthy.monitor.merging import SILENT_S

NOW = 2e9


def fed(watched: Monitor, blocks: list[int], rows: int = 40) -> Monitor:
    """Each block is the same rows at the same time, whoever is fed with it."""
    for block in blocks:
        points, logits, _ = draw(rows, np.random.default_rng(block), shift=0.6 if block > 20 else 0.0)
        watched.update(points, logits, NOW - 100 + block, np.full(rows, 0.001 * (block + 1)))
    return watched


def test_what_adds_equals_one_that_saw_all() -> None:
    whole = fed(monitor(node="a"), list(range(30))).check(NOW)
    each = [fed(monitor(node=node, nodes=3), list(range(place, 30, 3))).check(NOW) for place, node in enumerate("abc")]
    together = merged(each, NOW)
    assert together.nodes == ("a", "b", "c")
    for name in ("requests", "scored", "unscored", "since", "latency_counts", "latency_ms"):
        assert getattr(together, name) == getattr(whole, name), name
    assert [(rule.name, rule.fires) for rule in together.rules] == [(rule.name, rule.fires) for rule in whole.rules]
    for one, other in zip(together.signals, whole.signals, strict=True):
        for name in ("live", "reference", "distance", "psi"):
            assert getattr(one, name) == getattr(other, name), name
        assert one.live_mean == pytest.approx(other.live_mean, rel=1e-9)
    assert together.estimate is not None and whole.estimate is not None
    assert together.estimate.value == whole.estimate.value
    assert [(point.at, point.scored) for point in together.timeline] == [
        (point.at, point.scored) for point in whole.timeline
    ]
    for one_point, other_point in zip(together.timeline, whole.timeline, strict=True):
        assert one_point.means == pytest.approx(other_point.means, rel=1e-9, nan_ok=True)


def test_evidence_is_that_of_the_node_with_most() -> None:
    blocks = {"a": list(range(10)), "b": [25]}
    each = [fed(monitor(node=node, nodes=2), seen).check(NOW) for node, seen in blocks.items()]
    together = merged(each)
    for place, signal in enumerate(together.signals):
        assert signal.evidence == max(view.signals[place].evidence for view in each)
    assert together.promise is not None and together.promise.nodes == 2 and together.promise.run_length == 1e6


def test_more_nodes_than_were_said_promise_less() -> None:
    each = [fed(monitor(node=node), [1]).check(NOW) for node in "abcd"]
    promise = merged(each).promise
    assert promise is not None
    assert promise.run_length == 1e6 / 4
    assert "N/250,000" in promise.words


def test_the_threshold_of_a_node_is_raised_by_their_number() -> None:
    alone, one_of_four = (fed(monitor(nodes=nodes), [1, 2, 3]).check(NOW) for nodes in (1, 4))
    for one, other in zip(alone.signals, one_of_four.signals, strict=True):
        assert one.evidence == pytest.approx(4 * other.evidence)


def test_an_alarm_is_told_once_and_acknowledged_wins() -> None:
    watched = fed(monitor(), list(range(15, 29)))
    before = watched.check(NOW)
    assert before.alarms
    watched.acknowledge(before.alarms[0].id, "ada", "seen", NOW)
    after = watched.check(NOW)
    for views in ([before, after], [after, before]):
        alarms = merged(views).alarms
        assert len(alarms) == len(before.alarms)
        assert {alarm.who for alarm in alarms if alarm.id == before.alarms[0].id} == {"ada"}


def test_a_silent_node_is_named_and_its_evidence_does_not_count() -> None:
    silent = replace(fed(monitor(node="b"), [24, 25]).check(NOW), updated=NOW - SILENT_S - 600)
    live = fed(monitor(node="a"), [1, 2]).check(NOW)
    together = merged([silent, live], NOW)
    assert together.scored == live.scored + silent.scored
    assert [signal.evidence for signal in together.signals] == [signal.evidence for signal in live.signals]
    assert [signal.live for signal in together.signals] == [signal.live for signal in live.signals]
    assert any("b was seen last 15 minutes ago" in note for note in together.notes)
    assert together.updated == NOW


def test_where_all_are_silent_the_last_one_is_shown() -> None:
    silent = fed(monitor(node="b"), [1]).check(NOW)
    assert merged([silent, replace(silent, updated=NOW - 50)], NOW + 1e6).signals == silent.signals


def test_another_reference_is_not_added() -> None:
    views = [fed(monitor(node="a"), [1, 2]).check(NOW), fed(monitor(node="b", seed=2), [3]).check(NOW + 1)]
    together = merged(views)
    assert sum(together.signals[0].live) == sum(views[1].signals[0].live)
    assert any("a compares with another reference" in note for note in together.notes)
    assert together.scored == 120


def test_a_node_that_collects_adds_its_requests() -> None:
    collecting = fed(monitor(node="b", baseline=1000), [1]).check(NOW + 5)
    ready = fed(monitor(node="a"), [1]).check(NOW)
    together = merged([collecting, ready])
    assert together.promise == ready.promise and together.requests == 80


def test_one_view_is_itself() -> None:
    view: View = fed(monitor(), [1]).check(NOW)
    assert merged([view]) is view
