"""Trials in a server process: which version a request goes to, and what is told of it."""

from __future__ import annotations

import gc
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from live_cases import KEY, end, lane, rollout

from shipworthy.predict.ids import ALONE, CHALLENGER, CHAMPION, digest_of, read_id, tag_of
from shipworthy.rollout import live, recorder
from shipworthy.rollout.arms import Arm, failed
from shipworthy.rollout.live import Router, Split
from shipworthy.rollout.observed import Observed
from shipworthy.rollout.recorder import SETTLED_S, Recorder

HEADER = b"x-assignment-key"
NOBODY: dict[bytes, bytes] = {}
RAMP = (0.01, 0.05, 0.25, 0.5, 0.9)


def split(mode: str = "canary", *, number: int = 1, seed: int = 0, **options: Any) -> Split:
    made = rollout(mode, number=number, **options)
    target_ms = made.spec.target_ms
    recorder = Recorder(None if target_ms is None else target_ms / 1e3)
    return Split(made, KEY, lane(), lane(version=2), recorder, random=np.random.default_rng(seed).random)


def assigned_to_new(trial: Split, keys: list[bytes | None]) -> list[bool]:
    return [trial.assign({} if key is None else {HEADER: key}).lane is trial.lanes[1] for key in keys]


def within_chance(hits: int, draws: int, share: float) -> bool:
    """Within 4 standard errors, which a fair draw leaves with a chance of 6e-5."""
    return abs(hits / draws - share) < 4 * math.sqrt(share * (1 - share) / draws)


@pytest.mark.parametrize("share", RAMP)
def test_shares_by_chance_are_what_they_say(share: float) -> None:
    hits = assigned_to_new(split(share=share, seed=3), [None] * 20_000)
    assert within_chance(sum(hits), len(hits), share)


@pytest.mark.parametrize("share", RAMP)
def test_shares_by_key_are_what_they_say(share: float) -> None:
    hits = assigned_to_new(split(share=share), [b"user-%d" % one for one in range(20_000)])
    assert within_chance(sum(hits), len(hits), share)


def test_who_was_in_the_share_stays_in_it_along_a_ramp() -> None:
    keys: list[bytes | None] = [b"user-%d" % one for one in range(3000)]
    trial = split(share=RAMP[0])
    before = assigned_to_new(trial, keys)
    for share in RAMP[1:]:
        assert assigned_to_new(trial, keys) == before, "the same key has the same answer"
        trial.follow(rollout(share=share))
        after = assigned_to_new(trial, keys)
        assert all(now for now, was in zip(after, before, strict=True) if was)
        assert sum(after) > sum(before)
        before = after


def test_another_process_has_the_same_opinion_and_another_rollout_one_of_its_own() -> None:
    keys: list[bytes | None] = [b"user-%d" % one for one in range(4000)]
    first, again, other = (
        assigned_to_new(split(share=0.5, number=number, seed=seed), keys) for number, seed in ((1, 0), (1, 9), (2, 0))
    )
    assert first == again
    # Whom the last rollout had tried is in the next one by chance.
    both = sum(one and two for one, two in zip(first, other, strict=True))
    assert within_chance(both, len(keys), 0.25)


@pytest.mark.parametrize("requests", [1, 1023, 1024, 1025, 5000])
def test_what_is_drawn_ahead_and_not_used_was_not_assigned(requests: int) -> None:
    trial = split(share=0.3, seed=2)
    for _ in range(2):
        hits = assigned_to_new(trial, [None] * requests)
        told = trial.take()().assigned
        assert (len(told), int(told.new.sum())) == (requests, sum(hits))


def test_a_trial_that_is_made_anew_loses_nothing_of_the_one_before() -> None:
    """As where a version was out of reach for a moment: other lanes, and the same recorder."""
    recorder = Recorder(None)
    for requests in (300, 1300):
        before = Split(rollout(share=0.5), KEY, lane(), lane(version=2), recorder)
        for _ in range(requests):
            before.assign(NOBODY).answered(0.1)
        before.close()
        after = Split(rollout(share=0.5), KEY, lane(), lane(version=2), recorder)
        told = after.take()()
        assert (len(told.assigned), len(told.completed), len(told.settled)) == (requests, requests, requests)


def test_what_was_told_is_no_garbage_that_waits_for_its_collection() -> None:
    trial = split(share=0.5)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            trial.assign(NOBODY).answered(0.1)
            trial.take()()
        arms = [one for one in gc.get_objects() if isinstance(one, Arm) and one.lane in trial.lanes]
    finally:
        gc.enable()
    assert len(arms) == 2, "those of the next period"


def test_an_empty_key_is_none() -> None:
    """All who send an empty header would be one caller."""
    trial = split(share=0.5, seed=1)
    hits = [trial.assign({HEADER: b""}).lane is trial.lanes[1] for _ in range(2000)]
    assert within_chance(sum(hits), 2000, 0.5)
    assert set(trial.take()().assigned.digests.tolist()) == {0}


def test_ids_say_what_was_assigned() -> None:
    trial = split(share=0.25, number=7)
    seen = set()
    for key in (None, *(b"user-%d" % one for one in range(30))):
        part = trial.assign({} if key is None else {HEADER: key})
        new = part.lane is trial.lanes[1]
        [sealed] = part.naming([{}])([{"predicted_class": 2}])
        read = read_id(KEY, sealed.decode())
        assert (read.rollout, read.share, read.value) == (7, 0.25, 2)
        assert (read.arm, read.version) == ((CHALLENGER, 2) if new else (CHAMPION, 1))
        assert read.key_digest == (0 if key is None else digest_of(b"7:" + key, KEY))
        seen.add(read.arm)
    assert seen == {CHAMPION, CHALLENGER}


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        *((status, True) for status in (400, 413, 415, 422, 500, 503, 504)),
        *((status, False) for status in (200, 401, 403, 404, 405, 408, 421)),
    ],
)
def test_statuses_that_count_as_errors(status: int, counts: bool) -> None:
    assert failed(status) == counts
    for key in (None, b"user"):
        trial = split(share=0.5)
        end(trial.assign({} if key is None else {HEADER: key}), status, 0.1)
        told = trial.take()()
        assert (len(told.assigned), len(told.completed)) == (1, 1 if status == 200 or counts else 0)
        assert told.completed.failed.tolist() == ([counts] if len(told.completed) else [])


def test_a_client_that_has_left_was_kept_waiting_or_says_nothing() -> None:
    for key in (None, b"user"):
        trial = split(share=0.5, target_ms=50)
        for seconds in (0.04, 0.06):
            end(trial.assign({} if key is None else {HEADER: key}), 499, seconds)
        told = trial.take()().completed
        assert (told.failed.tolist(), sorted(told.slow.tolist())) == ([False, False], [-1, 1])
        # It has no say in what is usual, and without a limit nothing is slow.
        trial = split(share=0.5)
        for _ in range(3):
            for _ in range(300):
                end(trial.assign({} if key is None else {HEADER: key}), 499, 9.0)
            told = trial.take()().completed
            assert set(told.slow.tolist()) == {-1}
        assert trial._recorder._threshold.seconds is None


def test_the_answers_of_one_request_are_one_piece_of_evidence() -> None:
    """They had one draw together, so the labels of all of them count as one."""
    trial = split(share=0.5)
    digests = set()
    for turn in range(20):
        part = trial.assign(NOBODY)
        sealed = part.naming([{}] * 3)([{"predicted_class": 1}] * 3)
        found = {read_id(KEY, one.decode()).key_digest for one in sealed}
        assert len(found) == 1 and 0 not in found
        digests |= found
        [single] = part.naming([{}])([{"predicted_class": 1}])
        assert read_id(KEY, single.decode()).key_digest == 0, turn
    assert len(digests) == 20
    keyed = trial.assign({HEADER: b"me"}).naming([{}] * 3)([{"predicted_class": 1}] * 3)
    assert {read_id(KEY, one.decode()).key_digest for one in keyed} == {digest_of(b"1:me", KEY)}
    told = trial.take()()
    assert told.assigned.digests.tolist().count(0) == 20, "assignments without a key all count"


def test_only_who_has_the_key_knows_which_callers_the_challenger_gets() -> None:
    made = rollout(share=0.5)
    other = Split(made, bytes(32), lane(), lane(version=2), Recorder(None))
    keys: list[bytes | None] = [b"user-%d" % one for one in range(2000)]
    both = zip(assigned_to_new(split(share=0.5), keys), assigned_to_new(other, keys), strict=True)
    assert within_chance(sum(one == two for one, two in both), 2000, 0.5)


def account(trial: Split, requests: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Sends requests of all kinds, some of which never end; gives what has been assigned and completed, as rows."""
    draw = np.random.default_rng(seed)
    assigned, completed = [], []
    for _ in range(requests):
        key = b"user-%d" % draw.integers(20) if draw.random() < 0.5 else None
        part = trial.assign({} if key is None else {HEADER: key})
        new, share = part.lane is trial.lanes[1], trial._share
        digest = 0 if key is None else digest_of(b"1:" + key, KEY)
        assigned.append((digest, share, new))
        status, seconds = int(draw.choice([200, 200, 500, 422, 401])), float(draw.random())
        if draw.random() > 0.9:
            completed.append((digest, share, new, False, 1))
            continue
        end(part, status, seconds)
        if status != 401:
            slow = int(seconds > 0.6) if status == 200 else -1
            completed.append((digest, share, new, status != 200, slow))
    return assigned, completed


def rows(told: Observed) -> tuple[list[Any], list[Any]]:
    one, two = told.assigned, told.completed
    return (
        sorted(zip(one.digests.tolist(), one.shares.tolist(), one.new.tolist(), strict=True)),
        sorted(
            zip(
                two.digests.tolist(),
                two.shares.tolist(),
                two.new.tolist(),
                two.failed.tolist(),
                two.slow.tolist(),
                strict=True,
            )
        ),
    )


def test_what_is_told_is_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(recorder, "time", SimpleNamespace(monotonic=lambda: now))
    trial = split(share=0.25, target_ms=600)
    ended: list[Any] = []
    for turn in range(5):
        trial.follow(rollout(share=(0.25, 0.5, 0.5, 0.75, 0.9)[turn]))
        assigned, completed = account(trial, 200, turn)
        assert rows(trial.take()()) == (sorted(assigned), []), "some of them are still under way"
        ended += completed
    now = SETTLED_S
    told = trial.take()()
    assert rows(told) == ([], sorted(ended))
    told = trial.take()()
    assert (len(told.assigned), len(told.completed), len(told.settled)) == (0, 0, 0), "nothing is told twice"


def test_what_ends_after_the_share_has_changed_is_told_with_its_own() -> None:
    trial = split(share=0.25, target_ms=600)
    parts = [trial.assign(NOBODY) for _ in range(40)]
    trial.follow(rollout(share=0.5))
    for part in parts:
        part.answered(0.1)
    told = trial.take()()
    assert told.assigned.shares.tolist() == told.completed.shares.tolist() == [0.25] * 40
    assert told.completed.slow.tolist() == [0] * 40


def test_the_same_share_again_changes_nothing() -> None:
    trial = split(share=0.25)
    arms = trial._old, trial._new
    trial.follow(rollout(share=0.25))
    assert (trial._old, trial._new) == arms


def test_arms_of_earlier_shares_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(recorder, "time", SimpleNamespace(monotonic=lambda: now))
    trial = split(share=0.25)
    early = trial.assign(NOBODY)
    for turn in range(400):
        now += 1.0
        trial.follow(rollout(share=0.3 + 0.1 * (turn % 2)))
        trial.assign(NOBODY)
        trial.take()
    assert len(trial._recorder._past) <= SETTLED_S
    now += SETTLED_S
    trial.take()
    assert not trial._recorder._past
    # Who comes after that is not told of, and harms nobody.
    early.answered(1.0)
    told = trial.take()()
    assert (len(told.completed), len(told.settled)) == (0, 0)


def test_where_nobody_asks_nothing_is_kept() -> None:
    trial = split(share=0.25)
    for _ in range(100):
        assert len(trial.take()().assigned) == 0
    assert not trial._recorder._past


def test_slow_is_what_was_slow_by_a_limit_that_was_known_before() -> None:
    trial = split(share=0.5)

    def one_turn(seconds: float, requests: int = 300) -> np.ndarray:
        for _ in range(requests):
            trial.assign(NOBODY).answered(seconds)
        return trial.take()().completed.slow

    assert set(one_turn(0.1).tolist()) == {-1}, "there is no limit yet"
    for _ in range(8):
        one_turn(0.1)
    # A hundred times as slow, all at once: they do not raise the limit that they are judged by.
    assert set(one_turn(10.0).tolist()) == {1}
    for _ in range(12):
        later = one_turn(10.0)
    assert set(later.tolist()) == {0}, "later it is what is usual"


def test_the_challenger_has_no_say_in_what_is_slow() -> None:
    trial = split(share=0.5)
    for _ in range(12):
        for _ in range(300):
            part = trial.assign(NOBODY)
            part.answered(5.0 if part.lane is trial.lanes[1] else 0.1)
        told = trial.take()().completed
    assert set(told.slow[told.new].tolist()) == {1}
    assert set(told.slow[~told.new].tolist()) == {0}


def test_a_target_is_the_limit_from_the_first_request_on() -> None:
    trial = split(share=0.5, target_ms=50)
    for seconds in (0.04, 0.06):
        trial.assign(NOBODY).answered(seconds)
    assert sorted(trial.take()().completed.slow.tolist()) == [0, 1]


def test_what_was_taken_is_told_in_its_own_time() -> None:
    """Requests that come between the taking and the telling belong to the next."""
    trial = split(share=0.5)
    trial.assign(NOBODY).answered(0.1)
    tell = trial.take()
    trial.assign(NOBODY).answered(0.1)
    for told in (tell(), trial.take()()):
        assert (len(told.assigned), len(told.completed), len(told.settled)) == (1, 1, 1)


def lanes(*versions: int) -> dict[str, Any]:
    return {str(version): lane(version=version) for version in versions}


def test_the_router_names_versions_of_its_registry_only() -> None:
    router = Router(KEY)
    named = router.naming("digits", "3")
    assert named is not None
    read = read_id(KEY, named([{"predicted_class": 1}])[0].decode())
    assert (read.version, read.arm, read.rollout, read.model_tag) == (3, ALONE, 0, tag_of("digits"))
    # Digests of packages that come from elsewhere, one of which happens to have no letter.
    for version in ("0123456789ab", "123456789012", "000000000000"):
        assert router.naming("digits", version) is None


def test_a_trial_needs_both_its_versions() -> None:
    router = Router(KEY)
    served = lanes(2, 1)
    assert router.experiment("digits", served) is None
    router.running["digits"] = rollout()
    assert router.experiment("digits", lanes(1)) is None
    assert router.experiment("digits", lanes(2)) is None
    assert router.experiment("rents", served) is None
    assert router.trials == {}
    trial = router.experiment("digits", served)
    assert isinstance(trial, Split) and trial.lanes == (served["1"], served["2"])
    assert router.trials["digits"][1] is trial


def test_a_trial_goes_on_as_long_as_its_versions_do() -> None:
    router = Router(KEY)
    router.running["digits"] = rollout(share=0.01)
    served = lanes(2, 1)
    trial = router.experiment("digits", served)
    assert isinstance(trial, Split)
    trial.assign(NOBODY)
    router.running["digits"] = rollout(share=0.5)
    assert router.experiment("digits", served) is trial and trial._share == 0.5
    assert router.trials["digits"][0].share == 0.5
    # Other lanes, as of a package that was loaded anew: what was seen with those before is still told.
    after = router.experiment("digits", lanes(2, 1))
    assert isinstance(after, Split) and after is not trial
    assert after.take()().assigned.shares.tolist() == [0.01]


def test_a_rollout_that_has_ended_leaves_nothing() -> None:
    """Its arms would keep the predictors of versions that are not served any more."""
    router = Router(KEY)
    for number in range(1, 4):
        router.running["digits"] = rollout(number=number)
        trial = router.experiment("digits", lanes(2, 1))
        assert isinstance(trial, Split)
        assert trial._recorder is router._recorders["digits"][1]
    assert list(router._recorders) == ["digits"]
    router.running.pop("digits")
    assert router.experiment("digits", lanes(1)) is None
    assert (router.trials, router._recorders) == ({}, {})


def test_another_rollout_has_another_recorder() -> None:
    router = Router(KEY)
    router.running["digits"] = rollout(number=1)
    served = lanes(2, 1)
    first = router.experiment("digits", served)
    assert isinstance(first, Split)
    first.assign(NOBODY)
    router.running["digits"] = rollout(number=2)
    second = router.experiment("digits", served)
    assert isinstance(second, Split) and second is not first
    assert len(second.take()().assigned) == 0


def test_a_model_that_is_taken_out_ends_its_trial() -> None:
    router = Router(KEY)
    router.running["digits"] = rollout("shadow")
    trial = router.experiment("digits", lanes(2, 1))
    assert isinstance(trial, live.Shadowed)
    assert router.experiment("digits", {}) is None
    trial._shadow._thread.join(10)
    assert not trial._shadow._thread.is_alive() and router.trials == {}
