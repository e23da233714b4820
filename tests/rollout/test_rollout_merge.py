"""What workers tell adds up to what a plain account of the same requests gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rollout_world import MODEL, Clock, assigned, completed, copies, make_registry
from shipworthy.errors import RegistryError, RolloutError
from shipworthy.registry import Registry
from shipworthy.rollout import Observed, Rollout, Rollouts, Spec, counting
from shipworthy.rollout.evidence import Evidence
from shipworthy.rollout.observed import Assignments, Completions, Copies

RATIOS = ("errors", "latency", "assigned", "completed", "labelled")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with make_registry(tmp_path / "registry") as made:
        yield made


class Account:
    """The same, request by request, with sets."""

    def __init__(self, mode: str, delta: float) -> None:
        self.evidence = Evidence(mode, delta)  # type: ignore[arg-type]
        streams = ("assigned", "completed", "settled", "copied")
        self.seen: dict[str, set[int]] = {stream: set() for stream in streams}

    def counts(self, stream: str, digest: int) -> bool:
        if digest and digest in self.seen[stream]:
            return False
        self.seen[stream].add(digest)
        return True

    def add(self, observed: Observed) -> None:
        seen = observed.assigned
        for digest, share, new in zip(seen.digests, seen.shares, seen.new, strict=True):
            if self.counts("assigned", int(digest)):
                self.evidence.assigned.observe(new, share)
        done = observed.completed
        for digest, share, new, bad, slow in zip(
            done.digests, done.shares, done.new, done.failed, done.slow, strict=True
        ):
            if self.counts("completed", int(digest)):
                self.evidence.errors.observe(new, share, bad)
                if slow != -1:
                    self.evidence.latency.observe(new, share, slow == 1)
        over = observed.settled
        for digest, share, new in zip(over.digests, over.shares, over.new, strict=True):
            if self.counts("settled", int(digest)):
                self.evidence.completed.observe(new, share)
        for digest, worst in zip(observed.copies.digests, observed.copies.worst, strict=True):
            if self.counts("copied", int(digest)):
                if worst:
                    self.evidence.paired.add_open(worst)
                else:
                    self.evidence.paired.add(0.0)
        for old, new in observed.copies.failed:
            self.evidence.errors.pairs(old, new)
        for old, new in observed.copies.slow:
            self.evidence.latency.pairs(old, new)


def same(ours: Evidence, theirs: Evidence) -> None:
    for name in RATIOS:
        mine, plain = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_array_equal(mine.events, plain.events, name)
        np.testing.assert_array_equal(mine.requests, plain.requests, name)
        np.testing.assert_allclose(mine.log_wealth, plain.log_wealth, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(ours.quality.promote, theirs.quality.promote, atol=1e-9)
    np.testing.assert_allclose(ours.quality.rollback, theirs.quality.rollback, atol=1e-9)


def callers(draw: np.random.Generator, size: int, keys: int) -> np.ndarray:
    return draw.integers(1, keys, size).astype(np.uint64) * draw.integers(0, 2, size).astype(np.uint64)


def traffic(draw: np.random.Generator, size: int, share: float, keys: int) -> Observed:
    """Half of the requests without a key, the others of few callers, who come again and again."""
    digests = callers(draw, size, keys)
    new = draw.random(size) < share
    shares = np.full(size, share)
    done = Completions(digests, shares, new, draw.random(size) < 0.05, draw.integers(-1, 2, size).astype(np.int8))
    before = callers(draw, size, keys)
    over = Assignments(before, shares, draw.random(size) < share)
    return Observed(Assignments(digests, shares, new), done, over)


def shadowed(draw: np.random.Generator, size: int, keys: int) -> Observed:
    differ = draw.random(size) < 0.1
    number = int(differ.sum())
    made = Copies(
        digests=draw.integers(0, keys, size).astype(np.uint64),
        worst=differ.astype(np.float64),
        uniques=draw.integers(0, 256, (number, 12)).astype(np.uint8),
        champion=np.zeros(number, np.uint64),
        challenger=np.ones(number, np.uint64),
        failed=draw.random((size, 2)) < 0.02,
        slow=draw.random((size // 4, 2)) < 0.05,
    )
    return Observed(copies=made)


def test_a_canary_adds_up(registry: Registry) -> None:
    draw = np.random.default_rng(0)
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("canary", ramp=(0.2,), timeout_s=1e6))
    account = Account("canary", rollout.spec.delta)
    for _ in range(12):
        observed = traffic(draw, 300, 0.2, 400)
        rollout = rollouts.merge(rollout.id, observed)
        account.add(observed)
    same(rollout.evidence, account.evidence)
    assert sum(rollout.tally.assigned) == sum(rollout.tally.completed) == 3600
    assert rollout.tally.keys["assigned"] == len(account.seen["assigned"] - {0})
    assert rollout.tally.dropped["assigned"] == 3600 - int(account.evidence.assigned.events.sum())
    assert rollout.revision == 12


def test_a_shadow_adds_up(registry: Registry) -> None:
    draw = np.random.default_rng(1)
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow", timeout_s=1e6))
    account = Account("shadow", rollout.spec.delta)
    for _ in range(8):
        observed = shadowed(draw, 250, 900)
        rollout = rollouts.merge(rollout.id, observed)
        account.add(observed)
    same(rollout.evidence, account.evidence)
    assert rollout.evidence.paired.open == rollout.tally.pairs == account.evidence.paired.open > 50


def test_answers_of_a_slower_version_do_not_look_lost(registry: Registry) -> None:
    """What has ended by now says nothing of who loses answers; what has of the seconds that are over does."""
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab"))
    seen = Observed(assigned([True, False] * 100), completed([False] * 100 + [True] * 20))
    rollout = rollouts.merge(rollout.id, seen)
    assert (rollout.running, rollout.evidence.completed.log_e) == (True, 0.0)
    assert rollout.tally.completed == [100, 20]
    rollout = rollouts.merge(rollout.id, Observed(settled=assigned([False] * 100 + [True] * 20)))
    assert rollout.evidence.mismatch == "completed"
    assert rollout.evidence.completed.events.tolist() == [100, 20]


def test_a_restart_in_the_middle_changes_nothing(registry: Registry) -> None:
    tellings = [traffic(np.random.default_rng(seed), 200, 0.5, 100) for seed in range(6)]
    rollout = Rollouts(registry).start(MODEL, "digits:2", Spec("ab", timeout_s=1e6))
    account = Account("ab", rollout.spec.delta)
    for observed in tellings:
        with Registry(registry.url) as other:
            rollout = Rollouts(other).merge(rollout.id, observed)
        account.add(observed)
    same(rollout.evidence, account.evidence)


def test_a_telling_counts_once_however_often_it_comes(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab"))
    first = Observed(assigned([True] * 3 + [False] * 4), worker="one", number=1)
    for _ in range(3):
        rollouts.merge(rollout.id, first)
    rollouts.merge(rollout.id, Observed(assigned([True]), worker="two", number=1))
    rollouts.merge(rollout.id, Observed(assigned([True]), worker="one", number=2))
    late = rollouts.merge(rollout.id, first)
    assert late.evidence.assigned.events.tolist() == [4, 5]


def test_guardrails_that_are_off_see_nothing(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab", guardrails=()))
    done = completed([True] * 200, failed=[True] * 200, slow=[1] * 200)
    seen = assigned([True] * 200)
    rollout = rollouts.merge(rollout.id, Observed(seen, done, seen))
    assert rollout.running
    assert rollout.tally.failed == rollout.tally.slow == [0, 200]
    assert all(getattr(rollout.evidence, name).log_e == 0 for name in RATIOS)


def test_a_ramp_goes_on_when_enough_was_seen_for_long_enough(registry: Registry) -> None:
    clock = Clock()
    rollouts = Rollouts(registry, clock=clock)
    spec = Spec("canary", ramp=(0.01, 0.05, 0.25), stage_requests=100, stage_seconds=10)
    rollout = rollouts.start(MODEL, "digits:2", spec)
    assert (rollout.stage, rollout.share) == (0, 0.01)
    balanced = [False] * 99 + [True]
    rollout = rollouts.merge(rollout.id, Observed(assigned(balanced, 0.01)))
    assert (rollout.stage, rollout.stage_seen) == (0, 100), "not for long enough"
    clock.go(11)
    rollout = rollouts.merge(rollout.id, Observed())
    assert (rollout.stage, rollout.share, rollout.stage_seen) == (1, 0.05, 0)
    clock.go(11)
    rollout = rollouts.merge(rollout.id, Observed(assigned(balanced * 2, 0.01)))
    assert (rollout.stage, rollout.stage_seen) == (1, 0), "requests of an earlier stage"
    rollout = rollouts.merge(rollout.id, Observed(assigned(([False] * 19 + [True]) * 5, 0.05)))
    assert (rollout.stage, rollout.share) == (2, 0.25)
    clock.go(100)
    rollout = rollouts.merge(rollout.id, Observed(assigned(([False] * 3 + [True]) * 50, 0.25)))
    assert (rollout.stage, rollout.running) == (2, True), "there is no further one"
    stages = [event.details["share"] for event in reversed(registry.history(MODEL)) if event.kind == "rollout-stage"]
    assert stages == [0.05, 0.25]


def test_pairs_are_bounded_and_those_that_give_way_stay_the_worst_case(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow", max_pairs=10))
    names = [bytes([number] * 12) for number in range(25)]
    for start in (0, 5):
        rollout = rollouts.merge(rollout.id, Observed(copies=copies([(one, 0, 1) for one in names[start : start + 5]])))
    assert (rollout.tally.pairs, rollout.tally.evicted) == (10, 0)
    rollout = rollouts.merge(rollout.id, Observed(copies=copies([(one, 0, 1) for one in names[10:13]])))
    assert (rollout.tally.pairs, rollout.tally.evicted) == (10, 3)
    rollout = rollouts.merge(rollout.id, Observed(copies=copies([(one, 0, 1) for one in names[13:]])))
    assert (rollout.tally.pairs, rollout.tally.evicted) == (10, 15)
    assert rollout.evidence.paired.open == 25


def test_keys_above_the_limit_are_dropped_and_requests_without_one_are_not(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "MOST_KEYS", 10)
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab"))
    for first in (1, 9, 17):
        keys = [*range(first, first + 8), 0]
        rollout = rollouts.merge(rollout.id, Observed(assigned([key % 2 == 0 for key in keys], digests=keys)))
    assert rollout.tally.keys == {"assigned": 10}
    assert rollout.tally.dropped == {"assigned": 14}
    assert int(rollout.evidence.assigned.events.sum()) == 13


def test_only_one_rollout_of_a_model_runs(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    first = rollouts.start(MODEL, "digits:2", Spec("ab"), why="faster")
    with pytest.raises(RolloutError, match="rollout 1 is running"):
        rollouts.start(MODEL, "digits:3", Spec("ab"))
    assert rollouts.active(MODEL) == first
    with pytest.raises(RegistryError, match=r"part of a running rollout|alias"):
        registry.delete("digits:2")
    stopped = rollouts.stop(MODEL, why="enough")
    assert (stopped.state, stopped.reason) == ("stopped", "enough")
    assert rollouts.active(MODEL) is None
    second = rollouts.start(MODEL, "digits@challenger", Spec("ab"))
    assert [one.id for one in rollouts.list(MODEL)] == [second.id, first.id] == [2, 1]
    assert rollouts.get(1).state == "stopped"
    assert registry.aliases(MODEL) == {"champion": 1, "challenger": 2}


def test_the_database_itself_allows_one_running_rollout(registry: Registry) -> None:
    from sqlalchemy import update
    from sqlalchemy.exc import IntegrityError

    from shipworthy.registry.rollout_tables import rollouts as table

    rollouts = Rollouts(registry)
    rollouts.start(MODEL, "digits:2", Spec("ab"))
    rollouts.stop(MODEL)
    rollouts.start(MODEL, "digits:3", Spec("ab"))
    with pytest.raises(IntegrityError), registry.database.write() as connection:
        connection.execute(update(table).values(state="running"))


@pytest.mark.parametrize(
    ("model", "challenger", "told"),
    [
        (MODEL, "digits:1", "champion itself"),
        (MODEL, "digits:9", "is no version"),
        (MODEL, "digits@staging", "is no alias"),
        (MODEL, "letters:2", "is no version of digits"),
        ("letters", "letters:2", "is no model"),
    ],
)
def test_what_cannot_be_tried_is_refused(registry: Registry, model: str, challenger: str, told: str) -> None:
    with pytest.raises((RolloutError, RegistryError), match=told):
        Rollouts(registry).start(model, challenger, Spec("ab"))
    assert registry.aliases(MODEL) == {"champion": 1}


def test_versions_of_another_task_are_not_compared(registry: Registry) -> None:
    from rollout_world import add_versions

    add_versions(registry, MODEL, "classification", ("a", "c", "b"), [4])
    with pytest.raises(RolloutError, match="another task or other classes"):
        Rollouts(registry).start(MODEL, "digits:4", Spec("shadow"))


def test_a_shadow_of_numbers_needs_their_scale(tmp_path: Path) -> None:
    with make_registry(tmp_path / "prices", model="prices", task="regression", labels=None) as registry:
        rollouts = Rollouts(registry)
        with pytest.raises(RolloutError, match="error_scale"):
            rollouts.start("prices", "prices:2", Spec("shadow"))
        assert rollouts.start("prices", "prices:2", Spec("shadow", error_scale=3.0)).running


def test_without_a_champion_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    with (
        make_registry(tmp_path / "none", champion=None) as registry,
        pytest.raises(RolloutError, match="nothing to compare with"),
    ):
        Rollouts(registry).start(MODEL, "digits:2", Spec("ab"))


def test_what_is_not_known_is_said(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    for call in (lambda: rollouts.get(7), lambda: rollouts.merge(7, Observed()), lambda: rollouts.stop(MODEL)):
        with pytest.raises(RolloutError, match=r"is not known|no running rollout"):
            call()


def test_a_rollout_can_be_read_as_it_was(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    started = rollouts.start(MODEL, "digits:2", Spec("canary"), why="smaller")
    read = rollouts.get(started.id)
    assert isinstance(read, Rollout)
    assert read == started
    assert (read.who, read.why, read.mode, read.running) == ("tester", "smaller", "canary", True)
    assert "Undecided" in read.reason
