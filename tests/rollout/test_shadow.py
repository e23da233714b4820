"""The challenger in the shadow: what it answers is evidence, what it costs is bounded, and nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from live_cases import CLASSES, KEY, NUMBERS, SETS, VECTORS, Runner, lane, logits, predictor, rollout, same
from shadow_cases import HEADER, Trial, other_than_0, trials, x

from shipworthy.contract import Array, Arrays
from shipworthy.errors import EngineError
from shipworthy.predict.ids import CHAMPION, digest_of, read_id
from shipworthy.rollout import shadow
from shipworthy.rollout.live import Copied, Router, Shadowed
from shipworthy.server import Settings
from shipworthy.server.catalog import Catalog


@pytest.fixture
def trial() -> Iterator[Callable[..., Trial]]:
    with trials() as make:
        yield make


def test_same_and_other_answers(trial: Callable[..., Trial]) -> None:
    one = trial(run=other_than_0)
    uniques = []
    for best in (0, 1, 2, 0):
        one.ask(x(best), key=b"user-%d" % best)
        if best == 0:
            uniques.append(read_id(KEY, one.ids[0].decode()).unique)
    seen = one.seen(copies=4)
    assert seen.worst.tolist() == [1, 0, 0, 1]
    assert seen.digests.tolist() == [digest_of(b"1:user-%d" % best, KEY) for best in (0, 1, 2, 0)]
    assert [bytes(unique) for unique in seen.uniques] == uniques
    assert (seen.champion.tolist(), seen.challenger.tolist()) == ([0, 0], [2, 2])
    assert seen.failed.tolist() == [[False, False]] * 4


def test_ids_are_the_champions_and_name_the_rollout(trial: Callable[..., Trial]) -> None:
    one = trial()
    assert one.ask(x(1), x(2), key=b"me")
    for place, sealed in enumerate(one.ids):
        read = read_id(KEY, sealed.decode())
        assert (read.rollout, read.arm, read.version, read.value) == (1, CHAMPION, 1, place + 1)
        assert (read.share, read.key_digest) == (0.0, digest_of(b"1:me", KEY))


@pytest.mark.parametrize("key", [None, b"me"])
def test_of_many_rows_one_is_compared_whichever_it_is(key: bytes | None, trial: Callable[..., Trial]) -> None:
    """They came together, so that they are one piece of evidence; and the caller does not choose which."""
    one = trial(run=other_than_0)
    one.shadowed._shadow._random.seed(4)
    places = []
    for turn in range(60):
        assert one.ask(x(0), x(1), x(1), x(1), key=key)
        seen = one.seen(copies=turn + 1)
        assert (len(seen), len(seen.failed)) == (turn + 1, turn + 1)
        places.append(int(seen.worst[-1]))
        if places[-1]:
            assert bytes(seen.uniques[-1]) == read_id(KEY, one.ids[0].decode()).unique
    # A fair draw of the first of four; 4 standard errors.
    assert abs(sum(places) / 60 - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 60)
    assert len(one.ids) == 4, "all have their id"


def test_a_scalar_differs_by_as_much_as_it_does(trial: Callable[..., Trial]) -> None:
    def first(feeds: Arrays) -> dict[str, Array]:
        return {"y": feeds["x"][:, :1]}

    one = trial(NUMBERS, lambda feeds: {"y": feeds["x"][:, :1] + feeds["x"][:, 1:2]}, champion=first, error_scale=2.0)
    for off in (0.0, 0.5, 1.0, -1.5, 30.0):
        one.ask({"x": [1.0, off, 0.0]})
    seen = one.seen(copies=5)
    assert seen.worst.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert seen.champion.view(np.float64).astype(float).tolist() == [1.0] * 4
    assert seen.challenger.tolist() == [
        int(np.array([value], np.float64).view(np.uint64)[0]) for value in (1.5, 2.0, -0.5, 31.0)
    ]


def test_sets_of_classes_differ_in_any_of_them(trial: Callable[..., Trial]) -> None:
    one = trial(SETS, lambda feeds: {"y": feeds["x"] * logits([1, 1, -1])})
    one.ask({"x": [1.0, -1.0, -1.0]})
    one.ask({"x": [1.0, 1.0, -0.0]})
    seen = one.seen(copies=2)
    assert seen.worst.tolist() == [1.0, 0.0]
    assert (seen.champion.tolist(), seen.challenger.tolist()) == ([0b001], [0b101])


def test_what_cannot_be_compared_says_only_whether_it_fails(trial: Callable[..., Trial]) -> None:
    one = trial(VECTORS, lambda feeds: {"y": feeds["x"] + 1})
    one.ask(x(1))
    seen = one.seen(failed=1)
    assert (len(seen), seen.failed.tolist()) == (0, [[False, False]])


def test_failures_of_the_challenger_are_evidence_and_nothing_else(
    trial: Callable[..., Trial], caplog: pytest.LogCaptureFixture
) -> None:
    def fails(feeds: Arrays) -> dict[str, Array]:
        if feeds["x"][:, 1].any():
            raise EngineError("numpy", "cannot run that")
        if feeds["x"][:, 2].any():
            raise ValueError("a secret of the engine")
        return same(feeds)

    one = trial(run=fails)
    for best in (0, 1, 2, 0):
        assert one.ask(x(best))
    seen = one.seen(failed=4)
    assert seen.failed.tolist() == [[False, False], [False, True], [False, True], [False, False]]
    assert seen.worst.tolist() == [0.0, 0.0]
    assert "cannot run that" in caplog.text or "ValueError" in caplog.text
    assert "a secret" not in caplog.text
    assert one.thread.is_alive()


def test_an_answer_that_is_none_is_a_failure(trial: Callable[..., Trial]) -> None:
    one = trial(run=lambda feeds: {"y": np.where(feeds["x"][:, :1] > 0, np.float32(np.nan), feeds["x"])})
    for best in (1, 0, 2):
        one.ask(x(best))
    seen = one.seen(failed=3)
    assert seen.failed.tolist() == [[False, False], [False, True], [False, False]]
    assert seen.worst.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("status", "unanswered", "counts"),
    [*((status, False, status == 500) for status in (500, 503, 504, 422, 400, 499)), (422, True, True)],
)
def test_failures_of_the_champion_count_too(
    status: int, unanswered: bool, counts: bool, trial: Callable[..., Trial]
) -> None:
    """By the rule that the challenger has: an answer that is not finite is none."""
    one = trial()
    one.fail(status, unanswered=unanswered)
    one.ask(x(0))
    seen = one.seen(copies=1, failed=1 + counts)
    assert seen.failed.tolist() == [[True, False]] * counts + [[False, False]]


def test_of_the_champions_failures_as_many_are_counted_as_of_its_answers(trial: Callable[..., Trial]) -> None:
    """Else a challenger that fails at times would look harmless while the champion is busy."""
    one = trial()
    one.champion.queue.rows = 1
    one.fail(500)
    one.ask(x(0))
    seen = one.seen(lost=2)
    assert (seen.failed.tolist(), seen.lost) == ([], 2)


def test_a_failure_among_several_counts_as_often_as_it_would_be_drawn(trial: Callable[..., Trial]) -> None:
    """The challenger is asked for one of them only, and would have to fail as often to look as bad."""
    one = trial(run=lambda feeds: {"y": np.where(feeds["x"][:, :1] > 0, np.float32(np.nan), feeds["x"])})
    one.shadowed._shadow._random.seed(3)
    for turn in range(400):
        one.fail(422, x(1), x(2), x(2), x(0), unanswered=True)
        one.seen(failed=turn + 1)
    seen = one.seen()
    assert (len(seen), len(seen.failed), len(seen.slow), seen.lost) == (0, 400, 0, 0)
    # 4 standard errors.
    for failed in seen.failed.mean(axis=0):
        assert abs(failed - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 400)


def test_where_the_champion_has_no_answer_the_challenger_is_asked_too(trial: Callable[..., Trial]) -> None:
    """Else an input that neither can answer would count against the champion alone."""
    one = trial(run=lambda feeds: {"y": np.where(feeds["x"][:, :1] > 0, np.float32(np.nan), feeds["x"])})
    for best in (0, 1):
        one.fail(422, x(best), unanswered=True)
    assert one.seen(failed=2).failed.tolist() == [[True, True], [True, False]]


def test_who_has_left_is_not_copied(trial: Callable[..., Trial]) -> None:
    """Nobody will ever say what was true: where the versions differ, the worst would count for good."""
    one = trial(run=other_than_0)
    part = one.shadowed.assign({})
    assert len(part.naming([x(0)])([{"predicted_class": 0}])) == 1
    part.unserved(499, 0.001)
    one.ask(x(1))
    seen = one.seen(copies=1)
    assert (len(seen), seen.worst.tolist(), seen.failed.tolist(), seen.lost) == (1, [0.0], [[False, False]], 0)


def test_both_are_timed_with_the_same_work(trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "TIMED", 1.0)
    order: list[str] = []

    def champion(feeds: Arrays) -> dict[str, Array]:
        if threading.current_thread().name == "shipworthy-shadow":
            order.append("old")
        return same(feeds)

    def challenger(feeds: Arrays) -> dict[str, Array]:
        order.append("new")
        time.sleep(0.003)
        return same(feeds)

    one = trial(run=challenger, champion=champion, target_ms=2.0)
    for _ in range(40):
        one.ask(x(0))
    seen = one.seen(slow=40)
    assert seen.slow[:, 1].all()
    assert seen.slow[:, 0].mean() < 0.3, "the host may be busy at times"
    # After its copy each is timed: by chance the one or the other first.
    firsts = [order[place + 1] for place in range(0, 120, 3)]
    assert {"old", "new"} == set(firsts)


def test_who_fails_while_it_is_timed_is_no_evidence(
    trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The champion's failure there must not be the challenger's."""
    monkeypatch.setattr(shadow, "TIMED", 1.0)

    def champion(feeds: Arrays) -> dict[str, Array]:
        if threading.current_thread().name == "shipworthy-shadow":
            raise EngineError("numpy", "fails at times")
        return same(feeds)

    one = trial(champion=champion)
    for _ in range(5):
        one.ask(x(0))
    seen = one.seen(copies=5, failed=5)
    assert (seen.failed.any(), len(seen.slow)) == (False, 0)


@pytest.mark.parametrize("status", [200, 500])
def test_requests_without_ids_are_neither_copied_nor_counted(status: int, trial: Callable[..., Trial]) -> None:
    """Those of the Open Inference Protocol."""
    one = trial()
    for key in (None, b"me"):
        part = one.shadowed.assign({} if key is None else {HEADER: key}, named=False)
        assert part.lane is one.champion and not isinstance(part, Copied)
        if status == 200:
            part.answered(0.01)
        else:
            part.unserved(status, 0.01, unanswered=True)
    one.ask(x(0))
    assert one.seen(copies=1, failed=1).failed.tolist() == [[False, False]]


def test_it_ends_whenever_it_is_told_to() -> None:
    """Also just when it goes to wait for a copy."""
    for turn in range(150):
        one = Trial()
        if turn % 3:
            one.ask(x(0))
        if turn % 2:
            time.sleep(0.0005)
        one.shadowed.close()
        one.thread.join(5)
        assert not one.thread.is_alive(), turn
        assert one.ask(x(0)), "who was assigned before the end is answered"
        assert not [thread for thread in one.champion.borrowers if thread.is_alive()]


@pytest.mark.parametrize("timed_before", [False, True])
def test_it_ends_while_it_times_the_versions(timed_before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes a version waits for what runs, and for no further run."""
    monkeypatch.setattr(shadow, "TIMED", 1.0)
    began, go = threading.Event(), threading.Event()
    runs: list[str] = []

    def held(name: str) -> Callable[[Arrays], dict[str, Array]]:
        def run(feeds: Arrays) -> dict[str, Array]:
            if threading.current_thread().name == "shipworthy-shadow":
                runs.append(name)
                # The challenger's first run is its answer to the copy.
                if runs != ["new"]:
                    began.set()
                    go.wait(10)
            return same(feeds)

        return run

    one = Trial(run=held("new"), champion=held("old"), target_ms=5.0 if timed_before else None)
    one.ask(x(0))
    assert began.wait(10)
    one.shadowed.close()
    go.set()
    one.thread.join(10)
    assert not one.thread.is_alive() and len(runs) == 2
    assert timed_before or runs == ["new", "old"]


def test_a_champion_of_many_rollouts_remembers_none(trial: Callable[..., Trial]) -> None:
    champion, spec = lane(), rollout("shadow")
    for _ in range(10):
        one = Shadowed(spec, KEY, champion, lane(version=2))
        one.close()
        one._shadow._thread.join(5)
    assert len(champion.borrowers) == 1


def test_versions_are_closed_when_the_shadow_has_let_go_of_them(effort: float) -> None:
    """Rollouts end under load, over and over; no version is run when its engine is gone."""
    for _ in range(max(6, int(120 * effort))):
        runners = asyncio.run(_ended_under_load())
        assert all(runner.closed and not runner.misused for runner in runners)


async def _ended_under_load() -> list[Runner]:
    def slowly(feeds: Arrays) -> dict[str, Array]:
        time.sleep(0.002)
        return same(feeds)

    router = Router(KEY)
    router.running["digits"] = rollout("shadow", shadow_budget=1.0)
    catalog = Catalog(Settings(), parts=SimpleNamespace(router=router, feedback=None, observer=None))  # type: ignore[arg-type]
    served = [predictor(CLASSES, slowly, version=version) for version in ("2", "1")]
    catalog.open([("digits", one) for one in served])
    trial = catalog.experiment("digits")
    assert isinstance(trial, Shadowed)
    stopped = False

    async def ask_on() -> None:
        while not stopped:
            part = trial.assign({})
            part.naming([x(0)])([{"predicted_class": 0}])
            part.answered(0.001)
            await asyncio.sleep(0.0005)

    asking = asyncio.create_task(ask_on())
    await asyncio.sleep(0.03)
    await catalog.unload("digits")
    stopped = True
    await asking
    await catalog.close()
    assert router.trials == {}
    return [one._runner for one in served]  # type: ignore[misc]


def test_a_watch_of_the_challenger_sees_what_it_answers_to_copies() -> None:
    shown: list[tuple[list[float], list[float]]] = []

    def take(feeds: Arrays, outputs: Arrays, row: int, seconds: float) -> None:
        assert seconds > 0
        shown.append((feeds["x"][row].tolist(), outputs["y"][row].tolist()))

    with trials() as made:
        trial = made(run=other_than_0)
        trial.shadowed._shadow._watch = SimpleNamespace(ran=range, take=take)  # type: ignore[assignment]
        trial.ask(x(0))
        trial.ask(x(1))
        trial.seen(copies=2)
    assert shown == [([1, 0, 0], [0, 0, 5]), ([0, 1, 0], [0, 1, 0])]


def test_a_watch_that_fails_is_no_fault_of_the_challenger(caplog: pytest.LogCaptureFixture) -> None:
    def take(feeds: Arrays, outputs: Arrays, row: int, seconds: float) -> None:
        raise RuntimeError("it is full")

    with trials() as made:
        trial = made()
        trial.shadowed._shadow._watch = SimpleNamespace(ran=range, take=take)  # type: ignore[assignment]
        trial.ask(x(0))
        trial.ask(x(1))
        seen = trial.seen(copies=2)
    assert not seen.failed.any()
    assert caplog.text.count("watched no more") == 1
