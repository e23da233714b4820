"""The challenger in the shadow: what it answers is evidence, what it costs is bounded, and nobody waits for it."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from live_cases import CLASSES, KEY, NUMBERS, SETS, VECTORS, Runner, lane, logits, predictor, rollout, same, scores

from shipworthy.contract import Array, Arrays
from shipworthy.errors import EngineError
from shipworthy.predict.ids import CHAMPION, digest_of, read_id
from shipworthy.rollout import shadow
from shipworthy.rollout.live import Copied, Router, Shadowed
from shipworthy.rollout.observed import Copies
from shipworthy.rollout.shadow import HELD, NUMBER, WAITING, Shadow
from shipworthy.server import Settings
from shipworthy.server.catalog import Catalog

HEADER = b"x-assignment-key"


class Trial:
    """A shadow whose champion answers at once, and all that is told of it."""

    def __init__(self, given: Mapping[str, Any] = CLASSES, run: Any = same, *, champion: Any = same, **options: Any):
        threads = options.pop("threads", 1)
        options = {"shadow_budget": 1.0, **options}
        self.champion = lane(given, champion)
        self.challenger = lane(given, run, version=2, threads=threads)
        self.shadowed = Shadowed(rollout("shadow", **options), KEY, self.champion, self.challenger)
        self.told: list[Copies] = []
        self.ids: list[bytes] = []

    @property
    def thread(self) -> threading.Thread:
        return self.shadowed._shadow._thread

    def ask(self, *instances: Any, key: bytes | None = None) -> bool:
        """A request as the server handles one; whether it was copied."""
        part = self.shadowed.assign({} if key is None else {HEADER: key})
        assert part.lane is self.champion
        model = self.champion.predictor
        arrays = np.array([one["x"] for one in instances], np.float32)
        answers = model.rows(model.run({"x": arrays}))
        self.ids = list(part.naming(instances)(answers))
        part.done(200, 0.001)
        return isinstance(part, Copied)

    def fail(self, status: int, *, unanswered: bool = False) -> None:
        """A request that the champion does not answer."""
        self.shadowed.assign({}).done(status, 0.001, unanswered=unanswered)

    def seen(self, *, copies: int = 0, failed: int = 0, slow: int = 0) -> Copies:
        """All that was told, when it is so much."""
        until = time.monotonic() + 10
        while True:
            self.told.append(self.shadowed.take()().copies)
            whole = joined(self.told)
            if len(whole) >= copies and len(whole.failed) >= failed and len(whole.slow) >= slow:
                return whole
            assert time.monotonic() < until, (len(whole), len(whole.failed), len(whole.slow))
            time.sleep(0.002)


def joined(parts: Sequence[Copies]) -> Copies:
    names = ("digests", "worst", "uniques", "champion", "challenger", "failed", "slow")
    return Copies(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@pytest.fixture
def trial() -> Iterator[Callable[..., Trial]]:
    made: list[Trial] = []

    def make(*arguments: Any, **options: Any) -> Trial:
        made.append(Trial(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.shadowed.close()
        one.thread.join(10)
        assert not one.thread.is_alive()


def x(best: int) -> dict[str, Any]:
    return {"x": scores(best)}


def other_than_0(feeds: Arrays) -> dict[str, Array]:
    """Takes class 0 for class 2."""
    return {"y": np.where(feeds["x"][:, :1] > 0, logits([0, 0, 5]), feeds["x"])}


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
    until(lambda: one.shadowed._shadow.lost == 2)
    assert one.shadowed.take()().copies.failed.tolist() == []


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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_it_runs_at_low_priority(trial: Callable[..., Trial]) -> None:
    one = trial()
    one.ask(x(0))
    one.seen(copies=1)
    number = one.thread.native_id
    assert number is not None
    assert os.getpriority(os.PRIO_PROCESS, number) - os.getpriority(os.PRIO_PROCESS, 0) == shadow.NICE


@pytest.mark.parametrize(("budget", "threads"), [(0.25, 1), pytest.param(0.5, 2, marks=pytest.mark.full)])
def test_a_slow_challenger_takes_no_more_than_its_budget(
    budget: float, threads: int, trial: Callable[..., Trial]
) -> None:
    """Of one core, also where its engine keeps several busy."""
    spent: list[float] = []

    def slow(feeds: Arrays) -> dict[str, Array]:
        started = time.perf_counter()
        time.sleep(0.02)
        spent.append(time.perf_counter() - started)
        return same(feeds)

    one = trial(run=slow, shadow_budget=budget, threads=threads)
    started = time.perf_counter()
    while time.perf_counter() - started < 1.2:
        one.ask(x(0))
        time.sleep(0.001)
    elapsed = time.perf_counter() - started
    longest = max(spent)
    used = sum(spent) * threads
    # One copy may run twice, when both versions are timed, and has its rest afterwards.
    assert used <= budget * elapsed + 2 * longest * threads
    assert used >= 0.4 * budget * elapsed, "it uses what it has"


def test_what_it_has_no_time_for_is_not_copied(trial: Callable[..., Trial]) -> None:
    go = threading.Event()

    def stuck(feeds: Arrays) -> dict[str, Array]:
        go.wait(10)
        return same(feeds)

    one = trial(run=stuck)
    copied = [one.ask(x(0), key=b"me") for _ in range(WAITING + 50)]
    # One has been taken out, or is about to be.
    assert copied.count(True) in (WAITING, WAITING + 1) and not copied[-1]
    # Who is not copied has an id of the rollout all the same, and leaves nothing behind.
    assert read_id(KEY, one.ids[0].decode()).key_digest == digest_of(b"1:me", KEY)
    one.shadowed.take()
    assert one.shadowed._plain.take().empty
    go.set()
    assert len(one.seen(copies=copied.count(True))) == copied.count(True)


def held(one: Trial) -> Shadow:
    """Its shadow, whose thread waits for its turn for as long as the test takes."""
    made = one.shadowed._shadow
    one.champion.queue.rows = 1
    made.champion_failed()
    until(lambda: not made._waiting)
    return made


def test_many_that_came_together_do_not_pass_the_bound(
    trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them were to be copied when they came, and are answered later."""
    monkeypatch.setattr(shadow, "PATIENCE_S", 10.0)
    one = trial()
    made = held(one)
    parts = [one.shadowed.assign({}) for _ in range(1000)]
    assert all(isinstance(part, Copied) for part in parts)
    for part in parts:
        part.naming([x(0)])([{"predicted_class": 0}])
    assert (len(made._waiting), made.lost) == (WAITING, 1000 - WAITING)
    parts[0].done(500, 0.1)
    assert len(made._waiting) == WAITING


def test_copies_of_large_instances_are_fewer(trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    """By what they hold, whatever their contract leaves open."""
    monkeypatch.setattr(shadow, "PATIENCE_S", 10.0)
    one = trial()
    made = held(one)
    large: dict[str, Any] = {"x": [[0.0] * 1000] * 700}
    parts = [one.shadowed.assign({}) for _ in range(WAITING)]
    for part in parts:
        part.naming([large])([{"predicted_class": 0}])
    assert len(made._waiting) == HELD // (700_000 * NUMBER) == 2
    assert made._held == 2 * 700_000 * NUMBER
    one.champion.queue.rows = 0
    until(lambda: not made._waiting)
    assert made._held == 0
    # One that is larger than all that may wait is copied when nothing does.
    one.champion.queue.rows = 1
    held(one)
    huge: dict[str, Any] = {"x": bytes(HELD + 1)}
    for _ in range(2):
        made.offer([huge], [{"predicted_class": 0}], [b""], 0)
    assert (len(made._waiting), made._held) == (1, HELD + 1)
    assert not made.wants()


def test_instances_are_measured_by_what_they_hold() -> None:
    array = np.zeros((4, 5), np.float32)
    for value, size in (
        ({"text": "a" * 50, "data": b"1234", "one": 1.0}, 54 + NUMBER),
        ({"x": [[0.0] * 5] * 4}, 20 * NUMBER),
        (["a" * 9, "bc"], 11),
        ([], 0),
        (array, 80),
        (array[0], 80),
        ({"x": [array, array]}, 160),
    ):
        assert shadow._size(value) == size, value


def test_nothing_is_copied_while_the_champion_is_busy(trial: Callable[..., Trial]) -> None:
    ran = threading.Event()

    def run(feeds: Arrays) -> dict[str, Array]:
        ran.set()
        return same(feeds)

    one = trial(run=run)
    one.champion.queue.rows = 3
    one.ask(x(0))
    until(lambda: one.shadowed._shadow.lost == 1)
    assert not ran.is_set()
    one.champion.queue.rows = 0
    one.ask(x(0))
    assert len(one.seen(copies=1)) == 1


def test_a_part_of_the_requests_is_copied(trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    one = trial(shadow_rate=0.3)
    one.shadowed._shadow._random.seed(5)
    monkeypatch.setattr(shadow, "WAITING", 10**6)
    copied = sum(one.ask(x(0)) for _ in range(3000))
    assert abs(copied / 3000 - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 3000)
    assert len(one.seen(copies=copied)) == copied


@pytest.mark.parametrize("status", [200, 500])
def test_requests_without_ids_are_neither_copied_nor_counted(status: int, trial: Callable[..., Trial]) -> None:
    """Those of the Open Inference Protocol."""
    one = trial()
    for key in (None, b"me"):
        part = one.shadowed.assign({} if key is None else {HEADER: key}, named=False)
        assert part.lane is one.champion and not isinstance(part, Copied)
        part.done(status, 0.01, unanswered=status == 500)
    one.ask(x(0))
    assert one.seen(copies=1, failed=1).failed.tolist() == [[False, False]]


def test_what_is_told_is_taken_at_once(trial: Callable[..., Trial]) -> None:
    """The registry may be away for long; what comes meanwhile is not of that telling, and what is held is bounded by
    whoever gives up old tellings."""
    one = trial(run=other_than_0)
    made = one.shadowed._shadow
    one.ask(x(0))
    until(lambda: made._seen.failed)
    first = one.shadowed.take()
    one.ask(x(0))
    one.ask(x(1))
    until(lambda: len(made._seen.failed) == 2)
    second = one.shadowed.take()
    assert (made._seen.failed, made._seen.pairs, made._seen.slow, made._seen.digests) == ([], [], [], [])
    assert (second().copies.worst.tolist(), first().copies.worst.tolist()) == ([1.0, 0.0], [1.0])


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
    catalog = Catalog(Settings(), parts=SimpleNamespace(router=router, feedback=None))  # type: ignore[arg-type]
    served = [predictor(CLASSES, slowly, version=version) for version in ("2", "1")]
    catalog.open([("digits", one) for one in served])
    trial = catalog.experiment("digits")
    assert isinstance(trial, Shadowed)
    stopped = False

    async def ask_on() -> None:
        while not stopped:
            part = trial.assign({})
            part.naming([x(0)])([{"predicted_class": 0}])
            part.done(200, 0.001)
            await asyncio.sleep(0.0005)

    asking = asyncio.create_task(ask_on())
    await asyncio.sleep(0.03)
    await catalog.unload("digits")
    stopped = True
    await asking
    await catalog.close()
    assert router.trials == {}
    return [one._runner for one in served]  # type: ignore[misc]


def until(holds: Callable[[], object], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come to hold in time"
        time.sleep(0.002)
