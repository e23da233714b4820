"""How far a row is from what the calibration data is like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from ..contract import Array, Arrays, OutputSpec
from .elements import row_means, thinned
from .moments import Directions, Moments
from .signal import Signal

Constants: TypeAlias = Mapping[str, Array]
"""What was fitted, by name: `inputs/image/mean`."""


def distance(table: Array, mean: Array, deviation: Array) -> Array:
    """mean((x − μ)² / (σ² + ε²)) of each row of [n, k]; `deviation` is sqrt(σ² + ε²)."""
    return row_means(np.square((table - mean) / deviation))


class Embedded:
    """Of an embedding: its norm, the cosine to the mean one, the distance, and a few fixed projections."""

    def __init__(self, name: str, spec: OutputSpec, constants: Constants, *, own: bool) -> None:
        self._name = name
        key = f"outputs/{name}"
        self._mean = constants.get(f"{key}/mean")
        self._deviation = constants.get(f"{key}/deviation")
        self._directions = constants.get(f"{key}/directions")
        self.signals = tuple(self._signals(own))

    def _signals(self, own: bool) -> list[Signal]:
        name = self._name
        found = [Signal(f"{name}.norm", "number", "answers", f"norm of {name}", scored=own)]
        if self._mean is None or self._deviation is None:
            return found
        found.append(Signal(f"{name}.cosine", "number", "answers", f"cosine of {name} to the mean one", scored=own))
        found.append(Signal(f"{name}.distance", "number", "answers", f"distance of {name} from the usual"))
        for place in range(0 if self._directions is None else self._directions.shape[1]):
            title = f"{name} along direction {place + 1}"
            found.append(Signal(f"{name}.direction{place + 1}", "number", "answers", title, scored=own))
        return found

    def of(self, feeds: Arrays, outputs: Arrays) -> Array:
        numbers = thinned(outputs[self._name])
        norm = np.sqrt(np.add.reduce(np.square(numbers), axis=1))
        columns = [norm]
        if self._mean is not None and self._deviation is not None:
            length = float(np.sqrt(np.square(self._mean).sum()))
            columns.append(numbers @ self._mean / (norm * length))
            columns.append(distance(numbers, self._mean, self._deviation))
            if self._directions is not None:
                columns += list(((numbers - self._mean) @ self._directions).T)
        return np.stack(columns, axis=1)


class EmbeddedFit:
    """The constants of `Embedded`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._moments, self._directions = Moments(), Directions()

    def see(self, feeds: Arrays, outputs: Arrays) -> None:
        if self._name in outputs:
            numbers = thinned(outputs[self._name])
            self._moments.see(numbers)
            self._directions.see(numbers)

    def constants(self) -> dict[str, Array]:
        if not len(self._moments.mean):
            return {}
        key = f"outputs/{self._name}"
        return {
            f"{key}/mean": self._moments.mean,
            f"{key}/deviation": self._moments.deviation(alike=True),
            f"{key}/directions": self._directions.found(),
        }
