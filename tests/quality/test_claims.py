"""What is called proven: by simulation, and where samples say nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shipworthy.contract import Array, Contract, DataSpec, InputSpec, OutputSpec, TaskSpec
from shipworthy.contract.spec import TaskKind
from shipworthy.errors import DataError, MeasureError
from shipworthy.evidence import MetricEvidence
from shipworthy.quality import Claim, Metric, compare, metric_for
from shipworthy.quality.metrics import BUILT_IN, fit_targets
from shipworthy.quality.terms import pseudo_values

_TASKS: dict[str, TaskKind] = {
    "accuracy": "classification", "balanced_accuracy": "classification", "f1_macro": "classification",
    "multilabel_f1": "multilabel", "neg_mae": "regression", "neg_rmse": "regression", "r2": "regression",
    "cosine": "embedding",
}  # fmt: skip


def _metric(name: str, root: Path = Path()) -> Metric:
    metric = metric_for(Contract(
        name="m", inputs={"x": InputSpec(dtype="float32", shape=("batch", 2))},
        outputs={"y": OutputSpec(dtype="float32", shape=("batch", 3), kind="logits")},
        task=TaskSpec(kind=_TASKS.get(name, "tensors")), data=DataSpec(metric=name), root=root,
    ))  # fmt: skip
    assert metric is not None
    return metric


def _evidence(metric: Metric, targets: Array, eager: Array, candidate: Array, claim: Claim) -> MetricEvidence:
    return compare(metric, "holdout", targets, {"y": eager}, {"y": candidate}, claim=claim)


def _proven(metric: Metric, targets: Array, eager: Array, candidate: Array, limit: float) -> bool:
    upper = _evidence(metric, targets, eager, candidate, Claim(limit, 0.95)).drop_upper
    return upper is not None and upper <= limit


Draw = Callable[[np.random.Generator], tuple[Array, Array, Array]]


def _lost(counts: tuple[int, ...], rates: tuple[float, ...]) -> Draw:
    """Eager is right always, the candidate wrong at a rate for each class."""

    def draw(random: np.random.Generator) -> tuple[Array, Array, Array]:
        truth = np.repeat(np.arange(len(counts)), counts)
        wrong = random.random(len(truth)) < np.repeat(rates, counts)
        return truth, truth, np.where(wrong, (truth + 1) % len(counts), truth)

    return draw


def _errors(rare: float, size: float, samples: int = 100, noise: float = 0.0) -> Draw:
    """The candidate's error is larger by skewed noise of this mean, and on rare samples by `size`."""

    def draw(random: np.random.Generator) -> tuple[Array, Array, Array]:
        more = noise * random.gamma(1.0, 1.0, samples) + size * (random.random(samples) < rare) + 1e-7
        return np.zeros(samples), np.zeros((samples, 1)), more[:, None]

    return draw


@pytest.mark.long
@pytest.mark.parametrize(("name", "draw", "limit"), [
    ("accuracy", _lost((200, 200), (0.021, 0.021)), 0.02),
    ("accuracy", _lost((30, 30), (0.051, 0.051)), 0.05),
    ("balanced_accuracy", _lost((190, 10), (0.0, 0.1)), 0.02),
    ("balanced_accuracy", _lost((100, 100), (0.021, 0.021)), 0.02),
    ("balanced_accuracy", _lost((40, 4, 4), (0.0, 0.5, 0.0)), 0.15),
    ("f1_macro", _lost((190, 10), (0.0, 0.1)), 0.02),
    ("neg_mae", _errors(0.0, 0.0, 60, noise=0.101), 0.1),
    ("neg_mae", _errors(0.01, 5.0), 0.02),
    ("neg_mae", _errors(0.3, 1.0, 80), 0.3),
])  # fmt: skip
def test_false_proofs_are_at_most_as_many_as_stated(name: str, draw: Draw, limit: float, effort: float) -> None:
    trials, random, metric = int(4000 * effort), np.random.default_rng(11), _metric(name)
    false = 0
    for _ in range(trials):
        targets, eager, candidate = draw(random)
        if name in ("accuracy", "balanced_accuracy", "f1_macro"):
            eager, candidate = (np.eye(3, dtype=np.float32)[answers] for answers in (eager, candidate))
        false += _proven(metric, targets, eager, candidate, limit)
    assert false / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials), f"{false} false proofs in {trials}"


@pytest.mark.parametrize("name", ["balanced_accuracy", "f1_macro", "multilabel_f1", "neg_mae", "neg_rmse", "cosine"])
def test_equal_answers_to_six_samples_prove_nothing(name: str) -> None:
    random = np.random.default_rng(0)
    eager = random.normal(size=(6, 3)).astype(np.float32)
    targets = np.arange(6) % 3 if _TASKS[name] == "classification" else random.normal(size=(6, 3)) > 0
    evidence = _evidence(_metric(name), targets, eager, eager, Claim(0.005, 0.95))
    assert evidence.drop_upper is None or evidence.drop_upper > 0.005
    assert evidence.method


@pytest.mark.parametrize("name", ["balanced_accuracy", "f1_macro", "cosine"])
def test_equal_answers_are_proven_by_the_samples_that_are_said_to_be_needed(name: str) -> None:
    metric = _metric(name)
    few = np.eye(3, dtype=np.float32)[np.arange(60) % 3]
    needed = _evidence(metric, np.arange(60) % 3, few, few, Claim(0.05, 0.95)).samples_needed
    assert needed is not None
    enough = math.ceil(needed / 3) * 3
    answers = np.eye(3, dtype=np.float32)[np.arange(enough) % 3]
    assert _proven(metric, np.arange(enough) % 3, answers, answers, 0.05)


def test_continuous_answers_that_hardly_differ_are_never_proven() -> None:
    values = np.random.default_rng(0).normal(size=(5000, 1))
    near = values + 1e-7
    evidence = _evidence(_metric("neg_mae"), values[:, 0], values, near, Claim(0.01, 0.95))
    assert (evidence.drop_upper, evidence.confidence, evidence.samples_needed) == (None, 0.95, None)
    assert "differ enough" in str(evidence.method)


def test_continuous_answers_that_differ_are_proven_where_the_samples_suffice() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(size=3000)
    eager = truth + random.normal(0, 0.1, 3000)
    other = eager + random.normal(0, 0.02, 3000)
    for name in ("neg_mae", "neg_rmse", "r2"):
        assert _proven(_metric(name), truth, eager[:, None], other[:, None], 0.01), name
    few = _evidence(_metric("neg_mae"), truth[:40], eager[:40, None], other[:40, None], Claim(0.002, 0.95))
    assert few.drop_upper is not None
    assert few.samples_needed is None or few.samples_needed > 40


@pytest.mark.parametrize("name", list(BUILT_IN))
def test_the_terms_give_the_drop_of_the_score_itself(name: str) -> None:
    """Jackknife pseudo-values from terms are those of scoring again without each sample."""
    random, built_in = np.random.default_rng(5), BUILT_IN[name]
    if built_in.answer == "class":
        before, after, raw = (random.integers(0, 3, (40, 2)) for _ in range(3))
    elif built_in.answer == "labels":
        before, after, raw = (random.random((40, 3)) > 0.5 for _ in range(3))
    else:
        before, after, raw = (random.normal(size=(40, 3)) for _ in range(3))
    truth = fit_targets(built_in.answer, before, raw)

    def drop(rows: Array) -> float:
        return built_in.score(before[rows], truth[rows]) - built_in.score(after[rows], truth[rows])

    left = np.array([drop(np.delete(np.arange(40), row)) for row in range(40)])
    found = pseudo_values(built_in.terms, before, after, truth)
    # R² is one number for all columns, and neither form of it centres differently.
    np.testing.assert_allclose(found, 40 * drop(np.arange(40)) - 39 * left, atol=1e-9)


def test_a_bound_of_many_samples_takes_no_minutes() -> None:
    random = np.random.default_rng(2)
    eager = random.normal(size=(20_000, 64)).astype(np.float32)
    other = eager + random.normal(0, 0.2, eager.shape).astype(np.float32)
    start = time.perf_counter()
    evidence = _evidence(_metric("cosine"), eager, eager, other, Claim(0.05, 0.95))
    assert time.perf_counter() - start < 10
    assert evidence.drop_upper is not None
    assert evidence.drop < evidence.drop_upper < 0.05


def test_no_bound_is_sought_where_no_confidence_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AssertionError("no proof is asked for")

    monkeypatch.setattr("shipworthy.quality.paired.bound_of", fails)
    values = np.arange(40.0)[:, None]
    evidence = _evidence(_metric("neg_mae"), np.arange(40.0), values, values + 1, Claim(0.01))
    assert (evidence.drop_upper, evidence.confidence) == (None, None)


_OWN = """
import numpy as np
def error(outputs, targets):
    return -float(np.abs(outputs["y"][:, 0] - targets).mean())
def picky(outputs, targets):
    if outputs["y"].max() > 5:
        raise ValueError("too large")
    return float("nan") if outputs["y"].min() < -5 else 0.0
"""


def test_a_metric_of_the_users_own_is_bounded_by_resampling(tmp_path: Path) -> None:
    (tmp_path / "claims_own.py").write_text(_OWN)
    metric, random = _metric("claims_own:error", tmp_path), np.random.default_rng(3)
    truth = random.normal(size=300)
    eager = (truth + random.normal(0, 0.1, 300))[:, None]
    other = eager + random.normal(0, 0.05, (300, 1))
    evidence = _evidence(metric, truth, eager, other, Claim(0.1, 0.95))
    assert "BCa" in str(evidence.method)
    assert evidence.drop_upper is not None
    assert evidence.drop < evidence.drop_upper < evidence.drop + 0.02
    assert _evidence(metric, truth, eager, eager, Claim(0.1, 0.95)).drop_upper is None
    assert _evidence(metric, truth[:20], eager[:20], other[:20], Claim(0.1, 0.95)).drop_upper is None


@pytest.mark.parametrize("value", [9.0, -9.0])
def test_a_metric_that_fails_for_the_candidate_alone_is_its_refusal(tmp_path: Path, value: float) -> None:
    (tmp_path / "claims_own.py").write_text(_OWN)
    metric = _metric("claims_own:picky", tmp_path)
    good, bad = np.zeros((40, 1)), np.full((40, 1), value)
    with pytest.raises(MeasureError) as caught:
        compare(metric, "validation", np.zeros(40), {"y": good}, {"y": bad}, subject="openvino-bf16")
    assert (caught.value.culprit, caught.value.gate) == ("openvino-bf16", "metric")
    with pytest.raises(DataError):
        compare(metric, "validation", np.zeros(40), {"y": bad}, {"y": good}, subject="openvino-bf16")
