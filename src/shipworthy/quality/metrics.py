"""Metrics of outputs against targets; all are higher-is-better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from ..contract import Array, Arrays, Contract
from ..contract.spec import Kind, TaskKind
from ..errors import ContractError, DataError
from ..usercode import resolve
from .terms import ABSOLUTE, COSINES, F1, LABEL_F1, R2, RECALLS, RIGHT, SQUARED, Terms, cosines

Score: TypeAlias = Callable[[Array, Array], float]
"""Of (answers, targets), rows in the same order."""
Answer: TypeAlias = Literal["class", "labels", "value", "vector"]


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A metric that is known by name: what it reads of the outputs, and the score of those answers."""

    answer: Answer
    score: Score
    terms: Terms
    """What the score is a function of the means of."""
    reach: float | None = None
    """The most that one sample's score can drop, where that is known."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric made for one contract. `answers` turns outputs into what `score` compares with the targets."""

    name: str
    answers: Callable[[Arrays], Arrays]
    score: Callable[[Arrays, Array], float]
    built_in: BuiltIn | None = None
    """None for a metric of the user's own."""
    against_eager: bool = False
    """True where eager's own answers are the targets."""
    class_names: tuple[str, ...] | None = None
    """Set where recall per class has a meaning."""


ANSWERS = "answers"
"""The one key of what a built-in metric reads of the outputs."""


def accuracy(answers: Array, targets: Array) -> float:
    return float((answers == targets).mean())


def balanced_accuracy(answers: Array, targets: Array) -> float:
    """The mean of the recalls of the classes that occur."""
    right, total = _per_class(answers, targets)
    return float((right[total > 0] / total[total > 0]).mean())


def f1_macro(answers: Array, targets: Array) -> float:
    """The mean of the F1 of the classes that occur in answers or targets; 2·tp / (2·tp + fp + fn)."""
    size = int(max(answers.max(initial=0), targets.max(initial=0))) + 1
    right = np.bincount(targets[answers == targets], minlength=size)
    seen = np.bincount(answers.ravel(), minlength=size) + np.bincount(targets.ravel(), minlength=size)
    return float((2 * right[seen > 0] / seen[seen > 0]).mean())


def multilabel_f1(answers: Array, targets: Array) -> float:
    """The mean of the F1 of the labels ([n, labels], bool); a label that neither answers nor targets have counts 1."""
    right = (answers & targets).sum(0)
    seen = answers.sum(0) + targets.sum(0)
    return float(np.where(seen > 0, 2 * right / np.maximum(seen, 1), 1.0).mean())


def neg_mae(answers: Array, targets: Array) -> float:
    return -float(np.abs(answers - targets).mean())


def neg_rmse(answers: Array, targets: Array) -> float:
    return -float(np.sqrt(np.square(answers - targets).mean()))


def r2(answers: Array, targets: Array) -> float:
    """1 − Σ(y − ŷ)² / Σ(y − ȳ)²; NaN where the targets do not vary."""
    spread = float(np.square(targets - targets.mean(0)).sum())
    return 1 - float(np.square(answers - targets).sum()) / spread if spread else float("nan")


def cosine(answers: Array, targets: Array) -> float:
    """Mean cosine of the angle between rows; a pair of zero vectors counts 1."""
    return float(cosines(answers, targets).mean())


# The contract accepts exactly these names.
BUILT_IN: dict[str, BuiltIn] = {
    "accuracy": BuiltIn("class", accuracy, RIGHT),
    "balanced_accuracy": BuiltIn("class", balanced_accuracy, RECALLS),
    "f1_macro": BuiltIn("class", f1_macro, F1),
    "multilabel_f1": BuiltIn("labels", multilabel_f1, LABEL_F1),
    "neg_mae": BuiltIn("value", neg_mae, ABSOLUTE),
    "neg_rmse": BuiltIn("value", neg_rmse, SQUARED),
    "r2": BuiltIn("value", r2, R2),
    "cosine": BuiltIn("vector", cosine, COSINES, reach=2.0),
}

DEFAULT: dict[TaskKind, str | None] = {
    "classification": "accuracy",
    "multilabel": "multilabel_f1",
    "regression": "r2",
    "embedding": "cosine",
    "tensors": None,
}


def metric_for(contract: Contract) -> Metric | None:
    """The contract's metric, or its task's; None for a task that has none.

    `module:callable(outputs, targets) -> float` gets the outputs by name, rows [n, ...] in the targets' order.

    Raises ModelError where the callable cannot be imported, ContractError where it is none."""
    name = contract.data.metric or DEFAULT[contract.task.kind]
    if name is None:
        return None
    if ":" in name:
        return Metric(name, dict, _imported(name, contract.root))
    built_in = BUILT_IN[name]
    scored = contract.scored
    assert scored is not None, "outputs are known before a metric is made"
    return Metric(
        name,
        answers=partial(_answers, scored, contract.outputs[scored].kind, built_in.answer),
        score=partial(_score, built_in),
        built_in=built_in,
        against_eager=built_in.answer == "vector",
        class_names=(contract.task.labels or ()) if built_in.answer in ("class", "labels") else None,
    )


def _answers(scored: str, kind: Kind, answer: Answer, outputs: Arrays) -> Arrays:
    output = outputs[scored]
    if output.dtype == object:
        reason = "its rows differ in shape, so the built-in metrics do not apply"
        raise DataError(f"output {scored!r}", reason, "write data.metric as module:callable")
    threshold = 0.5 if kind == "probabilities" else 0.0
    if answer == "class":
        return {ANSWERS: _classes(output, threshold)}
    if answer == "labels":
        return {ANSWERS: output > threshold}
    return {ANSWERS: output.astype(np.float64)}


def _classes(output: Array, threshold: float) -> Array:
    """Predicted class [n] (or [n, ...] for a class per position): the highest score along the last axis, or for a
    single score its side of the threshold. Integers are classes already."""
    single = output[..., 0] if output.ndim > 1 and output.shape[-1] == 1 else output
    if output.dtype.kind in "iub":
        return single.astype(np.int64)
    if single.ndim == 1:
        return np.asarray(single > threshold, dtype=np.int64)
    return np.asarray(output.argmax(-1) if single is output else single > threshold, dtype=np.int64)


def _score(built_in: BuiltIn, outputs: Arrays, targets: Array) -> float:
    answers = outputs[ANSWERS]
    return built_in.score(answers, fit_targets(built_in.answer, answers, targets))


def fit_targets(answer: Answer, answers: Array, targets: Array) -> Array:
    """Targets in the form of the answers, so that [n] and [n, 1] meet and do not broadcast.

    Raises DataError where their number of elements differs."""
    if targets.size != answers.size:
        raise DataError("targets", f"shape {list(targets.shape)} does not fit answers of shape {list(answers.shape)}")
    kind: dict[Answer, type] = {"class": np.int64, "labels": np.bool_, "value": np.float64, "vector": np.float64}
    return targets.reshape(answers.shape).astype(kind[answer])


def recalls(answers: Array, targets: Array) -> tuple[Array, Array]:
    """Recall per class, and how many samples of it there are; answers are classes, or bools [n, labels]."""
    if answers.dtype == bool:
        truth = targets.reshape(answers.shape).astype(bool)
        right, total = (answers & truth).sum(0), truth.sum(0)
    else:
        right, total = _per_class(answers, targets.reshape(answers.shape).astype(np.int64))
    return right / np.maximum(total, 1), total


def _per_class(answers: Array, targets: Array) -> tuple[Array, Array]:
    """For each class, how many of its samples are right, and how many there are."""
    size = int(targets.max(initial=0)) + 1
    return np.bincount(targets[answers == targets], minlength=size), np.bincount(targets.ravel(), minlength=size)


def _imported(reference: str, root: Path) -> Callable[[Arrays, Array], float]:
    function = resolve(reference, root)
    if not callable(function):
        raise ContractError("data.metric", f"{reference!r} is a {type(function).__name__}", "write module:callable")

    def score(outputs: Arrays, targets: Array) -> float:
        try:
            return float(function(outputs, targets))
        except Exception as error:  # a user's function may raise anything at all
            raise DataError(f"data.metric = {reference!r}", f"raised {type(error).__name__}: {error}") from error

    return score
