"""How wrong a version's answers were stays when labels are forgotten; a label counts once, whoever takes it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from rollout_world import KEY, MODEL, Clock, make_registry, signed
from shipworthy.monitor.quality import with_quality
from shipworthy.monitor.view import View
from shipworthy.predict.ids import read_id
from shipworthy.registry import Registry, losses_of
from shipworthy.registry.losses import HOUR_S
from shipworthy.registry.tables import versions
from shipworthy.rollout import Labels, Loss, Rollouts, Spec
from shipworthy.rollout import labels as labels_room
from shipworthy.signals.reference import Accepted

WORKERS = 3


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    url: str | Path = tmp_path / "registry"
    if request.param != "sqlite":
        url = request.getfixturevalue("postgres").new_database()
        Registry(url, artifacts=str(tmp_path / "blobs")).close()
    with make_registry(url) as made:
        yield made


def of_class(number: int, **place: Any) -> str:
    return signed({"predicted_class": number}, **place)


def kept(registry: Registry, version: int = 1, model: str = MODEL) -> tuple[int, int, int]:
    """Right, wrong and all labels that said how wrong an answer was."""
    counts = losses_of(registry, model, version).counts.sum(0)
    return int(counts[0]), int(counts[-1]), int(counts.sum())


def test_every_label_that_is_new_counts_once(registry: Registry) -> None:
    labels = Labels(registry, KEY)
    one, other, second = of_class(1), of_class(2), of_class(0, version=2)
    labels.take(MODEL, [(one, "b"), (one, 1), (other, "a"), (one, "c"), (second, "a"), ("forged", "a"), (other, "x")])
    assert (kept(registry), kept(registry, 2)) == ((1, 1, 2), (1, 0, 1))
    labels.take(MODEL, [(one, "b"), (one, "a"), (other, 0)])
    assert kept(registry) == (1, 1, 2), "a duplicate and a contradiction say nothing new"
    losses = losses_of(registry, MODEL, 1)
    assert losses.begins.tolist() == sorted({read_id(KEY, sealed).at // HOUR_S * HOUR_S for sealed in (one, other)})


def test_those_that_are_late_for_a_rollout_count_too(registry: Registry) -> None:
    rollouts, labels = Rollouts(registry), Labels(registry, KEY)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab"))
    sealed = of_class(0, version=2, rollout=rollout.id, new=True, share=0.5)
    rollouts.stop(MODEL)
    (taken,) = labels.take(MODEL, [(sealed, "b")])
    assert taken.outcome == "late"
    assert (kept(registry), kept(registry, 2)) == ((0, 0, 0), (0, 1, 1))


def test_what_others_have_judged_counts_by_their_judgement(registry: Registry) -> None:
    Labels(registry, KEY).take(MODEL, [(of_class(1), Loss(0.0)), (of_class(1), Loss(0.304)), (of_class(1), Loss(1.0))])
    counts = losses_of(registry, MODEL, 1).counts.sum(0)
    assert {cell: int(counts[cell]) for cell in counts.nonzero()[0]} == {0: 1, 31: 1, 100: 1}


def test_it_stays_when_labels_are_forgotten_and_old_hours_become_one(registry: Registry) -> None:
    clock = Clock()
    labels = Labels(registry, KEY, clock=clock)
    labels.take(MODEL, [(of_class(place % 3), "a") for place in range(9)])
    for days in (8, 32, 100):
        clock.go(days * 86_400)
        labels.prune()
        assert kept(registry) == (3, 6, 9)
    assert losses_of(registry, MODEL, 1).begins.tolist() == [0]
    with registry.database.read() as connection:
        assert connection.execute(labels_room.labels.select()).all() == []


def test_a_regression_is_judged_by_its_versions_own_scale(tmp_path: Path) -> None:
    """The scale of a rollout is that of its comparison: the next rollout, or none, has another one."""
    with make_registry(tmp_path / "prices", model="prices", task="regression", labels=None) as registry:
        with registry.database.write() as connection:
            own = versions.c.number == 2
            connection.execute(update(versions).where(own).values(metrics={"metric.neg_mae": -0.4, "p50_ms": 1.0}))
        rollout = Rollouts(registry).start("prices", "prices:2", Spec("ab", error_scale=100.0))
        place: dict[str, Any] = {"model": "prices", "rollout": rollout.id, "share": 0.5}
        inside = signed({"value": 3.5}, version=2, new=True, **place)
        outside, unscaled = signed({"value": 3.5}, version=2, model="prices"), signed({"value": 3.5}, **place)
        Labels(registry, KEY).take("prices", [(inside, 4.5), (outside, 4.5), (unscaled, 4.5), (outside, 9)])
        losses = losses_of(registry, "prices", 2)
        assert (losses.kind, losses.error_scale, losses.unknown) == ("regression", 2.0, 0)
        assert losses.counts.sum(0)[50] == 2 == losses.counts.sum(), "0.5 each"
        plain = losses_of(registry, "prices", 1)
        assert (plain.error_scale, plain.unknown, plain.counts.sum()) == (None, 1, 0)
        Labels(registry, KEY).take("prices", [(signed({"value": 1.0}, model="prices"), Loss(0.25))])
        assert losses_of(registry, "prices", 1).counts.sum() == 1, "whoever judges needs no scale"


def test_labels_become_the_quality_of_a_view(registry: Registry) -> None:
    labels = Labels(registry, KEY)
    labels.take(MODEL, [(of_class(0), "a" if place % 4 else "b") for place in range(200)])
    view = View(MODEL, "1", "onnxruntime-fp32", ("one",), 0.0, 0.0, 200, 200, 0, None)
    seen = with_quality(view, losses_of(registry, MODEL, 1), Accepted("accuracy", 0.96, 0.95, 500))
    assert seen.quality is not None and seen.quality.below
    assert (seen.quality.labels, seen.quality.value, seen.quality.metric) == (200, 0.75, "accuracy")
    assert [alarm.detector for alarm in seen.alarms] == ["quality"]


def take(url: str, items: list[tuple[str, object]], at_once: int) -> None:
    with Registry(url) as registry:
        labels = Labels(registry, KEY)
        for start in range(0, len(items), at_once):
            labels.take(MODEL, items[start : start + at_once])


def test_workers_add_up_to_one_that_saw_all(registry: Registry, effort: float) -> None:
    """Each gets some of the labels of the others too; one forgets and folds meanwhile."""
    number = int(2000 * effort)
    items: list[tuple[str, object]] = [
        (of_class(place % 3, version=1 + place % 2), "a" if place % 7 else Loss(place % 10 / 9))
        for place in range(number)
    ]
    context = multiprocessing.get_context("fork")
    parts = [items[worker::WORKERS] + items[: number // 4] for worker in range(WORKERS)]
    processes = [context.Process(target=take, args=(registry.url, part, 5 + place)) for place, part in enumerate(parts)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        Labels(registry, KEY).prune()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * WORKERS
    counted = [losses_of(registry, MODEL, version).counts.sum(0) for version in (1, 2)]
    assert [int(counts.sum()) for counts in counted] == [number // 2, number // 2]
    right = [sum(not place % 3 and bool(place % 7) for place in range(version, number, 2)) for version in (0, 1)]
    judged = [sum(not place % 7 and not place % 10 for place in range(version, number, 2)) for version in (0, 1)]
    assert [int(counts[0]) for counts in counted] == [a + b for a, b in zip(right, judged, strict=True)]


def die_before_the_commit(url: str, items: list[tuple[str, object]]) -> None:
    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with Registry(url) as registry:
        labels = Labels(registry, KEY)
        labels.take(MODEL, items[:2])
        labels_room.count = die  # type: ignore[assignment]
        labels.take(MODEL, items)


def test_a_process_that_is_killed_leaves_no_half_of_a_label(registry: Registry) -> None:
    items: list[tuple[str, object]] = [(of_class(0), "a") for _ in range(5)]
    process = multiprocessing.get_context("fork").Process(target=die_before_the_commit, args=(registry.url, items))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert kept(registry) == (2, 0, 2)
    again = Labels(registry, KEY).take(MODEL, items)
    assert [taken.outcome for taken in again] == ["duplicate"] * 2 + ["accepted"] * 3
    assert kept(registry) == (5, 0, 5)


def test_answers_are_counted_in_the_hour_in_which_they_were_given(tmp_path: Path) -> None:
    clock = Clock()
    with make_registry(tmp_path / "registry") as registry:
        labels = Labels(registry, KEY, clock=clock)
        sealed = of_class(0)
        at = read_id(KEY, sealed).at
        clock.go(at + 5 * 86_400 - clock.now.timestamp())
        labels.take(MODEL, [(sealed, "a")])
        assert losses_of(registry, MODEL, 1).begins.tolist() == [at // HOUR_S * HOUR_S]
        older = of_class(0)
        clock.now += timedelta(days=20)
        labels.take(MODEL, [(older, "a")])
        day = read_id(KEY, older).at // 86_400 * 86_400
        assert losses_of(registry, MODEL, 1).begins.tolist()[0] == day
