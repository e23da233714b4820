"""Every verdict, what is done about it, and what the history says then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rollout_world import MODEL, Clock, assigned, completed, copies, make_registry
from shipworthy.errors import RolloutError
from shipworthy.registry import Registry
from shipworthy.rollout import Observed, Rollout, Rollouts, Spec

GOOD = Observed(copies=copies([], agreeing=700, timed=50))
UNTIMED = Observed(copies=copies([], agreeing=700))
FAILING = Observed(completed=completed([True, False] * 100, failed=[True, False] * 100))
SLOW = Observed(completed=completed([True, False] * 100, slow=[1, 0] * 100))
ONE_SIDED = Observed(assigned([True] * 60))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with make_registry(tmp_path / "registry") as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


def kinds(registry: Registry, since: int) -> list[tuple[str, str | None, int | None]]:
    return [(event.kind, event.alias, event.version) for event in registry.events_after(since)]


@pytest.mark.parametrize(
    ("task", "classes", "spec", "told"),
    [
        ("embedding", None, Spec("shadow"), "model of the task embedding.*--mode canary, and send a loss"),
        ("tensors", None, Spec("shadow"), "model of the task tensors.*--mode canary, and send a loss"),
        ("multilabel", 65, Spec("shadow"), "at most 64 classes, and this model has 65.*--mode canary"),
        ("regression", None, Spec("shadow"), "rollout.error_scale: is needed.*--error-scale"),
        ("regression", None, Spec("canary"), "rollout.error_scale: is needed.*--error-scale"),
        ("regression", None, Spec("ab"), "rollout.error_scale: is needed.*--error-scale"),
        ("embedding", None, Spec("canary"), None),
        ("multilabel", 65, Spec("ab"), None),
        ("multilabel", 64, Spec("shadow"), None),
        ("regression", None, Spec("ab", error_scale=1.0), None),
    ],
)
def test_what_can_never_be_judged_does_not_begin(
    tmp_path: Path, task: str, classes: int | None, spec: Spec, told: str | None
) -> None:
    names = None if classes is None else [str(number) for number in range(classes)]
    with make_registry(tmp_path / "registry", task=task, labels=names) as registry:
        rollouts = Rollouts(registry)
        if told is None:
            assert rollouts.start(MODEL, "digits:2", spec).running
        else:
            with pytest.raises(RolloutError, match=told):
                rollouts.start(MODEL, "digits:2", spec)
            assert rollouts.list(MODEL) == [] and registry.aliases(MODEL) == {"champion": 1}


def test_a_promotion_moves_the_champion(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow", auto=True))
    before = registry.newest_event()
    ended = rollouts.merge(rollout.id, GOOD)
    assert (ended.state, ended.verdict) == ("promote", "promote")
    assert registry.aliases(MODEL) == {"champion": 2}
    assert kinds(registry, before) == [
        ("rollout-verdict", None, 2),
        ("alias-moved", "champion", 2),
        ("alias-moved", "challenger", None),
        ("rollout-ended", None, 2),
    ]
    live = registry.live(MODEL)
    assert live is not None
    assert (live.version, live.why) == (2, f"rollout 1: {ended.reason}")
    verdict = registry.events_after(before)[0]
    assert verdict.details["by"] == "promote"
    assert verdict.details["reason"] == ended.reason
    figures = {figure["process"]: figure for figure in verdict.details["figures"]}
    assert figures["promote"]["log_e"] >= 2.995 > figures["rollback"]["log_e"]
    assert set(figures) == {"promote", "rollback", "errors", "latency", "assigned", "completed", "labelled"}


def test_a_promotion_waits_until_its_latency_was_looked_at(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow", auto=True))
    waiting = rollouts.merge(rollout.id, UNTIMED)
    assert (waiting.state, waiting.verdict) == ("running", None)
    assert waiting.reason.endswith("waits for its latency: 0 of 50 answers of the new version were timed.")
    rollouts.merge(rollout.id, Observed(copies=copies([], timed=49)))
    assert rollouts.merge(rollout.id, Observed(copies=copies([], timed=1))).state == "promote"


def test_a_promotion_waits_for_no_guardrail_that_is_off(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow", auto=True, guardrails=("errors",)))
    assert rollouts.merge(rollout.id, UNTIMED).state == "promote"


@pytest.mark.parametrize(("seen", "by"), [(FAILING, "errors"), (SLOW, "latency")])
def test_a_guardrail_takes_the_challenger_back(registry: Registry, seen: Observed, by: str) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("canary", ramp=(0.5,), auto=True))
    before = registry.newest_event()
    ended = rollouts.merge(rollout.id, seen)
    assert (ended.state, ended.verdict) == ("rollback", "rollback")
    assert registry.aliases(MODEL) == {"champion": 1}
    assert kinds(registry, before) == [
        ("rollout-verdict", None, 2),
        ("alias-moved", "challenger", None),
        ("rollout-ended", None, 2),
    ]
    assert registry.events_after(before)[0].details["by"] == by


def test_a_mismatch_holds(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab", auto=True))
    ended = rollouts.merge(rollout.id, ONE_SIDED)
    assert (ended.state, ended.verdict) == ("hold", "hold")
    assert "share of assigned requests" in ended.reason
    assert registry.aliases(MODEL) == {"champion": 1, "challenger": 2}


def test_without_auto_a_verdict_is_told_once_and_nothing_is_done(registry: Registry, clock: Clock) -> None:
    rollouts = Rollouts(registry, clock=clock)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow", timeout_s=60))
    before = registry.newest_event()
    for _ in range(3):
        rollout = rollouts.merge(rollout.id, GOOD)
    assert (rollout.state, rollout.verdict) == ("running", "promote")
    assert kinds(registry, before) == [("rollout-verdict", None, 2)]
    assert registry.aliases(MODEL) == {"champion": 1, "challenger": 2}
    clock.go(61)
    rollout = rollouts.merge(rollout.id, Observed())
    assert (rollout.state, rollout.verdict) == ("hold", "promote")
    assert "The verdict promote was not acted on after 60 s" in rollout.reason


def test_a_graver_verdict_is_told_too_and_a_lighter_one_is_not(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("canary", ramp=(0.5, 0.6), stage_requests=1, stage_seconds=0))
    before = registry.newest_event()
    rollout = rollouts.merge(rollout.id, ONE_SIDED)
    assert (rollout.verdict, rollout.stage) == ("hold", 0), "a ramp does not go on against the evidence"
    rollout = rollouts.merge(rollout.id, FAILING)
    rollout = rollouts.merge(rollout.id, Observed(completed=completed([False] * 4000, failed=[True] * 4000)))
    assert rollout.judgement().verdict == "hold"
    assert (rollout.verdict, rollout.stage, rollout.running) == ("rollback", 0, True)
    verdicts = [event.details["verdict"] for event in registry.events_after(before)]
    assert verdicts == ["hold", "rollback"]


def test_nothing_in_time_holds_and_never_promotes(registry: Registry, clock: Clock) -> None:
    rollouts = Rollouts(registry, clock=clock)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow", auto=True, timeout_s=7200))
    rollouts.merge(rollout.id, Observed(copies=copies([], agreeing=500)))
    clock.go(7199)
    assert rollouts.merge(rollout.id, Observed()).running
    clock.go(1)
    before = registry.newest_event()
    ended = rollouts.merge(rollout.id, Observed())
    assert (ended.state, ended.verdict, ended.ended) == ("hold", None, clock.now)
    assert "There is no verdict after 2 h, so the champion stays" in ended.reason
    assert kinds(registry, before) == [("rollout-ended", None, 2)]
    assert registry.aliases(MODEL) == {"champion": 1, "challenger": 2}


def test_whoever_looks_ends_a_rollout_whose_time_is_over(registry: Registry, clock: Clock) -> None:
    rollouts = Rollouts(registry, clock=clock)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab", timeout_s=60))
    clock.go(59)
    assert rollouts.look(rollout.id) == rollout
    clock.go(1)
    assert rollouts.look(rollout.id).state == rollouts.get(rollout.id).state == "hold"


def test_a_champion_that_was_moved_by_hand_stays(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow", auto=True))
    registry.promote("digits:3", why="an emergency")
    ended = rollouts.merge(rollout.id, GOOD)
    assert (ended.state, ended.verdict) == ("hold", None)
    assert "was moved to digits:3 meanwhile" in ended.reason
    assert registry.aliases(MODEL)["champion"] == 3


def test_a_champion_that_was_taken_away_ends_it_too(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab"))
    registry.move(MODEL, "champion", None, expected=1)
    ended = rollouts.merge(rollout.id, Observed())
    assert (ended.state, "names no version" in ended.reason) == ("hold", True)


def test_a_challenger_that_was_named_otherwise_meanwhile_keeps_its_alias(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab", auto=True))
    registry.move(MODEL, "challenger", 3, expected=2)
    assert rollouts.merge(rollout.id, FAILING).state == "rollback"
    assert registry.aliases(MODEL) == {"champion": 1, "challenger": 3}


def test_what_comes_after_the_end_is_ignored(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow", auto=True))
    ended = rollouts.merge(rollout.id, GOOD)
    before = registry.newest_event()
    assert rollouts.merge(rollout.id, FAILING) == ended == rollouts.get(rollout.id)
    assert registry.newest_event() == before


def test_the_end_frees_what_only_a_running_rollout_needs(registry: Registry) -> None:
    from sqlalchemy import func, select

    from shipworthy.registry.rollout_tables import rollout_flushes, rollout_keys, rollout_pairs

    def kept() -> list[int]:
        with registry.database.read() as connection:
            tables = (rollout_keys, rollout_pairs, rollout_flushes)
            return [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]

    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow"))
    observed = Observed(copies=copies([(bytes(12), 0, 1)], agreeing=1, digests=[5, 6]), worker="one", number=1)
    rollouts.merge(rollout.id, observed)
    assert kept() == [1, 1, 1]
    stopped = rollouts.stop(MODEL)
    assert kept() == [0, 0, 0]
    assert (stopped.tally.pairs, stopped.tally.evicted) == (0, 1)
    assert stopped.evidence.paired.open == 1


def test_what_fails_half_way_leaves_nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from shipworthy.rollout import acting

    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow", auto=True))
    before = registry.newest_event()

    def power_cut(*_: object) -> Rollout:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(acting, "forget_keys", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            rollouts.merge(rollout.id, GOOD)
    assert rollouts.get(rollout.id) == rollout
    assert registry.newest_event() == before
    assert rollouts.merge(rollout.id, GOOD).evidence.paired.pairs == 700
