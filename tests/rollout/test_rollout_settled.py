"""Answers that a version loses, and errors that it makes, told from those that only take longer."""

from __future__ import annotations

import heapq
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from live_cases import KEY, end, lane, rollout

from shipworthy.predict.ids import digest_of
from shipworthy.rollout import recorder
from shipworthy.rollout.evidence import Evidence, Judgement, judge
from shipworthy.rollout.live import Split
from shipworthy.rollout.merging import absorb
from shipworthy.rollout.recorder import SETTLED_S, Recorder
from shipworthy.rollout.tally import Tally

HEADER = b"x-assignment-key"
EVERY: Any = SimpleNamespace(count=lambda stream, digests: np.ones(len(digests), bool))
"""A log of keys in which all is new."""


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(recorder, "time", SimpleNamespace(monotonic=lambda: self.now))


class World:
    """A canary in one process, in a time of its own: requests end later than they come."""

    def __init__(self, clock: Clock, shares: tuple[float, ...], seed: int, **options: Any) -> None:
        self._clock, self._draw = clock, np.random.default_rng(seed)
        self._shares = shares
        self._spec = rollout(**options).spec
        target_ms = self._spec.target_ms
        recorder = Recorder(None if target_ms is None else target_ms / 1e3)
        self._trial = Split(rollout(share=shares[0]), KEY, lane(), lane(version=2), recorder, random=self._draw.random)
        self._ends: list[tuple[float, int, Any, float, int]] = []
        self._number = 0
        self._evidence, self._tally = Evidence("canary", 0.02), Tally()
        self._stage = self._seen = self._began = 0

    def second(
        self, rate: float, medians: tuple[float, float], lost: float = 0.0, fail_after: tuple[float, float] = (0.0, 0.0)
    ) -> Judgement:
        """`lost` is the share of the challenger's requests that never end. One of fifty fails, of either version, where
        it says after how long."""
        until = self._clock.now + 1.0
        arrivals = np.sort(self._clock.now + self._draw.random(self._draw.poisson(rate)))
        for came in arrivals.tolist():
            self._run_until(came)
            part = self._trial.assign({})
            new = part.lane is self._trial.lanes[1]
            takes, status = medians[new] * float(self._draw.lognormal(0, 0.2)), 200
            if any(fail_after) and self._draw.random() < 0.02:
                takes, status = fail_after[new], 500
            if not (new and self._draw.random() < lost):
                self._number += 1
                heapq.heappush(self._ends, (came + takes, self._number, part, takes, status))
        self._run_until(until)
        absorb(self._trial.take()(), self._spec, self._evidence, self._tally, EVERY)
        self._go_on(len(arrivals))
        return judge(self._evidence)

    def _run_until(self, moment: float) -> None:
        while self._ends and self._ends[0][0] <= moment:
            self._clock.now, _, part, takes, status = heapq.heappop(self._ends)
            end(part, status, takes)
        self._clock.now = moment

    def _go_on(self, came: int) -> None:
        """To the next share, as a ramp does."""
        self._seen, self._began = self._seen + came, self._began + 1
        if self._stage + 1 < len(self._shares) and self._seen >= 1000 and self._began >= 30:
            self._stage, self._seen, self._began = self._stage + 1, 0, 0
            self._trial.follow(rollout(share=self._shares[self._stage]))


SLOWER = [
    (100, 0.02, 0.03, (0.5,)),
    (100, 0.02, 1.0, (0.5,)),
    (100, 0.02, 3.0, (0.5,)),
    (300, 0.02, 0.5, (0.25, 0.5)),
    (30, 0.05, 2.0, (0.5,)),
    (30, 1.0, 5.0, (0.5,)),
    (1000, 0.02, 0.1, (0.5,)),
    (1000, 0.02, 0.3, (0.5,)),
    (1000, 0.02, 1.0, (0.05, 0.25, 0.5)),
]


@pytest.mark.parametrize(("rate", "old", "new", "shares"), SLOWER)
def test_a_slower_version_is_slow_and_loses_nothing(
    rate: float, old: float, new: float, shares: tuple[float, ...], monkeypatch: pytest.MonkeyPatch, effort: float
) -> None:
    verdicts: Counter[Any] = Counter()
    for seed in range(max(2, int(40 * effort))):
        world = World(Clock(monkeypatch), shares, seed)
        judgements = (world.second(rate, (old, new)) for _ in range(120))
        decided = next((one for one in judgements if one.verdict is not None), None)
        verdicts[decided and (decided.verdict, decided.by)] += 1
    assert set(verdicts) == {("rollback", "latency")}


@pytest.mark.parametrize("new", [0.02, 0.6, 5.0])
@pytest.mark.parametrize("shares", [(0.5,), (0.05, 0.5)])
def test_however_much_slower_it_is_no_answer_looks_lost(
    new: float, shares: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks at the latency here, so that the whole time is judged."""
    world = World(Clock(monkeypatch), shares, 5, guardrails=("ratio",))
    for _ in range(100):
        assert world.second(60, (0.02, new)).verdict is None
    assert world._evidence.completed.requests.sum() > 60 * 60


def test_errors_that_come_late_are_as_many_as_those_that_come_at_once(
    monkeypatch: pytest.MonkeyPatch, effort: float
) -> None:
    """Both fail as often. Whoever counted them as they come would see those of one version alone for many seconds."""
    for seed in range(max(2, int(40 * effort))):
        for fail_after in ((15.0, 0.01), (0.01, 15.0)):
            world = World(Clock(monkeypatch), (0.5,), seed, guardrails=("errors", "ratio"))
            for _ in range(60):
                assert world.second(200, (0.02, 0.02), fail_after=fail_after).verdict is None
            assert min(world._tally.failed) > 50


def test_a_version_that_loses_answers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(Clock(monkeypatch), (0.5,), 6, guardrails=("ratio",))
    judgements = [world.second(100, (0.02, 0.02), lost=0.2) for _ in range(90)]
    decided = [one.verdict is not None for one in judgements].index(True)
    assert (judgements[decided].verdict, judgements[decided].by) == ("hold", "completed")
    assert decided > SETTLED_S


def test_who_never_answers_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shall lose: its callers wait for nothing."""
    world = World(Clock(monkeypatch), (0.5,), 6, target_ms=50)
    judgements = [world.second(100, (0.02, 0.02), lost=1.0) for _ in range(40)]
    decided = next(one for one in judgements if one.verdict is not None)
    assert (decided.verdict, decided.by) == ("rollback", "latency")


@pytest.mark.parametrize("key", [None, b"me"])
def test_a_period_is_told_when_all_of_it_has_ended_and_after_those_before(
    key: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    trial = Split(rollout(share=0.25), KEY, lane(), lane(version=2), Recorder(None))
    headers = {} if key is None else {HEADER: key}
    slow, quick = trial.assign(headers), trial.assign(headers)
    end(quick, 500, 0.1)
    assert len(trial.take()().completed) == 0
    trial.assign(headers).answered(0.1)
    assert len(trial.take()().completed) == 0, "it is over, and has to wait for its turn"
    clock.now += 2.0
    slow.answered(2.0)
    told = trial.take()()
    assert sorted(told.completed.failed.tolist()) == [False, False, True]
    assert len(told.settled) == 3


@pytest.mark.parametrize("key", [None, b"me"])
def test_who_has_not_ended_in_time_is_lost_and_slow(key: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    trial = Split(rollout(share=0.25, target_ms=50), KEY, lane(), lane(version=2), Recorder(0.05))
    headers = {} if key is None else {HEADER: key}
    late = trial.assign(headers)
    trial.assign(headers).answered(0.01)
    trial.take()()
    clock.now += SETTLED_S - 0.1
    assert len(trial.take()().settled) == 0
    clock.now += 0.1
    told = trial.take()()
    assert len(told.settled) == 1
    assert sorted(told.completed.slow.tolist()) == [0, 1]
    assert told.completed.failed.tolist() == [False, False]
    # It counts for neither version when it ends at last.
    end(late, 500, SETTLED_S + 1.0)
    told = trial.take()()
    assert (len(told.settled), len(told.completed)) == (0, 0)


@pytest.mark.parametrize("status", [200, 401, 422, 499, 500, 503])
@pytest.mark.parametrize("key", [None, b"me"])
def test_whatever_way_it_ends_it_has_ended(status: int, key: bytes | None) -> None:
    trial = Split(rollout(share=0.25), KEY, lane(), lane(version=2), Recorder(None))
    part = trial.assign({} if key is None else {HEADER: key})
    end(part, status, 5.0)
    # The share is the one of its own time.
    trial.follow(rollout(share=0.5))
    told = trial.take()().settled
    assert told.digests.tolist() == [0 if key is None else digest_of(b"1:me", KEY)]
    assert (told.shares.tolist(), told.new.tolist()) == ([0.25], [part.lane is trial.lanes[1]])
