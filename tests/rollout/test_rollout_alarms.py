"""The guardrail drift: an alarm of the monitor that the challenger has and the champion has not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollout_world import BEGIN, MODEL, Clock, completed, copies, make_registry
from shipworthy.errors import RegistryError, RolloutError
from shipworthy.registry import Registry
from shipworthy.rollout import Observed, Rollout, Rollouts, Spec
from shipworthy.rollout.controller import decide_alarm

WHY = "confidence of digits:2 has moved: median 6.2 → 4.1"
TOLD = {"alarm": {"id": "a1", "severity": "large"}}
GUARDED: dict[str, Any] = {"guardrails": ("errors", "drift")}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    url: str | Path = tmp_path / "registry"
    if request.param != "sqlite":
        url = request.getfixturevalue("postgres").new_database()
        Registry(url, artifacts=str(tmp_path / "blobs")).close()
    with make_registry(url) as made:
        yield made


def test_with_auto_it_takes_the_challenger_back_and_says_why(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollouts.start(MODEL, "digits:2", Spec("canary", auto=True, **GUARDED))
    before = registry.newest_event()
    ended = rollouts.alarmed(MODEL, 2, WHY, details=TOLD)
    assert ended is not None
    assert (ended.state, ended.verdict, ended.reason) == ("rollback", "rollback", WHY)
    assert registry.aliases(MODEL) == {"champion": 1}
    events = registry.events_after(before)
    assert [(event.kind, event.version) for event in events] == [
        ("rollout-verdict", 2), ("alias-moved", None), ("rollout-ended", 2),
    ]  # fmt: skip
    assert (events[0].why, events[0].details["by"]) == (f"rollback: {WHY}", "drift")
    assert events[0].details["alarm"] == TOLD["alarm"]
    assert {figure["process"] for figure in events[0].details["figures"]} >= {"promote", "errors"}
    assert events[2].why == f"rollback: {WHY}"
    assert rollouts.alarmed(MODEL, 2, WHY) is None, "it has ended"


def test_without_auto_it_is_recommended_once(registry: Registry) -> None:
    clock = Clock()
    rollouts = Rollouts(registry, clock=clock)
    started = rollouts.start(
        MODEL, "digits:2", Spec("canary", ramp=(0.5, 0.6), stage_requests=1, stage_seconds=0, timeout_s=60, **GUARDED)
    )
    before = registry.newest_event()
    for _ in range(3):
        after = rollouts.alarmed(MODEL, 2, WHY)
    assert after is not None and (after.state, after.verdict, after.reason) == ("running", "rollback", WHY)
    assert [event.kind for event in registry.events_after(before)] == ["rollout-verdict"]
    assert registry.aliases(MODEL) == {"champion": 1, "challenger": 2}
    told = rollouts.merge(started.id, Observed(completed=completed([True, False] * 9)))
    assert (told.verdict, told.stage, told.running) == ("rollback", 0, True), "a ramp does not go on against it"
    clock.go(61)
    assert "The verdict rollback was not acted on" in rollouts.merge(started.id, Observed()).reason


def test_it_is_graver_than_what_was_recommended_before(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    started = rollouts.start(MODEL, "digits:2", Spec("shadow", **GUARDED))
    assert rollouts.merge(started.id, Observed(copies=copies([], agreeing=700, timed=50))).verdict == "promote"
    after = rollouts.alarmed(MODEL, 2, WHY)
    assert after is not None and after.verdict == "rollback"
    assert rollouts.merge(started.id, Observed(copies=copies([], agreeing=100))).verdict == "rollback"


@pytest.mark.parametrize(
    ("spec", "model", "version"),
    [
        (Spec("canary", auto=True), MODEL, 2),
        (Spec("canary", auto=True, **GUARDED), MODEL, 1),
        (Spec("canary", auto=True, **GUARDED), MODEL, 3),
        (Spec("canary", auto=True, **GUARDED), "letters", 2),
    ],
    ids=["not asked for", "the champion's", "a third version's", "another model's"],
)
def test_it_concerns_no_other_rollout(registry: Registry, spec: Spec, model: str, version: int) -> None:
    rollouts = Rollouts(registry)
    started = rollouts.start(MODEL, "digits:2", spec)
    before = registry.newest_event()
    assert rollouts.alarmed(model, version, WHY) is None
    assert rollouts.get(started.id) == started and registry.newest_event() == before


def test_a_champion_that_was_moved_is_left_to_the_next_telling(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    started = rollouts.start(MODEL, "digits:2", Spec("canary", auto=True, **GUARDED))
    registry.promote("digits:3")
    assert rollouts.alarmed(MODEL, 2, WHY) == started
    assert rollouts.merge(started.id, Observed()).state == "hold"


def test_what_fails_half_way_leaves_nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from shipworthy.rollout import acting

    rollouts = Rollouts(registry)
    started = rollouts.start(MODEL, "digits:2", Spec("canary", auto=True, **GUARDED))
    before = registry.newest_event()

    def power_cut(*_: object) -> Rollout:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(acting, "forget_keys", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            rollouts.alarmed(MODEL, 2, WHY)
    assert rollouts.get(started.id) == started and registry.newest_event() == before
    ended = rollouts.alarmed(MODEL, 2, WHY)
    assert ended is not None and ended.state == "rollback"


def test_what_no_history_can_hold_is_refused_or_mended(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    started = rollouts.start(MODEL, "digits:2", Spec("canary", **GUARDED))
    with pytest.raises(RegistryError, match="cannot be written as JSON"):
        rollouts.alarmed(MODEL, 2, WHY, details={"value": float("nan")})
    assert rollouts.get(started.id) == started
    after = rollouts.alarmed(MODEL, 2, "two\nlines")
    assert after is not None and after.reason == "two lines"


def test_the_decision_needs_no_registry(registry: Registry) -> None:
    rollout = Rollouts(registry).start(MODEL, "digits:2", Spec("ab", auto=True, **GUARDED))
    decision = decide_alarm(rollout, WHY, TOLD, champion=1, now=BEGIN)
    assert (decision.rollout.state, decision.rollout.ended) == ("rollback", BEGIN)
    assert [note.kind for note in decision.notes] == ["rollout-verdict", "rollout-ended"]
    again = decide_alarm(decision.rollout, WHY, TOLD, champion=1, now=BEGIN)
    assert again.notes == () and again.rollout == decision.rollout


def test_it_has_to_be_asked_for_and_is_kept_as_others_are() -> None:
    assert "drift" not in Spec("canary").guardrails
    asked = Spec.from_options("canary", {"guardrails": "errors,latency,ratio,drift"})
    assert asked.guardrails == ("errors", "latency", "ratio", "drift")
    assert Spec.from_json(asked.to_json()) == asked
    with pytest.raises(RolloutError, match="choose of errors, latency, ratio, drift"):
        Spec("canary", guardrails=("drifts",))  # type: ignore[arg-type]
