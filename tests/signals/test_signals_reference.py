"""The reference: which samples, what is kept of them, and what watches with it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from signal_cases import classifier, contract

from shipworthy.contract import Array, Arrays, Contract
from shipworthy.errors import MonitorError, PackageError
from shipworthy.signals import MOST, Accepted, Reference, Signals, fit, make_reference, watch
from shipworthy.signals.reference import Sample


def answered(rows: int, seed: int = 0, right: float = 0.8) -> Sample:
    """Inputs, scores of three classes, and labels that the highest score is right about in a share of rows."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, 3)) * 3
    labels = logits.argmax(1)
    wrong = random.random(rows) > right
    labels[wrong] = (labels[wrong] + 1) % 3
    return {"x": random.normal(size=(rows, 4)).astype(np.float32)}, {"scores": logits}, labels


def made(what: Contract | None = None, rows: int = 500, **more: object) -> Reference:
    what = what or classifier()
    calibration: Arrays = answered(100, 9)[0]
    return make_reference(what, fit(what, [(calibration, {})]), [answered(rows)], **more)  # type: ignore[arg-type]


def test_columns_are_sorted_by_themselves_with_missing_values_last() -> None:
    what = classifier()
    feeds, outputs, labels = answered(100)
    logits = np.asarray(outputs["scores"])
    logits[::7] = np.nan
    reference = make_reference(what, {}, [(feeds, {"scores": logits}, labels)])
    table = Signals(what, {}).of(feeds, {"scores": logits})
    np.testing.assert_array_equal(reference.scores, np.sort(table, axis=0))
    assert np.isnan(reference.scores[-15:, 0]).all() and not np.isnan(reference.scores[:-15, 0]).any()
    # No row of the data can be read from it.
    rows = {tuple(row) for row in table[~np.isnan(table).any(axis=1)]}
    assert not rows.intersection(map(tuple, reference.scores))


def test_at_most_4000_are_kept_the_same_ones_whatever_the_chunks() -> None:
    what = classifier()
    feeds, outputs, labels = answered(MOST + 900)
    whole = make_reference(what, {}, [(feeds, outputs, labels)])
    cuts = np.split(np.arange(MOST + 900), [5, 17, 3000])
    parts = make_reference(
        what,
        {},
        [({"x": feeds["x"][rows]}, {"scores": outputs["scores"][rows]}, labels[rows]) for rows in cuts],  # type: ignore[index]
    )
    assert whole.samples == MOST
    np.testing.assert_array_equal(whole.scores, parts.scores)
    assert whole.sure == parts.sure
    assert sum(whole.labels) == MOST + 900


def test_fewer_than_32_are_refused() -> None:
    assert made(rows=32).samples == 32
    with pytest.raises(MonitorError, match="has 31 samples, and an alarm needs at least 32") as refused:
        made(rows=31)
    assert refused.value.remedy


def test_the_threshold_has_the_accuracy_above_it() -> None:
    what = classifier()
    feeds, outputs, labels = answered(1000)
    assert labels is not None
    reference = make_reference(what, {}, [(feeds, outputs, labels)])
    accuracy = (np.asarray(outputs["scores"]).argmax(1) == labels).mean()
    place = [signal.name for signal in reference.signals].index("confidence")
    assert reference.sure is not None
    assert (reference.scores[:, place] > reference.sure).mean() == pytest.approx(accuracy)


@pytest.mark.parametrize(("right", "share"), [(1.0, 1.0), (0.0, 0.0)])
def test_the_threshold_of_a_model_that_is_always_or_never_right(right: float, share: float) -> None:
    what = classifier()
    feeds, outputs, _ = answered(50)
    best = np.asarray(outputs["scores"]).argmax(1)
    labels = best if right else (best + 1) % 3
    reference = make_reference(what, {}, [(feeds, outputs, labels)])
    place = [signal.name for signal in reference.signals].index("confidence")
    assert reference.sure is not None
    assert (reference.scores[:, place] > reference.sure).mean() == share


def test_without_labels_nothing_is_known_of_accuracy() -> None:
    what = classifier()
    feeds, outputs, _ = answered(50)
    reference = make_reference(what, {}, [(feeds, outputs, None)])
    assert (reference.sure, reference.labels, reference.accepted) == (None, (), None)


@pytest.mark.parametrize("task", ["regression", "multilabel", "embedding", "tensors"])
def test_other_tasks_have_no_threshold(task: str) -> None:
    what = contract(outputs={"scores": ["batch", 3]}, task=task, kind="logits" if task == "multilabel" else "values")
    feeds, outputs, labels = answered(50)
    reference = make_reference(what, {}, [(feeds, outputs, labels)], accepted=Accepted("r2", 0.9, 0.89, 50))
    assert (reference.sure, reference.labels) == (None, ())
    assert reference.accepted is not None and reference.accepted.level == 0.89


def test_what_is_watched_later_is_what_the_reference_has_in_its_order() -> None:
    what = classifier()
    reference = made(what)
    fewer = Reference(reference.signals[5:2:-1], reference.scores[:, 5:2:-1], reference.constants)
    watched = watch(what, fewer, "the reference")
    feeds, outputs, _ = answered(40, 3)
    whole = Signals(what, reference.constants).of(feeds, outputs)
    np.testing.assert_array_equal(watched.of(feeds, outputs), whole[:, 5:2:-1])
    assert watched.signals == fewer.signals


def test_a_reference_of_another_contract_is_refused() -> None:
    reference = made()
    for other in (
        classifier(4),
        contract(inputs={"z": ["batch", 4]}, outputs={"scores": ["batch", 3]}, task="classification", kind="logits"),
        contract(inputs={"x": ["batch", 5]}, outputs={"scores": ["batch", 3]}, task="classification", kind="logits"),
    ):
        with pytest.raises(PackageError, match="does not fit the contract of 'net'"):
            watch(other, reference, "the reference")


def test_counts_of_other_tokens_are_refused() -> None:
    what = contract(inputs={"ids": ["int64", "batch", "steps"]}, outputs={"scores": ["batch", 3]})
    rows: Arrays = {"ids": np.arange(80).reshape(40, 2)}
    outputs: Arrays = {"scores": np.zeros((40, 3))}
    reference = make_reference(what, fit(what, [(rows, outputs)]), [(rows, outputs, None)])
    assert watch(what, reference, "the reference").signals == reference.signals
    lying = Reference(reference.signals, reference.scores, {**reference.constants, "tokens/ids/counts": np.ones(3)})
    with pytest.raises(PackageError, match="does not fit"):
        watch(what, lying, "the reference")


@pytest.mark.parametrize("broken", [np.zeros(3), np.zeros((2, 2, 2)), np.zeros((0,)), np.zeros((4, 4))])
@pytest.mark.parametrize("name", ["inputs/x/mean", "inputs/x/deviation", "inputs/x/range"])
def test_constants_of_another_size_are_refused(name: str, broken: Array) -> None:
    reference = made()
    lying = Reference(reference.signals, reference.scores, {**reference.constants, name: broken})
    with pytest.raises(PackageError, match="does not fit"):
        watch(classifier(), lying, "the reference")


def rejected(*, apart: bool) -> int:
    """How many of 50 references differ from live rows of the same distribution (KS at .05), in their distances."""
    what = contract(inputs={"x": ["batch", 8, 8]}, outputs={"scores": ["batch", 3]})
    count = 0
    for seed in range(50):
        random = np.random.default_rng(seed)
        held, other = (random.normal(size=(60, 8, 8)).astype(np.float32) for _ in range(2))
        outputs: Arrays = {"scores": np.zeros((60, 3))}
        reference = make_reference(
            what, fit(what, [({"x": other if apart else held}, outputs)]), [({"x": held}, outputs, None)]
        )
        place = [signal.name for signal in reference.signals].index("x.distance")
        live = random.normal(size=(600, 8, 8)).astype(np.float32)
        values = watch(what, reference, "it").of({"x": live}, {"scores": np.zeros((600, 3))})
        count += stats.ks_2samp(reference.scores[:, place], values[:, place]).pvalue < 0.05
    return count


def test_live_rows_are_like_the_reference_because_nothing_was_fitted_on_it() -> None:
    # Eight or more of 50 at .05 have a probability of .004.
    assert rejected(apart=True) < 8
    assert rejected(apart=False) > 20
