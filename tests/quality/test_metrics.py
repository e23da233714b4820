"""Metrics: against scikit-learn, and in the form that targets come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as oracle

from shipworthy.contract import Array, Contract, DataSpec, InputSpec, OutputSpec, TaskSpec
from shipworthy.contract.crosscheck import METRICS
from shipworthy.contract.spec import Kind, TaskKind
from shipworthy.errors import ContractError, DataError, ModelError
from shipworthy.quality import Claim, Metric, compare, gather, metric_for
from shipworthy.quality.metrics import BUILT_IN


def _contract(
    task: TaskKind,
    metric: str | None = None,
    kind: Kind = "logits",
    root: Path = Path(),
    labels: tuple[str, ...] | None = None,
) -> Contract:
    return Contract(
        name="m",
        inputs={"x": InputSpec(dtype="float32", shape=("batch", 2))},
        outputs={"scores": OutputSpec(dtype="float32", shape=("batch", 3), kind=kind)},
        task=TaskSpec(kind=task, labels=labels),
        data=DataSpec(metric=metric),
        root=root,
    )


def _metric(task: TaskKind, name: str | None = None, kind: Kind = "logits", root: Path = Path()) -> Metric:
    metric = metric_for(_contract(task, name, kind, root))
    assert metric is not None
    return metric


def _score(metric: Metric, scores: Array, targets: Array) -> float:
    return metric.score(metric.answers({"scores": scores}), targets)


@pytest.fixture
def scores() -> Array:
    return np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)


@pytest.fixture
def classes() -> Array:
    return np.random.default_rng(1).integers(0, 3, 200)


@pytest.mark.parametrize(("name", "expected"), [
    ("accuracy", oracle.accuracy_score), ("balanced_accuracy", oracle.balanced_accuracy_score),
    ("f1_macro", lambda y, p: oracle.f1_score(y, p, average="macro")),
])  # fmt: skip
def test_class_metrics(name: str, expected: object, scores: Array, classes: Array) -> None:
    assert callable(expected)
    assert _score(_metric("classification", name), scores, classes) == pytest.approx(
        expected(classes, scores.argmax(1))
    )


@pytest.mark.parametrize(("name", "expected"), [
    ("neg_mae", lambda y, p: -oracle.mean_absolute_error(y, p)),
    ("neg_rmse", lambda y, p: -oracle.root_mean_squared_error(y, p)), ("r2", oracle.r2_score),
])  # fmt: skip
def test_value_metrics_do_not_broadcast(name: str, expected: object, scores: Array) -> None:
    assert callable(expected)
    values, targets = scores[:, :1], np.random.default_rng(2).normal(size=200)
    assert _score(_metric("regression", name, "values"), values, targets) == pytest.approx(
        expected(targets, values[:, 0])
    )


@pytest.mark.parametrize(("kind", "threshold"), [("logits", 0.0), ("probabilities", 0.5)])
def test_multilabel_f1(kind: Kind, threshold: float, scores: Array) -> None:
    targets = np.random.default_rng(3).integers(0, 2, (200, 3))
    expected = oracle.f1_score(targets, scores > threshold, average="macro")
    assert _score(_metric("multilabel", None, kind), scores, targets) == pytest.approx(expected)


def test_a_single_score_is_a_class_by_its_side() -> None:
    metric = _metric("classification")
    assert _score(metric, np.array([[-1.0], [2.0], [0.5]], np.float32), np.array([0, 1, 0])) == pytest.approx(2 / 3)


def test_a_class_per_position_is_counted_and_not_proven_by_equal_answers() -> None:
    metric = _metric("classification")
    tokens = np.zeros((20, 5, 3), np.float32)
    tokens[..., 1] = 1
    truth = np.ones((20, 5), np.int64)
    evidence = compare(metric, "holdout", truth, {"scores": tokens}, {"scores": tokens}, claim=Claim(0.01, 0.95))
    assert evidence.eager == 1.0
    assert evidence.drop_upper is None


def test_embeddings_are_compared_with_eager() -> None:
    metric = _metric("embedding", None, "values")
    eager = np.eye(3, dtype=np.float32)
    evidence = compare(metric, "validation", None, {"scores": eager}, {"scores": eager * 2})
    assert (evidence.name, evidence.eager, evidence.candidate, evidence.drop) == ("cosine", 1.0, 1.0, 0.0)
    turned = compare(metric, "validation", None, {"scores": eager}, {"scores": eager[::-1]})
    assert turned.drop == pytest.approx(2 / 3)


def test_tensors_have_no_metric() -> None:
    assert metric_for(_contract("tensors")) is None


def test_the_contract_accepts_every_built_in_metric_and_no_other() -> None:
    assert set(BUILT_IN) == set(METRICS)
    with pytest.raises(ContractError, match="acuracy"):
        metric_for(_contract("classification", "acuracy"))


def test_a_metric_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "own_metric.py").write_text(
        "def first(outputs, targets):\n    return (outputs['scores'][:, 0] == targets).mean()\n"
        "def fails(outputs, targets):\n    raise KeyError('nothing')\n"
    )
    assert _score(
        _metric("tensors", "own_metric:first", root=tmp_path), np.eye(3), np.array([1, 0, 1])
    ) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="raised KeyError"):
        _score(_metric("tensors", "own_metric:fails", root=tmp_path), np.eye(3), np.zeros(3))
    with pytest.raises(ModelError, match="lacking"):
        metric_for(_contract("tensors", "own_metric:lacking", root=tmp_path))


def test_targets_of_another_number_are_refused(scores: Array) -> None:
    with pytest.raises(DataError, match=r"shape \[3\] does not fit answers of shape \[200\]"):
        _score(_metric("classification"), scores, np.zeros(3, np.int64))


def test_a_metric_that_is_undefined_on_the_data_is_refused() -> None:
    metric = _metric("regression", "r2", "values")
    outputs = {"scores": np.ones((5, 1), np.float32)}
    with pytest.raises(DataError, match="r2 is not defined"):
        compare(metric, "validation", np.ones(5), outputs, outputs)


def test_the_pair_and_the_recall_of_each_class() -> None:
    metric = metric_for(_contract("classification", labels=("a", "b", "c")))
    assert metric is not None
    truth = np.array([0] * 50 + [1] * 40 + [2] * 10)
    eager = np.eye(3, dtype=np.float32)[truth]
    wrong = truth.copy()
    wrong[95:] = 0
    evidence = compare(
        metric,
        "holdout",
        truth,
        {"scores": eager},
        {"scores": np.eye(3, dtype=np.float32)[wrong]},
        claim=Claim(0.1, 0.95, 2),
    )
    assert evidence.drop == pytest.approx(0.05)
    assert evidence.per_class == pytest.approx({"a": 0.0, "b": 0.0, "c": 0.5})
    assert evidence.confidence == pytest.approx(0.975), "the error is shared by two finalists"
    assert evidence.method == "exact paired Clopper–Pearson (5 lost, 0 won)"
    assert evidence.drop_upper is not None
    assert evidence.drop_upper > 0.1
    assert evidence.samples_needed is not None
    assert evidence.samples_needed > 100


def test_batches_are_gathered_in_order() -> None:
    joined = gather([{"y": np.zeros((2, 3))}, {"y": np.ones((1, 3))}])
    np.testing.assert_array_equal(joined["y"], [[0] * 3, [0] * 3, [1] * 3])
    ragged = gather([{"y": np.zeros((2, 3))}, {"y": np.ones((1, 4))}])["y"]
    assert (ragged.dtype, len(ragged), ragged[2].shape) == (object, 3, (4,))
