"""All signals of a model: what is fitted first, and then computed of every batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import Protocol

import numpy as np

from ..contract import Array, Arrays, Contract
from .answers import answer_parts, is_embedded
from .inputs import input_fits, input_parts, token_inputs
from .signal import Part, Signal
from .spread import Constants, EmbeddedFit
from .tokens import TokenFit


class _Fit(Protocol):
    def see(self, feeds: Arrays, outputs: Arrays) -> None: ...

    def constants(self) -> dict[str, Array]: ...


class Signals:
    """Computes the signals of batches. Safe to use from several threads."""

    def __init__(self, contract: Contract, constants: Constants) -> None:
        """`constants` are those of `fit`; a signal whose constants are not there is left out."""
        self.constants = dict(constants)
        self._parts = [part for part in _parts(contract, constants) if part.signals]
        self._first = next(iter(contract.inputs))
        self._places: Array | None = None
        self.signals: tuple[Signal, ...] = _distinct(signal for part in self._parts for signal in part.signals)

    def of(self, feeds: Arrays, outputs: Arrays) -> Array:
        """float64 [n, signals] of inputs and outputs [n, ...] by name. NaN is a missing value: what is not finite is
        none. Never raises on numbers, whatever they are."""
        with np.errstate(all="ignore"):
            tables = [part.of(feeds, outputs) for part in self._parts]
            table = np.concatenate(tables, axis=1) if tables else np.empty((len(feeds[self._first]), 0))
        table[~np.isfinite(table)] = np.nan
        return table if self._places is None else table[:, self._places]

    def only(self, wanted: Sequence[Signal]) -> Signals:
        """The same with these signals, in their order: an earlier release may have known fewer.

        Raises ValueError where one of them cannot be computed."""
        known = {(signal.name, signal.kind, signal.classes): place for place, signal in enumerate(self.signals)}
        keys = [(signal.name, signal.kind, signal.classes) for signal in wanted]
        if unknown := [name for name, *_ in keys if name not in {key[0] for key in known}]:
            raise ValueError(f"it has the signal {unknown[0]!r}, which is not known here")
        if changed := [key[0] for key in keys if key not in known]:
            raise ValueError(f"its signal {changed[0]!r} is of another kind, or of other classes")
        chosen = copy(self)
        chosen.signals = tuple(wanted)
        chosen._places = np.array([known[key] for key in keys], dtype=np.intp)
        return chosen


def fit(contract: Contract, chunks: Iterable[tuple[Arrays, Arrays]]) -> dict[str, Array]:
    """The constants of the signals, in one pass over calibration data: pairs of inputs and outputs [n, ...] by name.

    Outputs are looked at only where `fits_outputs`; without them what is fitted of outputs is left out. Empty without
    data. Raises ContractError where a tokenizer file that the contract names is unreadable."""
    fits: list[_Fit] = [*input_fits(contract)]
    fits += [TokenFit(text, contract.root) for text in token_inputs(contract)]
    fits += [EmbeddedFit(name) for name in contract.outputs if is_embedded(contract, name)]
    seen = 0
    with np.errstate(all="ignore"):
        for feeds, outputs in chunks:
            if rows := len(next(iter(feeds.values()))):
                seen += rows
                for each in fits:
                    each.see(feeds, outputs)
        return {name: array for each in fits for name, array in each.constants().items()} if seen else {}


def fits_outputs(contract: Contract) -> bool:
    """Whether `fit` looks at outputs, so that the model has to answer the calibration data."""
    return any(is_embedded(contract, name) for name in contract.outputs)


def _parts(contract: Contract, constants: Constants) -> Iterator[Part]:
    yield from answer_parts(contract, constants)
    yield from input_parts(contract, constants)


def _distinct(signals: Iterable[Signal]) -> tuple[Signal, ...]:
    """A name that an earlier signal has (an input may be called `margin`) is told apart."""
    found: dict[str, Signal] = {}
    for signal in signals:
        name = signal.name
        while name in found:
            name = f"{signal.about}.{name}"
        found[name] = replace(signal, name=name)
    return tuple(found.values())
