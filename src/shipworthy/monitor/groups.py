"""Rows that came in one order, and lie in arrays by their shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..contract import Array, Arrays, TensorSpec
from ..errors import MonitorError
from ..signals import Signals

Times: TypeAlias = float | Sequence[float] | Array | None
"""One for all rows, or one for each."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one shape."""

    feeds: Arrays
    """[k, ...] by input."""
    outputs: Arrays
    """[k, ...] by output, of those that have a row for each sample."""
    places: Array
    """int64 [k], rising: which of all rows they are."""

    def __len__(self) -> int:
        return len(self.places)


class Rows:
    """All rows of one update, in their order."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.count = sum(map(len, groups))

    def __len__(self) -> int:
        return self.count

    def values(self, signals: Signals) -> Array:
        """float64 [rows, signals]."""
        table = np.empty((self.count, len(signals.signals)))
        for group in self.groups:
            table[group.places] = signals.of(group.feeds, group.outputs)
        return table

    def row(self, place: int) -> tuple[dict[str, Array], dict[str, Array]]:
        """Copies of what was asked and answered in one row."""
        for group in self.groups:
            at = int(np.searchsorted(group.places, place))
            if at < len(group) and group.places[at] == place:
                return (
                    {name: np.array(array[at]) for name, array in group.feeds.items()},
                    {name: np.array(array[at]) for name, array in group.outputs.items()},
                )
        raise AssertionError(f"there is no row {place}")

    def between(self, start: int, stop: int) -> Rows:
        """These rows alone."""
        return Rows([part for part in _cut(self.groups, start, stop) if len(part)])


def _cut(groups: Sequence[Group], start: int, stop: int) -> Iterator[Group]:
    for group in groups:
        first, last = np.searchsorted(group.places, (start, stop)).tolist()
        yield Group(
            {name: array[first:last] for name, array in group.feeds.items()},
            {name: array[first:last] for name, array in group.outputs.items()},
            group.places[first:last] - start,
        )


def group_of(
    feeds: Arrays | Array, outputs: Arrays | Array, inputs: Mapping[str, TensorSpec], answers: Mapping[str, TensorSpec]
) -> Group:
    """Rows as a caller gives them: arrays by name, or the bare array where there is one. Raises MonitorError where
    names, shapes or lengths do not fit."""
    asked, answered = _named(feeds, inputs, "inputs"), _named(outputs, answers, "outputs")
    for specs, arrays in ((inputs, asked), (answers, answered)):
        for name, array in arrays.items():
            _check(name, array, specs[name])
    counts = [(name, len(array)) for arrays in (asked, answered) for name, array in arrays.items()]
    if len({count for _, count in counts}) > 1:
        said = ", ".join(f"{name} {count}" for name, count in counts)
        raise MonitorError("the rows", f"differ in number: {said}", "give inputs and outputs of the same rows")
    return Group(asked, answered, np.arange(counts[0][1] if counts else 0))


def _named(given: Arrays | Array, specs: Mapping[str, TensorSpec], what: str) -> dict[str, Array]:
    """Those that have a row for each sample."""
    wanted = [name for name, spec in specs.items() if spec.batched]
    if isinstance(given, Mapping):
        arrays = {name: np.asarray(given[name]) for name in wanted if name in given}
    elif len(wanted) == 1:
        arrays = {wanted[0]: np.asarray(given)}
    else:
        raise MonitorError(what, f"are one array, and there are {len(wanted)}", f"name them: {', '.join(wanted)}")
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise MonitorError(what, f"have no {missing[0]!r}", f"give arrays [n, ...] for {', '.join(wanted)}")
    return arrays


def _check(name: str, array: Array, spec: TensorSpec) -> None:
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise MonitorError(name, f"is {array.dtype} {list(array.shape)}", f"expected {spec.show()}")
    # Numbers of another precision are compared as well.
    misfit = spec.misfit(array[0].astype(spec.numpy), instance=True) if len(array) else None
    if misfit is not None:
        raise MonitorError(name, misfit, "give what the model takes, and what it gave")


def per_row(times: float | Sequence[float] | Array, rows: int, what: str) -> Array:
    """float64 [rows]. Raises MonitorError for another number of times."""
    given = np.asarray(times, np.float64)
    if given.shape not in ((), (rows,)):
        raise MonitorError(what, f"has the shape {given.shape}", f"give one number, or {rows}")
    return np.broadcast_to(given, (rows,))
