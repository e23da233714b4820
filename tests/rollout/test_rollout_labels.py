"""Labels: taken once, whatever comes, and turned into the evidence that they give."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollout_world import KEY, MODEL, Clock, copies, make_registry, signed
from shipworthy.errors import RegistryError
from shipworthy.predict.ids import read_id
from shipworthy.registry import Registry
from shipworthy.rollout import Labels, Loss, Observed, Rollouts, Spec
from shipworthy.rollout import labels as labels_room
from shipworthy.rollout.bulk import take_file
from shipworthy.rollout.evidence import Evidence

Made = Callable[..., Registry]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with make_registry(tmp_path / "registry") as made:
        yield made


@pytest.fixture
def labels(registry: Registry) -> Labels:
    return Labels(registry, KEY)


def of_class(number: int, **place: Any) -> str:
    return signed({"predicted_class": number}, **place)


def unique(sealed: str) -> bytes:
    return read_id(KEY, sealed).unique


def outcomes(labels: Labels, *items: tuple[str, object], model: str = MODEL) -> list[str]:
    return [taken.outcome for taken in labels.take(model, items)]


def test_a_label_is_taken_once(labels: Labels) -> None:
    one, other = of_class(1), of_class(2)
    assert outcomes(labels, (one, "b"), (one, 1), (other, "c"), (one, "c")) == [
        "accepted", "duplicate", "accepted", "contradictory",
    ]  # fmt: skip
    assert outcomes(labels, (one, "1"), (one, "a"), (other, 2)) == ["duplicate", "contradictory", "duplicate"]
    assert labels.counts(MODEL) == {"accepted": 2, "contradictory": 2, "duplicate": 3}
    assert "the label 1 was taken before" in labels.take(MODEL, [(one, 2)])[0].reason


def test_what_is_no_id_of_this_registry_is_forged(labels: Labels) -> None:
    genuine = of_class(1)
    altered = ("A" if genuine[10] != "A" else "B").join((genuine[:10], genuine[11:]))
    given = [(text, "a") for text in (altered, "", "ü", genuine + "A", of_class(1, key=bytes(32)), "0" * 32)]
    assert outcomes(labels, *given) == ["forged"] * 6
    assert labels.counts(MODEL) == {"forged": 6}
    assert outcomes(labels, (genuine, "a")) == ["accepted"]


def test_another_models_ids_are_not_taken(labels: Labels) -> None:
    assert outcomes(labels, (of_class(1, model="letters"), "a")) == ["unknown-model"]
    assert outcomes(labels, (of_class(1), "a"), model="letters") == ["unknown-model"]
    assert labels.counts("letters") == {}


@pytest.mark.parametrize("label", ["d", 3, -1, 1.5, True, None, [1], float("nan"), {"a": 1}])
def test_what_is_no_label_of_the_model_is_unusable(labels: Labels, label: object) -> None:
    (taken,) = labels.take(MODEL, [(of_class(1), label)])
    assert taken.outcome == "unusable"
    assert "is no class of this model" in taken.reason


def test_a_version_that_is_not_there_makes_a_label_unusable(labels: Labels) -> None:
    assert outcomes(labels, (of_class(1, version=99), "a")) == ["unusable"]


def test_a_canary_is_judged_by_the_loss_of_each_arm(registry: Registry, labels: Labels) -> None:
    draw = np.random.default_rng(3)
    rollout = Rollouts(registry).start(MODEL, "digits:2", Spec("canary", ramp=(0.2,)))
    plain = Evidence("canary", rollout.spec.delta)
    items = []
    for _ in range(200):
        new, wrong = bool(draw.random() < 0.2), bool(draw.random() < 0.1)
        sealed = of_class(0, version=2 if new else 1, rollout=rollout.id, new=new, share=0.2)
        items.append((sealed, "b" if wrong else "a"))
        plain.unpaired.observe([new], 0.2, [float(wrong)])
        plain.labelled.observe(new, 0.2)
    for start in range(0, 200, 64):
        assert set(outcomes(labels, *items[start : start + 64])) == {"accepted"}
    assert set(outcomes(labels, *items)) == {"duplicate"}
    evidence = Rollouts(registry).get(rollout.id).evidence
    np.testing.assert_allclose(evidence.unpaired.promote, plain.unpaired.promote, atol=1e-9)
    np.testing.assert_allclose(evidence.unpaired.rollback, plain.unpaired.rollback, atol=1e-9)
    assert evidence.labelled.events.tolist() == plain.labelled.events.tolist()


def test_labels_of_one_caller_count_once(registry: Registry, labels: Labels) -> None:
    rollout = Rollouts(registry).start(MODEL, "digits:2", Spec("ab"))
    where = {"rollout": rollout.id, "share": 0.5}
    same = [(of_class(0, key_digest=77, **where), "a") for _ in range(5)]
    assert outcomes(labels, *same) == ["accepted"] * 5
    assert outcomes(labels, (of_class(0, key_digest=77, **where), "a"), (of_class(0, **where), "a")) == ["accepted"] * 2
    after = Rollouts(registry).get(rollout.id)
    assert after.evidence.unpaired.counts.tolist() == [2, 0]
    assert (after.tally.labels, after.tally.dropped) == (2, {"labelled": 5})


def test_labels_decide_too(registry: Registry, labels: Labels) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab", auto=True))
    items = []
    for place in range(400):
        new = place % 2 == 1
        sealed = of_class(0, version=2 if new else 1, rollout=rollout.id, new=new, share=0.5)
        items.append((sealed, "b" if new else "a"))
    assert set(outcomes(labels, *items)) == {"accepted"}
    ended = rollouts.get(rollout.id)
    assert (ended.state, registry.aliases(MODEL)) == ("rollback", {"champion": 1})
    assert outcomes(labels, (of_class(0, rollout=rollout.id, share=0.5), "a")) == ["late"]


def test_a_late_label_is_remembered_and_gives_no_evidence(registry: Registry, labels: Labels) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab"))
    sealed = of_class(0, rollout=rollout.id, share=0.5)
    rollouts.stop(MODEL)
    (taken,) = labels.take(MODEL, [(sealed, "b")])
    assert (taken.outcome, taken.reason) == ("late", "rollout 1 has ended")
    assert outcomes(labels, (sealed, "b"), (sealed, "a")) == ["duplicate", "contradictory"]
    assert rollouts.get(rollout.id).evidence.unpaired.counts.tolist() == [0, 0]


def test_a_label_of_an_old_prediction_is_late(registry: Registry) -> None:
    labels = Labels(registry, KEY)
    sealed = of_class(0)
    at = read_id(KEY, sealed).at
    clock = Clock()
    clock.now += timedelta(seconds=at) - timedelta(seconds=clock.now.timestamp()) + timedelta(days=31)
    assert [taken.outcome for taken in labels.take(MODEL, [(sealed, "a")], clock.now)] == ["late"]


class Written:
    """When each transaction that writes began and ended."""

    def __init__(self, registry: Registry, monkeypatch: pytest.MonkeyPatch, takes_s: float = 0.0) -> None:
        self.spans: list[tuple[float, float]] = []
        self.fails_at: int | None = None
        transact = registry.database.transact

        def timed(work: Any, **options: Any) -> Any:
            if len(self.spans) == self.fails_at:
                raise RegistryError("the registry", "cannot be reached", "start it")
            began = time.monotonic()
            time.sleep(takes_s)
            try:
                return transact(work, **options)
            finally:
                self.spans.append((began, time.monotonic()))

        monkeypatch.setattr(registry.database, "transact", timed)


def test_what_nobody_has_signed_is_not_written_for(
    registry: Registry, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can send it, as fast as they can; whoever else writes is not to wait for it."""
    written = Written(registry, monkeypatch)
    forged, foreign = ("A" * 88, "a"), (of_class(1, model="letters"), "a")
    for _ in range(20):
        assert outcomes(labels, forged, foreign) == ["forged", "unknown-model"]
    assert len(written.spans) == 1, "its number, once in a second"
    assert labels.counts(MODEL) == {"forged": 20, "unknown-model": 20}
    assert Labels(registry, KEY).counts(MODEL) == {"forged": 1, "unknown-model": 1}
    assert outcomes(labels, (of_class(1), "a"), forged) == ["accepted", "forged"]
    assert len(written.spans) == 2, "with the next that is written"
    assert Labels(registry, KEY).counts(MODEL) == {"accepted": 1, "forged": 21, "unknown-model": 20}
    outcomes(labels, forged)
    labels.settle()
    labels.settle()
    assert len(written.spans) == 3
    assert Labels(registry, KEY).counts(MODEL)["forged"] == labels.counts(MODEL)["forged"] == 22


def test_what_is_refused_while_the_registry_is_away_counts_when_it_is_sent_again(
    registry: Registry, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(registry, monkeypatch)
    written.fails_at = 0
    for _ in range(3):
        with pytest.raises(RegistryError):
            outcomes(labels, ("A" * 88, "a"))
    written.fails_at = None
    assert outcomes(labels, ("A" * 88, "a")) == ["forged"]
    assert Labels(registry, KEY).counts(MODEL) == {"forged": 1}


def test_many_labels_come_in_small_transactions_with_rests(
    registry: Registry, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels_room, "AT_ONCE", 4)
    written = Written(registry, monkeypatch, takes_s=0.05)
    items: list[tuple[str, object]] = [(of_class(place % 3), place % 3) for place in range(9)]
    items[5:5] = [("A" * 88, "a"), items[2]]
    assert outcomes(labels, *items) == ["accepted"] * 5 + ["forged", "duplicate"] + ["accepted"] * 4
    assert outcomes(labels, items[0]) == ["duplicate"]
    assert len(written.spans) == 4
    for (began, ended), (again, _) in pairwise(written.spans):
        assert again - ended >= 0.9 * (ended - began), "as long as it took, also before the next call"
    assert labels.counts(MODEL) == {"accepted": 9, "duplicate": 2, "forged": 1}


def test_what_was_taken_before_the_registry_was_lost_is_a_duplicate_when_it_is_sent_again(
    registry: Registry, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels_room, "AT_ONCE", 4)
    written = Written(registry, monkeypatch)
    written.fails_at = 1
    items = [(of_class(1), "a") for _ in range(6)]
    with pytest.raises(RegistryError):
        outcomes(labels, *items)
    written.fails_at = None
    assert outcomes(labels, *items) == ["duplicate"] * 4 + ["accepted"] * 2
    assert labels.counts(MODEL) == {"accepted": 6, "duplicate": 4}


def test_no_more_is_kept_in_memory_of_a_rollout_that_another_process_ended(registry: Registry, labels: Labels) -> None:
    elsewhere = Rollouts(registry)
    for _ in range(3):
        rollout = elsewhere.start(MODEL, "digits:2", Spec("ab"))
        assert outcomes(labels, (of_class(0, key_digest=7, rollout=rollout.id, share=0.5), "a")) == ["accepted"]
        assert [*labels._filters._filters] == [rollout.id]
        elsewhere.stop(MODEL)
    assert outcomes(labels, (of_class(0), "a")) == ["accepted"]
    assert labels._filters._filters == {} == labels._filters._read


def test_rows_of_a_file_that_nobody_can_use_do_not_end_it(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    with make_registry(tmp_path / "tags", model="tags", task="multilabel", labels=("cat", "dog")) as registry:
        ids = [signed({"predicted_classes": [0], "probabilities": [0.9, 0.1]}, model="tags") for _ in range(5)]
        rows = [f'{ids[0]},"{"[" * 50_000}"', f'{ids[1]},"[{"9" * 5000}]"', f"{ids[2]},cat", "forged,cat"]
        csv = tmp_path / "labels.csv"
        csv.write_text("prediction_id,label\n" + "\n".join(rows) + "\n")
        received = take_file(registry, KEY, csv)
        assert received.outcomes == {"unusable": 2, "accepted": 1, "forged": 1}
        assert Labels(registry, KEY).counts("tags") == {"unusable": 2, "accepted": 1}, "and all of them are counted"
        for column in (pyarrow.array([[1.0], [2.0]]), pyarrow.array([Decimal("1e30")] * 2)):
            file = tmp_path / "losses.parquet"
            parquet.write_table(pyarrow.table({"prediction_id": ids[3:], "loss": column}), file)
            assert take_file(registry, KEY, file).outcomes == {"unusable": 2}


def test_labels_are_forgotten_some_at_a_time(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    labels = Labels(registry, KEY, clock=clock)
    outcomes(labels, *((of_class(0), "a") for _ in range(7)))
    clock.go(40 * 86_400)
    monkeypatch.setattr(labels_room, "FORGOTTEN_AT_ONCE", 3)
    written = Written(registry, monkeypatch)
    assert [labels.prune() for _ in range(4)] == [3, 3, 1, 0]
    assert len(written.spans) == 4


def test_labels_are_forgotten_when_none_can_count_twice(registry: Registry) -> None:
    clock = Clock()
    labels = Labels(registry, KEY, clock=clock)
    assert outcomes(labels, (of_class(0), "a"), (of_class(1), "a")) == ["accepted"] * 2
    clock.go(40 * 86_400)
    kept = of_class(2)
    assert outcomes(labels, (kept, "a")) == ["accepted"]
    with pytest.raises(RegistryError, match="count twice"):
        labels.prune(timedelta(days=1))
    assert (labels.prune(), labels.prune()) == (2, 0)
    assert outcomes(labels, (kept, "a")) == ["duplicate"]


def test_what_was_answered_and_how_wrong_it_was_is_remembered(tmp_path: Path) -> None:
    """Also after the rollout, whose scale says how wrong a number is."""
    from sqlalchemy import select

    from shipworthy.registry.rollout_tables import labels as table

    with make_registry(tmp_path / "prices", model="prices", task="regression", labels=None) as registry:
        rollouts = Rollouts(registry)
        rollout = rollouts.start("prices", "prices:2", Spec("ab", error_scale=2.0))
        rollouts.stop("prices")
        sealed = signed({"value": 3.5}, model="prices", rollout=rollout.id, share=0.5)
        (taken,) = Labels(registry, KEY).take("prices", [(sealed, 4)])
        assert taken.outcome == "late"
        with registry.database.read() as connection:
            row = connection.execute(select(table)).one()
        assert (row.model, row.version, row.rollout, row.label) == ("prices", 1, 1, "4.0")
        assert (row.predicted, row.loss) == (3.5, 0.25)


class Pairs:
    """A shadow with three pairs that differ, and one that agrees."""

    def __init__(self, registry: Registry, spec: Spec) -> None:
        self.rollouts = Rollouts(registry)
        self.number = self.rollouts.start(MODEL, "digits:2", spec).id
        self.ids = [of_class(0, rollout=self.number) for _ in range(3)]
        self.agreed = of_class(0, rollout=self.number)

    def tell(self) -> None:
        pairs = [(unique(sealed), 0, new) for sealed, new in zip(self.ids, (1, 1, 2), strict=True)]
        self.rollouts.merge(self.number, Observed(copies=copies(pairs, agreeing=1)))

    def evidence(self) -> Evidence:
        return self.rollouts.get(self.number).evidence


def shadow(z: list[float], *, still_open: int = 0) -> Evidence:
    """One pair that agrees, and those."""
    plain = Evidence("shadow", 0.01)
    plain.paired.add(0.0)
    if z:
        plain.paired.add(z)
    if still_open:
        plain.paired.add_open(np.ones(still_open))
    return plain


def same(ours: Evidence, theirs: Evidence) -> None:
    for name in ("pairs", "open", "worse", "better"):
        assert getattr(ours.paired, name) == getattr(theirs.paired, name), name
    np.testing.assert_allclose(ours.paired.promote, theirs.paired.promote, atol=1e-9)
    np.testing.assert_allclose(ours.paired.rollback, theirs.paired.rollback, atol=1e-9)


@pytest.mark.parametrize("first", ["pairs", "labels"])
def test_a_label_takes_the_place_of_the_worst_case_whichever_comes_first(
    registry: Registry, labels: Labels, first: str
) -> None:
    pairs = Pairs(registry, Spec("shadow"))
    if first == "pairs":
        pairs.tell()
    # The champion was right, the challenger was, neither was; and where they agreed nothing is left to say.
    given = [(pairs.ids[0], "a"), (pairs.ids[1], "b"), (pairs.ids[2], "b"), (pairs.agreed, "c")]
    assert outcomes(labels, *given) == ["accepted"] * 4
    if first == "labels":
        pairs.tell()
    same(pairs.evidence(), shadow([1.0, -1.0, 0.0]))
    tally = pairs.rollouts.get(pairs.number).tally
    assert (tally.pairs, tally.labels) == (0, 3)
    assert outcomes(labels, *given) == ["duplicate"] * 4
    same(pairs.evidence(), shadow([1.0, -1.0, 0.0]))


def test_a_label_that_comes_after_its_pair_gave_way_changes_nothing(registry: Registry, labels: Labels) -> None:
    pairs = Pairs(registry, Spec("shadow", max_pairs=1))
    pairs.tell()
    assert outcomes(labels, *((sealed, "b") for sealed in pairs.ids)) == ["accepted"] * 3
    same(pairs.evidence(), shadow([0.0], still_open=2))


def test_somebody_elses_loss_says_nothing_of_the_shadow(registry: Registry, labels: Labels) -> None:
    pairs = Pairs(registry, Spec("shadow"))
    pairs.tell()
    assert outcomes(labels, (pairs.ids[0], Loss(1.0))) == ["accepted"]
    same(pairs.evidence(), shadow([], still_open=3))
    assert pairs.rollouts.get(pairs.number).tally.unjudged == 1


def test_a_loss_may_be_given_instead_of_a_label(registry: Registry, labels: Labels) -> None:
    rollout = Rollouts(registry).start(MODEL, "digits:2", Spec("ab"))
    ids = [of_class(0, rollout=rollout.id, share=0.5, new=new) for new in (True, False)]
    given = [(ids[0], Loss(0.25)), (ids[1], Loss(1)), (ids[0], Loss(0.25)), (ids[1], "a")]
    assert outcomes(labels, *given) == ["accepted", "accepted", "duplicate", "contradictory"]
    assert Rollouts(registry).get(rollout.id).evidence.unpaired.losses.tolist() == [1.0, 0.25]


def test_numbers_are_compared_on_their_scale(tmp_path: Path) -> None:
    with make_registry(tmp_path / "prices", model="prices", task="regression", labels=None) as registry:
        rollouts = Rollouts(registry)
        labels = Labels(registry, KEY)
        rollout = rollouts.start("prices", "prices:2", Spec("shadow", error_scale=10.0))
        values = [(5.0, 7.0), (5.0, 30.0), (-2.0, -2.5)]
        ids = [signed({"value": old}, model="prices", rollout=rollout.id) for old, _ in values]
        words = np.array(values, np.float64).view(np.uint64)
        pairs = [(unique(sealed), int(old), int(new)) for sealed, (old, new) in zip(ids, words, strict=True)]
        bounds = [min(1.0, abs(new - old) / 10) for old, new in values]
        rollouts.merge(rollout.id, Observed(copies=copies(pairs, worst=bounds)))
        plain = Evidence("shadow", 0.01)
        plain.paired.add_open(bounds)
        same(rollouts.get(rollout.id).evidence, plain)
        assert [taken.outcome for taken in labels.take("prices", [(ids[0], 6.5), (ids[1], "29"), (ids[2], 0)])] == [
            "accepted"
        ] * 3
        plain = Evidence("shadow", 0.01)
        plain.paired.add([0.05 - 0.15, 0.1 - 1.0, 0.25 - 0.2])
        same(rollouts.get(rollout.id).evidence, plain)


def test_an_answer_whose_id_says_nothing_of_it_is_remembered_and_not_judged(tmp_path: Path) -> None:
    with make_registry(tmp_path / "prices", model="prices", task="regression", labels=None) as registry:
        rollout = Rollouts(registry).start("prices", "prices:2", Spec("ab", error_scale=1.0))
        sealed = signed({"value": [3.0, 4.0]}, model="prices", rollout=rollout.id, share=0.5)
        assert [taken.outcome for taken in Labels(registry, KEY).take("prices", [(sealed, 4.0)])] == ["accepted"]
        tally = Rollouts(registry).get(rollout.id).tally
        assert (tally.labels, tally.unjudged) == (0, 1)


def test_sets_of_classes_are_right_as_a_whole(tmp_path: Path) -> None:
    names = ("cat", "dog", "hen")
    with make_registry(tmp_path / "tags", model="tags", task="multilabel", labels=names) as registry:
        rollouts = Rollouts(registry)
        labels = Labels(registry, KEY)
        rollout = rollouts.start("tags", "tags:2", Spec("ab"))

        def sealed(classes: list[int]) -> str:
            row = {"predicted_classes": classes, "probabilities": [0.1, 0.2, 0.3]}
            return signed(row, model="tags", rollout=rollout.id, share=0.5)

        ids = [sealed([0, 2]), sealed([0, 2]), sealed([]), sealed([1])]
        given = [(ids[0], ["hen", "cat"]), (ids[1], [0]), (ids[2], []), (ids[3], "dog;hen"), (ids[3], ["hen", 1])]
        assert [taken.outcome for taken in labels.take("tags", given)] == ["accepted"] * 4 + ["duplicate"]
        unpaired = rollouts.get(rollout.id).evidence.unpaired
        assert (unpaired.counts.tolist(), unpaired.losses.tolist()) == ([4, 0], [2.0, 0.0])
