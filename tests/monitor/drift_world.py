"""Three small models on real data, and the signals of rows that none of them was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, Ridge

from shipworthy.contract import Contract
from shipworthy.signals import Signal, Signals, fit

REFERENCE = 1000


def keeps(false: int, runs: int, stated: float) -> None:
    """So many false alarms in so many runs are no proof against the stated rate: one-sided, at three deviations."""
    assert binomtest(false, runs, stated, "greater").pvalue > 0.00135, f"{false} of {runs}, stated {stated}"


@dataclass(frozen=True)
class World:
    """A model and a pool of rows, which references and streams are drawn from alike."""

    inputs: np.ndarray
    """Of the pool, float32 [rows, ...]."""
    watched: Signals
    answers: Callable[[np.ndarray], dict[str, np.ndarray]]
    feeds: Callable[[np.ndarray], dict[str, np.ndarray]]
    truth: np.ndarray

    @property
    def signals(self) -> tuple[Signal, ...]:
        return self.watched.signals

    def of(self, inputs: np.ndarray) -> np.ndarray:
        """The signals of rows [n, ...], [n, signals]."""
        return self.watched.of(self.feeds(inputs), self.answers(inputs))

    @property
    def pool(self) -> np.ndarray:
        return self.of(self.inputs)


def _world(contract: Contract, inputs: np.ndarray, truth: np.ndarray, model: Any, output: Any) -> World:
    """Every second row trains the model and fits the constants, the others are the pool."""
    inputs = inputs.astype(np.float32)
    order = np.random.default_rng(0).permutation(len(inputs))
    train, rest = order[::2], order[1::2]
    shape = tuple(contract.inputs["x"].shape[1:])

    def flat(rows: np.ndarray) -> np.ndarray:
        return rows.reshape(len(rows), -1)

    middle, spread = flat(inputs[train]).mean(0), flat(inputs[train]).std(0) + 1e-6
    model.fit((flat(inputs[train]) - middle) / spread, truth[train])

    def feeds(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": rows.reshape(len(rows), *shape).astype(np.float32)}

    def answers(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"y": np.asarray(getattr(model, output)((flat(rows) - middle) / spread), np.float32)}

    constants = fit(contract, [(feeds(inputs[train]), answers(inputs[train]))])
    return World(inputs[rest], Signals(contract, constants), answers, feeds, truth[rest])


@cache
def classification() -> World:
    digits = load_digits()
    contract = Contract(
        name="digits",
        model="train:build_model",
        inputs={"x": {"dtype": "float32", "shape": ["batch", 1, 8, 8]}},  # type: ignore[dict-item]
        outputs={"y": {"dtype": "float32", "shape": ["batch", 10], "kind": "logits"}},  # type: ignore[dict-item]
        task={"kind": "classification"},  # type: ignore[arg-type]
    )
    model = LogisticRegression(C=0.05, max_iter=500)
    return _world(contract, digits.images / 16, digits.target, model, "decision_function")


@cache
def regression() -> World:
    data = load_diabetes()
    contract = Contract(
        name="diabetes",
        model="train:build_model",
        inputs={"x": {"dtype": "float32", "shape": ["batch", 10]}},  # type: ignore[dict-item]
        outputs={"y": {"dtype": "float32", "shape": ["batch"], "kind": "values"}},  # type: ignore[dict-item]
        task={"kind": "regression"},  # type: ignore[arg-type]
    )
    return _world(contract, data.data, data.target, Ridge(), "predict")


@cache
def records() -> World:
    data = load_breast_cancer()
    fields = [name.replace(" ", "_") for name in data.feature_names[:8]]
    contract = Contract(
        name="cells",
        model="train:build_model",
        inputs={"x": {"dtype": "float32", "shape": ["batch", 8]}},  # type: ignore[dict-item]
        encode={"cell": {"kind": "record", "fields": fields}},  # type: ignore[dict-item]
        outputs={"y": {"dtype": "float32", "shape": ["batch"], "kind": "logits"}},  # type: ignore[dict-item]
        task={"kind": "classification", "labels": ["malignant", "benign"]},  # type: ignore[arg-type]
    )
    return _world(contract, data.data[:, :8], data.target, LogisticRegression(), "decision_function")


WORLDS = {"classification": classification, "regression": regression, "records": records}
