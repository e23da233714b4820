"""Three models that were trained on scikit-learn's own data, each with a pool of rows that references and streams are
drawn from: both from one pool, because a stream from another finite pool would hold real drift."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from shipworthy.contract import Contract, parse_contract

Array: TypeAlias = npt.NDArray[Any]
CHUNK = 4096

_DIGITS = """
name = "digits"
model = "net:build"
[inputs.image]
dtype = "float32"
shape = ["batch", 1, 8, 8]
accept = { kind = "image", size = [8, 8], mode = "L", scale = 0.0625 }
[outputs.logits]
dtype = "float32"
shape = ["batch", 10]
kind = "logits"
[task]
kind = "classification"
labels = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
"""
_RECORDS = """
name = "{name}"
model = "net:build"
[inputs.features]
dtype = "float32"
shape = ["batch", {columns}]
[outputs.{output}]
dtype = "float32"
shape = ["batch", {wide}]
kind = "{output}"
[encode.row]
kind = "record"
fields = [{fields}]
[task]
kind = "{task}"
"""


@dataclass(frozen=True)
class Subject:
    """A trained model, and rows that it has not seen."""

    name: str
    title: str
    contract: Contract
    net: Callable[[Array], Array]
    """Inputs -> logits [n, classes], or predictions [n, 1]."""
    calibration: Array
    """For what signals have to fit; disjoint from the pool and from the training data."""
    pool: Array
    labels: Array
    """Classes of the pool, or targets of a regression."""

    @property
    def classifies(self) -> bool:
        return self.contract.task.kind == "classification"

    @cached_property
    def deviations(self) -> Array:
        """Of each column (of all pixels together, for images)."""
        flat = self.calibration.reshape(len(self.calibration), -1).astype(np.float64)
        return flat.std(axis=0) if self.calibration.ndim == 2 else np.full(flat.shape[1], flat.std())

    def outputs(self, inputs: Array) -> dict[str, Array]:
        return {next(iter(self.contract.outputs)): self.net(inputs).astype(np.float32)}

    def feeds(self, inputs: Array) -> dict[str, Array]:
        return {next(iter(self.contract.inputs)): inputs.astype(np.float32)}


@cache
def digits() -> Subject:
    from sklearn.datasets import load_digits

    data = load_digits()
    inputs = (data.images[:, None] / 16).astype(np.float32)
    train, calibration, pool = _split(len(inputs), 597, 200)
    net = _classifier(inputs[train], data.target[train], hidden=(64,))
    contract = parse_contract(tomllib.loads(_DIGITS))
    title = "digits, 8 × 8 pixels, ten classes"
    return Subject("digits", title, contract, net, inputs[calibration], inputs[pool], data.target[pool])


@cache
def cancer() -> Subject:
    """The ten columns of means."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    inputs, names = data.data[:, :10].astype(np.float32), list(data.feature_names[:10])
    train, calibration, pool = _split(len(inputs), 169, 100)
    net = _classifier(inputs[train], data.target[train], hidden=(16,))
    contract = _records("breast-cancer", "logits", 2, names, "classification")
    title = "breast cancer, ten columns, two classes"
    return Subject("breast-cancer", title, contract, net, inputs[calibration], inputs[pool], data.target[pool])


@cache
def diabetes() -> Subject:
    """Without the column that has only two values."""
    from sklearn.datasets import load_diabetes
    from sklearn.neural_network import MLPRegressor

    data = load_diabetes(scaled=False)
    kept = [at for at, name in enumerate(data.feature_names) if name != "sex"]
    inputs = data.data[:, kept].astype(np.float32)
    train, calibration, pool = _split(len(inputs), 142, 80)
    mean, scale = inputs[train].mean(axis=0), inputs[train].std(axis=0)
    low, wide = data.target[train].mean(), data.target[train].std()
    model = MLPRegressor(hidden_layer_sizes=(16,), alpha=1.0, max_iter=400, random_state=0)
    _quietly(model, (inputs[train] - mean) / scale, (data.target[train] - low) / wide)
    layers = _layers(model)

    def net(rows: Array) -> Array:
        return _forward((rows - mean) / scale, layers) * wide + low

    contract = _records("diabetes", "values", 1, [data.feature_names[at] for at in kept], "regression")
    title = "diabetes, nine columns, regression"
    return Subject("diabetes", title, contract, net, inputs[calibration], inputs[pool], data.target[pool])


SUBJECTS: Mapping[str, Callable[[], Subject]] = {"digits": digits, "breast-cancer": cancer, "diabetes": diabetes}


def _split(rows: int, train: int, calibration: int) -> tuple[Array, Array, Array]:
    order = np.random.default_rng(0).permutation(rows)
    return order[:train], order[train : train + calibration], order[train + calibration :]


def _classifier(inputs: Array, labels: Array, hidden: tuple[int, ...]) -> Callable[[Array], Array]:
    from sklearn.neural_network import MLPClassifier

    flat = inputs.reshape(len(inputs), -1)
    mean, scale = (flat.mean(axis=0), flat.std(axis=0)) if inputs.ndim == 2 else (0.0, 1.0)
    model = MLPClassifier(hidden, alpha=0.1, max_iter=300, random_state=0)
    _quietly(model, (flat - mean) / scale, labels)
    layers = _layers(model)

    def net(rows: Array) -> Array:
        found = _forward((rows.reshape(len(rows), -1) - mean) / scale, layers)
        # One number of scikit-learn's for two classes is the logarithm of their odds.
        return np.concatenate([-found / 2, found / 2], axis=1) if found.shape[1] == 1 else found

    return net


def _quietly(model: Any, inputs: Array, targets: Array) -> None:
    with warnings.catch_warnings():
        # Whether training has converged is of no interest here.
        warnings.simplefilter("ignore")
        model.fit(inputs, targets)


def _layers(model: Any) -> list[tuple[Array, Array]]:
    return list(zip(model.coefs_, model.intercepts_, strict=True))


def _forward(rows: Array, layers: list[tuple[Array, Array]]) -> Array:
    for number, (weights, bias) in enumerate(layers):
        rows = (np.maximum(rows, 0) if number else rows) @ weights + bias
    return rows


def _records(name: str, output: str, wide: int, fields: list[str], task: str) -> Contract:
    quoted = ", ".join(f'"{field}"' for field in fields)
    text = _RECORDS.format(name=name, columns=len(fields), output=output, wide=wide, fields=quoted, task=task)
    return parse_contract(tomllib.loads(text))
