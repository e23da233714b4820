"""Several processes that tell at the same time give the same counts as one, on both databases."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import postgres_server
import pytest

from rollout_world import KEY, MODEL, copies, make_registry, signed
from shipworthy.predict.ids import read_id
from shipworthy.registry import Registry
from shipworthy.rollout import Labels, Observed, Rollout, Rollouts, Spec
from shipworthy.rollout.evidence import Evidence
from shipworthy.rollout.observed import Assignments, Completions

WORKERS = 3


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    if request.param == "sqlite":
        url: str | Path = tmp_path / "registry"
    else:
        server: postgres_server.Server = request.getfixturevalue("postgres")
        url = server.new_database()
        Registry(url, artifacts=str(tmp_path / "blobs")).close()
    with make_registry(url) as made:
        yield made


def telling(worker: int, number: int) -> Observed:
    """What a worker sees: callers who come to the other workers too, and get the same there; and one without a key."""
    draw = np.random.default_rng([worker, number])
    digests = np.append(draw.integers(1, 150, 40), 0).astype(np.uint64)
    new = digests % 2 == 0
    done = Completions(digests, np.full(41, 0.5), new, digests % 7 == 0, (digests % 5 == 0).astype(np.int8))
    assigned = Assignments(digests, np.full(41, 0.5), new)
    return Observed(assigned, done, worker=f"worker-{worker}", number=number)


def tell(url: str, rollout: int, worker: int, tellings: int) -> None:
    with Registry(url) as registry:
        rollouts = Rollouts(registry)
        for number in range(1, tellings + 1):
            rollouts.merge(rollout, telling(worker, number))
            rollouts.merge(rollout, telling(worker, number))


def label(url: str, items: list[tuple[str, object]]) -> None:
    with Registry(url) as registry:
        labels = Labels(registry, KEY)
        for start in range(0, len(items), 7):
            labels.take(MODEL, items[start : start + 7])


def together(pool: ProcessPoolExecutor, *jobs: tuple[Any, ...]) -> None:
    for done in [pool.submit(*job) for job in jobs]:
        done.result(120)


def test_counts_are_those_of_one_process(registry: Registry, processes: ProcessPoolExecutor, effort: float) -> None:
    tellings = max(6, int(200 * effort))
    rollout = Rollouts(registry).start(MODEL, "digits:2", Spec("ab"))
    together(processes, *((tell, registry.url, rollout.id, worker, tellings) for worker in range(WORKERS)))
    after = Rollouts(registry).get(rollout.id)
    every = np.concatenate(
        [telling(worker, number).assigned.digests for worker in range(WORKERS) for number in range(1, tellings + 1)]
    )
    counted = np.append(np.unique(every[every != 0]), np.zeros((every == 0).sum(), np.uint64))
    plain = Evidence("ab", 0.02)
    plain.assigned.observe(counted % 2 == 0, 0.5)
    plain.errors.observe(counted % 2 == 0, 0.5, counted % 7 == 0)
    plain.latency.observe(counted % 2 == 0, 0.5, counted % 5 == 0)
    for name in ("assigned", "errors", "latency"):
        ours, theirs = getattr(after.evidence, name), getattr(plain, name)
        assert ours.events.tolist() == theirs.events.tolist(), name
        assert ours.requests.tolist() == theirs.requests.tolist(), name
        np.testing.assert_allclose(ours.log_wealth, theirs.log_wealth, atol=1e-9)
    assert sum(after.tally.assigned) == len(every)
    assert after.tally.keys["assigned"] == len(np.unique(every[every != 0]))


@pytest.mark.parametrize("kind", [pytest.param("forged", marks=pytest.mark.full), "genuine"])
def test_a_flood_of_labels_leaves_others_their_turn(
    registry: Registry, processes: ProcessPoolExecutor, kind: str
) -> None:
    """A merge and a promotion write too, and a lock is not handed on in order."""
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab"))
    span_s = 2.5
    flooding = processes.submit(flood, registry.url, kind, span_s)
    merges: list[float] = []
    promotions: list[float] = []
    until = time.monotonic() + span_s
    while time.monotonic() < until:
        began = time.monotonic()
        rollouts.merge(rollout.id, Observed())
        merges.append(time.monotonic() - began)
        began = time.monotonic()
        registry.promote("digits:3", alias=f"alias-{len(promotions)}")
        promotions.append(time.monotonic() - began)
        time.sleep(0.02)
    assert flooding.result(60) >= 1
    # Behind a flood that takes the lock again at once they wait for as long as it lasts, and half a minute at most.
    assert max(merges) < 1.5 and sorted(merges)[len(merges) // 2] < 0.5, merges
    assert max(promotions) < 2, promotions
    assert len(merges) > 5


def flood(url: str, kind: str, span_s: float) -> int:
    """How often ten thousand labels were taken."""
    with Registry(url) as registry:
        labels = Labels(registry, KEY)
        ids = ["A" * 88] * 10_000
        if kind == "genuine":
            ids = [signed({"predicted_class": 1}) for _ in range(10_000)]
        until, number = time.monotonic() + span_s, 0
        while time.monotonic() < until:
            labels.take(MODEL, [(sealed, "a") for sealed in ids])
            number += 1
        return number


def test_pairs_and_labels_meet_whoever_is_first(registry: Registry, processes: ProcessPoolExecutor) -> None:
    """Labels are told while the pairs come in, twice over: each pair gets its truth once."""
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow"))
    ids = [signed({"predicted_class": 0}, rollout=rollout.id) for _ in range(80)]
    items: list[tuple[str, object]] = [(sealed, ("a", "b")[place % 2]) for place, sealed in enumerate(ids)]
    uniques = [read_id(KEY, sealed).unique for sealed in ids]
    together(
        processes,
        (label, registry.url, items),
        (label, registry.url, items[::-1]),
        (tell_pairs, registry.url, rollout.id, uniques),
    )
    after = rollouts.get(rollout.id)
    paired = after.evidence.paired
    assert (paired.pairs, paired.open, paired.worse, paired.better) == (80, 0, 40, 40)
    assert (after.tally.pairs, after.tally.labels) == (0, 80)
    plain = Evidence("shadow", 0.01)
    plain.paired.add([1.0, -1.0], count=40)
    np.testing.assert_allclose(paired.promote, plain.paired.promote, atol=1e-9)
    counts = Labels(registry, KEY).counts(MODEL)
    assert counts == {"accepted": 80, "duplicate": 80}


def tell_pairs(url: str, rollout: int, uniques: list[bytes]) -> None:
    with Registry(url) as registry:
        rollouts = Rollouts(registry)
        for start in range(0, len(uniques), 5):
            rollouts.merge(rollout, Observed(copies=copies([(one, 0, 1) for one in uniques[start : start + 5]])))


def test_one_of_many_decides(registry: Registry, processes: ProcessPoolExecutor) -> None:
    rollout = Rollouts(registry).start(MODEL, "digits:2", Spec("shadow", auto=True))
    before = registry.newest_event()
    together(processes, *((agree, registry.url, rollout.id) for _ in range(WORKERS)))
    events = registry.events_after(before)
    assert [event.kind for event in events] == ["rollout-verdict", "alias-moved", "alias-moved", "rollout-ended"]
    assert [event.number for event in events] == list(range(before + 1, before + 5))
    after = Rollouts(registry).get(rollout.id)
    assert isinstance(after, Rollout)
    assert (after.state, registry.aliases(MODEL)) == ("promote", {"champion": 2})
    # 533 pairs that agree are enough: not one telling more was counted.
    assert after.evidence.paired.pairs == 550


def agree(url: str, rollout: int) -> None:
    with Registry(url) as registry:
        rollouts = Rollouts(registry)
        for _ in range(12):
            rollouts.merge(rollout, Observed(copies=copies([], agreeing=50, timed=50)))
