"""What is put together where a server is watched: parts of its processes, labels, and rollouts that hear of alarms."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_live_quality import SINCE, drifted, view
from watching_cases import places, priced, wait_until

from rollout_world import MODEL, make_registry
from shipworthy import compose
from shipworthy.compose import Files, Labelled, parts_of
from shipworthy.errors import MonitorError
from shipworthy.monitor.keeping import Start
from shipworthy.monitor.options import MonitorOptions
from shipworthy.monitor.places import Places
from shipworthy.monitor.remembering import Memory, Remembering
from shipworthy.monitor.store import States
from shipworthy.monitor.view import Point
from shipworthy.registry import Losses, Registry
from shipworthy.rollout import Rollouts, Spec
from shipworthy.server.plan import Monitoring, Plan, Share
from shipworthy.signals import Accepted


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with make_registry(tmp_path / "registry") as made:
        yield made


def test_a_server_that_watches_nothing_has_no_parts() -> None:
    assert parts_of(Plan(packages=("a",))) is None


def test_workers_share_the_rate_of_their_server(tmp_path: Path) -> None:
    plan = Plan(packages=("a",), monitoring=Monitoring(str(tmp_path), rate=500, one_in=2, baseline=True))
    for share, rate in ((None, 500), (Share(0, 3, "x"), 166), (Share(0, 1000, "x"), 0.5)):
        parts = parts_of(replace(plan, share=share))
        assert isinstance(parts, Files) and parts.observer is not None
        assert (parts.upstream, parts.router, parts.feedback) == (None, None, None)
        watched = parts.observer.watch("prices", priced(None))
        assert watched is not None and watched.choosing._rate == rate and watched.choosing.share == 0.5
        asyncio.run(parts.end())


def point(at: float, scored: int) -> Point:
    return Point(at, scored, (), 0.0, None)


def test_an_alarm_of_the_challenger_alone_tells_against_it(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "LOOK_S", 0.0)
    rollouts = Rollouts(registry)
    rollouts.start(MODEL, "digits:2", Spec("canary", auto=True, guardrails=("errors", "drift")))
    said = Labelled(registry)
    assert said.place == str(Path(registry.url) / "monitor")
    timeline = (point(SINCE + 20, 500), point(SINCE + 40, 300), point(SINCE + 61, 10_000))
    old = replace(view(timeline=timeline), version="1")
    new = replace(view(timeline=timeline, alarms=(drifted(),)), version="2")
    said.seen([old, replace(new, alarms=())])
    said.seen([new])
    said.seen([replace(old, alarms=(drifted(),)), new])
    said.seen([replace(old, model="other"), replace(new, model="other")])
    active = rollouts.active(MODEL)
    assert active is not None and active.verdict != "rollback"
    said.seen([old, new])
    assert rollouts.active(MODEL) is None
    assert [event.kind for event in registry.events_after(0)][-1] == "rollout-ended"


def test_labels_are_those_of_versions_of_the_registry(registry: Registry) -> None:
    said = Labelled(registry)
    found = said.losses(MODEL, "1")
    assert found is not None and not found.counts.any()
    assert said.losses(MODEL, "4fce1d6d2f4c") is None, "a package from elsewhere"
    with compose.opened(Start("x", MonitorOptions(), registered=True, registry=registry.url)) as opened:
        assert opened.losses(MODEL, "1") is not None


def test_what_labels_say_is_in_the_view(tmp_path: Path) -> None:
    counts = np.zeros((1, 101), np.int64)
    counts[0, 0], counts[0, -1] = 700, 300
    asked: list[tuple[str, str]] = []

    def source(model: str, version: str) -> Losses:
        asked.append((model, version))
        return Losses("classification", None, SINCE, np.array([int(SINCE)]), counts, 0)

    remembering = Remembering(States(tmp_path))
    accepted = Accepted("accuracy", 0.96, 0.95, 2000)
    memory = Memory(remembering, MODEL, "3", "here", False, accepted, source)
    assert memory.with_quality(view()).quality is None, "nobody has looked yet"
    assert list(memory.acknowledgements()) == []
    remembering.close()
    seen = memory.with_quality(view())
    assert asked == [(MODEL, "3")]
    assert seen.quality is not None and seen.quality.value == 0.7 and seen.quality.below
    assert [alarm.detector for alarm in seen.alarms] == ["quality"]


def test_what_cannot_be_remembered_is_said_once_and_hinders_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a fault")

    done: list[int] = []
    remembering = Remembering(States(tmp_path))
    for turn in range(5):
        remembering.do(("labels",), fail)
        remembering.do(("state",), lambda: done.append(turn))  # noqa: B023
        wait_until(lambda: done[-1:] == [turn])  # noqa: B023
    remembering.close()
    assert [record.message for record in caplog.records] == ["what is watched is not remembered: a fault"]
    assert caplog.records[0].exc_info


def test_options_of_a_server_name_the_folder_of_its_monitor(tmp_path: Path) -> None:
    server = compose.Server("any", port=0, monitor=MonitorOptions(rate=7, baseline=50, place=str(tmp_path)))
    try:
        said = server._bound.plan.monitoring
        assert said is not None and (said.rate, said.baseline) == (7, True)
        assert Places(Path(said.folder)).socket.is_socket()
    finally:
        server._bound.close()
        server._kept.close()
    assert not Path(said.folder).exists()
    plain = compose.Server("any", port=0, monitor=None)
    assert plain._bound.plan.monitoring is None
    plain._bound.close()


def test_a_place_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(MonitorError, match="is no place for states"):
        compose.serve("any", port=0, monitor=MonitorOptions(place="https://example.org"))


def test_an_observer_of_a_folder_that_is_gone_waits_for_nobody() -> None:
    with places() as at:
        plan = Plan(packages=("a",), monitoring=Monitoring(str(at.folder), rate=5, baseline=True))
    parts = Files(plan)
    assert parts.observer is not None and parts.observer.watch("prices", priced(None)) is not None
    asyncio.run(parts.end())
    assert parts.observer.view("prices") == []
