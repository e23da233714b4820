"""Signals of what a model is asked: which input is watched how, and the numbers of records and tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from ..contract import Array, Arrays, Contract, Dim, InputSpec, RecordEncode, TextEncode
from .elements import dynamic_axes, fixed_sizes, pooled, row_means, thinned
from .moments import Moments, Range
from .signal import Kind, Part, Signal
from .spread import Constants, distance
from .tokens import TokenInput, Tokens

MOST_COLUMNS = 64
"""Of an input whose numbers are watched one by one, and bet on."""
MOST_FIELDS = 256
"""Of a record; beyond `MOST_COLUMNS` the fields are only in the windowed test."""


def input_parts(contract: Contract, constants: Constants) -> Iterator[Part]:
    """The parts for a contract's inputs."""
    for text in token_inputs(contract):
        yield Tokens(text, constants)
    for name, spec in _plain_inputs(contract):
        columns = columns_of(contract, name)
        word, _ = _record_of(contract, name)
        looks = Columns(spec, columns) if columns else Tensor(name, spec)
        yield Plain(name, (looks, Apart(name, spec, constants, word), Faults(name, spec, constants, word)))


def token_inputs(contract: Contract) -> Iterator[TokenInput]:
    """The inputs that hold numbers of tokens: those that a text feeds, and sequences of integers."""
    fed = {name for encode in contract.encode.values() if isinstance(encode, TextEncode) for name in encode.feeds}
    for key, encode in contract.encode.items():
        if isinstance(encode, TextEncode):
            mask = encode.feeds[1] if len(encode.feeds) > 1 else None
            yield TokenInput(key, encode.feeds[0], mask, contract.inputs[encode.feeds[0]].pad, encode.tokenizer)
    for name, spec in contract.inputs.items():
        if name not in fed and _is_sequence(spec):
            yield TokenInput(name, name, None, spec.pad, None)


def _is_sequence(spec: InputSpec) -> bool:
    if spec.dtype not in ("int64", "int32") or len(spec.shape) != 2 or spec.accept is not None:
        return False
    size = spec.shape[1]
    return isinstance(size, Dim) or size > MOST_COLUMNS


def _plain_inputs(contract: Contract) -> Iterator[tuple[str, InputSpec]]:
    texts = [encode for encode in contract.encode.values() if isinstance(encode, TextEncode)]
    taken = {name for encode in texts for name in encode.feeds}
    for name, spec in contract.inputs.items():
        if name not in taken and not _is_sequence(spec) and 0 not in spec.shape:
            yield name, spec


def _record_of(contract: Contract, name: str) -> tuple[str, tuple[str, ...]]:
    """The word for an input and the names of its columns, where a record feeds it."""
    for key, encode in contract.encode.items():
        if isinstance(encode, RecordEncode) and name in (encode.feeds or tuple(contract.inputs)[:1]):
            return key, encode.fields
    return name, ()


def columns_of(contract: Contract, name: str) -> tuple[tuple[str, str], ...]:
    """Name and title of each number of an input, where they are watched one by one; else none."""
    spec = contract.inputs[name]
    word, fields = _record_of(contract, name)
    if dynamic_axes(spec) or spec.accept is not None:
        return ()
    count = math.prod(fixed_sizes(spec))
    if len(fields) == count and count <= MOST_FIELDS:
        return tuple((f"{word}.{field}", field) for field in fields)
    if len(spec.shape) > 2 or count > MOST_COLUMNS:
        return ()
    if count == 1:
        return ((name, name),)
    return tuple((f"{name}.{place}", f"{name}[{place}]") for place in range(count))


class Look(Protocol):
    """Some signals of one input."""

    @property
    def signals(self) -> tuple[Signal, ...]: ...

    def of(self, array: Array, numbers: Array) -> Array:
        """float64 [n, signals] of an input [n, ...]; `numbers` float64 [n, k] are its `thinned` elements."""
        ...


class Plain:
    """All signals of one input of numbers."""

    def __init__(self, name: str, looks: tuple[Look, ...]) -> None:
        self._name, self._looks = name, looks
        self.signals = tuple(signal for look in looks for signal in look.signals)

    def of(self, feeds: Arrays, outputs: Arrays) -> Array:
        array = feeds[self._name]
        numbers = thinned(array)
        return np.concatenate([look.of(array, numbers) for look in self._looks if look.signals], axis=1)


class Columns:
    """Each number of a record."""

    def __init__(self, spec: InputSpec, columns: tuple[tuple[str, str], ...]) -> None:
        scored = len(columns) <= MOST_COLUMNS
        kind: Kind = "share" if spec.dtype == "bool" else "number"
        self.signals = tuple(Signal(key, kind, "inputs", title, scored=scored) for key, title in columns)

    def of(self, array: Array, numbers: Array) -> Array:
        return numbers


class Tensor:
    """Mean and deviation of a tensor, which of an image are its brightness and its contrast; its size."""

    def __init__(self, name: str, spec: InputSpec) -> None:
        self._dynamic = dynamic_axes(spec)
        image = _is_image(spec)
        mean, sd = ("brightness", "contrast") if image else ("mean", "standard deviation")
        found = [
            Signal(f"{name}.mean", "number", "inputs", f"{mean} of {name}"),
            Signal(f"{name}.sd", "number", "inputs", f"{sd} of {name}"),
        ]
        if self._dynamic:
            unit = "pixels" if image else "elements"
            found.append(Signal(f"{name}.size", "number", "inputs", f"size of {name}", unit))
        self.signals = tuple(found)

    def of(self, array: Array, numbers: Array) -> Array:
        mean = row_means(numbers)
        columns = [mean, np.sqrt(row_means(np.square(numbers - mean[:, None])))]
        if self._dynamic:
            columns.append(np.full(len(array), math.prod(array.shape[axis] for axis in self._dynamic), np.float64))
        return np.stack(columns, axis=1)


def _is_image(spec: InputSpec) -> bool:
    """Whether a person would call it one: it accepts images, or has one, three or four channels and two more axes."""
    return spec.accept is not None or (len(spec.shape) == 4 and bool({1, 3, 4} & {spec.shape[1], spec.shape[3]}))


def is_spread(contract: Contract, name: str) -> bool:
    """Whether the distance of an input is watched: where a row has at least two numbers at every size."""
    spec = contract.inputs[name]
    return math.prod(fixed_sizes(spec)) > 1 and spec.dtype != "bool"


class Apart:
    """How far an input is from those of the calibration data; nothing where it was not fitted."""

    def __init__(self, name: str, spec: InputSpec, constants: Constants, word: str) -> None:
        self._spec = spec
        self._mean = constants.get(f"inputs/{name}/mean")
        self._deviation = constants.get(f"inputs/{name}/deviation")
        found = Signal(f"{word}.distance", "number", "inputs", f"distance of {word} from the usual")
        self.signals = () if self._mean is None or self._deviation is None else (found,)

    def of(self, array: Array, numbers: Array) -> Array:
        assert self._mean is not None and self._deviation is not None, "else it has no signals"
        table = pooled(array, self._spec) if dynamic_axes(self._spec) else numbers
        return distance(table, self._mean, self._deviation)[:, None]


class Faults:
    """Whether a row has missing values (NaN), infinite ones, or any outside of the range of the calibration data."""

    def __init__(self, name: str, spec: InputSpec, constants: Constants, word: str) -> None:
        self._float = spec.numpy.kind == "f"
        self._range = constants.get(f"inputs/{name}/range")
        titles = {"missing": "missing values (NaN)", "infinite": "infinite values"} if self._float else {}
        if self._range is not None:
            titles["outside"] = "values outside of the usual range"
        self.signals = tuple(
            Signal(f"{word}.{key}", "share", "inputs", f"share of requests with {title} in {word}", scored=False)
            for key, title in titles.items()
        )

    def of(self, array: Array, numbers: Array) -> Array:
        flags = []
        if self._float:
            flags += [np.isnan(numbers).any(axis=1), np.isinf(numbers).any(axis=1)]
        if self._range is not None:
            low, high = self._range
            flags.append(((numbers < low) | (numbers > high)).any(axis=1))
        return np.stack(flags, axis=1).astype(np.float64)


class InputFit:
    """The constants of `Apart` and `Faults`, of one input."""

    def __init__(self, contract: Contract, name: str) -> None:
        self._name, self._spec = name, contract.inputs[name]
        self._one_by_one = bool(columns_of(contract, name))
        self._moments = Moments() if is_spread(contract, name) else None
        self._range = None if self._spec.dtype == "bool" else Range()

    def see(self, feeds: Arrays, outputs: Arrays) -> None:
        array = feeds[self._name]
        if self._moments is not None:
            self._moments.see(pooled(array, self._spec))
        if self._range is not None:
            numbers = thinned(array)
            self._range.see(numbers if self._one_by_one else numbers.reshape(-1, 1))

    def constants(self) -> dict[str, Array]:
        key, found = f"inputs/{self._name}", {}
        if self._moments is not None:
            found[f"{key}/mean"] = self._moments.mean
            found[f"{key}/deviation"] = self._moments.deviation(alike=not self._one_by_one)
        if self._range is not None:
            found[f"{key}/range"] = self._range.bounds()
        return found


def input_fits(contract: Contract) -> Iterator[InputFit]:
    """One for each input whose numbers are looked at."""
    for name, _ in _plain_inputs(contract):
        yield InputFit(contract, name)
