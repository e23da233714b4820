"""The first requests, which become the reference."""

from __future__ import annotations

import numpy as np

from ..contract import Array, Arrays, Contract
from ..signals import Signals, fit, watch
from ..signals.reference import FEWEST, Reference

FITTED = 256
"""Rows that the constants are fitted on, where the package has none; they are not in the reference."""
FITTED_BYTES = 4_000_000


class Collecting:
    """Takes rows until there are enough."""

    def __init__(self, contract: Contract, own: Reference | None, wanted: int) -> None:
        """`own`: the package's reference, whose constants are used."""
        self._contract = contract
        self.wanted = wanted
        self.constants: dict[str, Array] | None = None if own is None else own.constants
        self._signals = None if own is None else watch(contract, own, "the package's reference")
        self._fitting: list[tuple[dict[str, Array], dict[str, Array]]] = []
        self.values: list[Array] = []

    @property
    def signals(self) -> Signals | None:
        """None until the constants are fitted."""
        return self._signals

    @property
    def collected(self) -> int:
        return sum(map(len, self.values))

    def take(self, feeds: Arrays, outputs: Arrays, rows: int) -> int:
        """How many of these rows [rows, ...] were wanted."""
        taken = 0 if self._signals is not None else self._fit(feeds, outputs, rows)
        if self._signals is None:
            return taken
        more = min(self.wanted - self.collected, rows - taken)
        if more > 0:
            self.values.append(self._signals.of(part(feeds, taken, taken + more), part(outputs, taken, taken + more)))
        return taken + max(more, 0)

    def finish(self) -> tuple[Signals, dict[str, Array]]:
        """The signals, and the constants that they are computed with: fitted on what there is, if need be."""
        if self._signals is None or self.constants is None:
            self.constants = dict(fit(self._contract, self._fitting))
            self._signals = Signals(self._contract, self.constants)
            self._fitting = []
        return self._signals, self.constants

    def resume(self, constants: dict[str, Array], values: Array) -> None:
        """Go on where a state was taken, which has been checked."""
        if self._signals is None:
            self.constants = constants
            self._signals = Signals(self._contract, constants)
        self.values = [values] if len(values) else []

    def _fit(self, feeds: Arrays, outputs: Arrays, rows: int) -> int:
        held = sum(len(next(iter(seen.values()))) for seen, _ in self._fitting)
        taken = min(rows, FITTED - held)
        copies = [{n: np.array(a) for n, a in part(arrays, 0, taken).items()} for arrays in (feeds, outputs)]
        self._fitting.append((copies[0], copies[1]))
        size = sum(array.nbytes for pair in self._fitting for arrays in pair for array in arrays.values())
        held += taken
        if held >= FITTED or (size >= FITTED_BYTES and held >= FEWEST):
            self.finish()
        return taken


def part(arrays: Arrays, start: int, stop: int) -> dict[str, Array]:
    """These rows of each array."""
    return {name: array[start:stop] for name, array in arrays.items()}
