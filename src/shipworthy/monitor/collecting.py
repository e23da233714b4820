"""The first requests, which become the reference."""

from __future__ import annotations

import numpy as np

from ..contract import Array, Contract
from ..errors import ContractError
from ..signals import Signals, fit, watch
from ..signals.reference import FEWEST, MOST, Reference
from .groups import Rows

FITTED = 256
"""Rows that the constants are fitted on, where the package has none; they are not in the reference."""
FITTED_BYTES = 4_000_000


class Collecting:
    """Takes rows until there are enough."""

    def __init__(self, contract: Contract, own: Reference | None, wanted: int, seed: int = 0) -> None:
        """`own`: the package's reference, whose constants are used. Of more rows than a reference has, the seed chooses
        those that are kept."""
        self._contract = contract
        self._seed = seed
        self._random = np.random.default_rng([seed, 3])
        self.wanted = wanted
        self.collected = 0
        """Rows that were taken for the reference."""
        self.values: Array = np.empty((0, 0))
        """float64 [kept, signals] of them: all, or `MOST` that each row has the same chance to be among."""
        self.constants: dict[str, Array] | None = None if own is None else own.constants
        self._signals = None if own is None else watch(contract, own, "the package's reference")
        self._fitting: list[tuple[dict[str, Array], dict[str, Array]]] = []
        self._held = self._bytes = 0

    @property
    def signals(self) -> Signals | None:
        """None until the constants are fitted."""
        return self._signals

    def take(self, rows: Rows) -> int:
        """How many of these rows were wanted, from the first on."""
        taken = 0 if self._signals is not None else self._fit(rows)
        if self._signals is None:
            return taken
        more = min(self.wanted - self.collected, len(rows) - taken)
        if more > 0:
            self._add(rows.between(taken, taken + more).values(self._signals))
        return taken + max(more, 0)

    def finish(self) -> tuple[Signals, dict[str, Array]]:
        """The signals, and the constants that they are computed with: fitted on what there is, if need be."""
        if self._signals is None or self.constants is None:
            self.constants = _fitted(self._contract, self._fitting)
            self._signals = Signals(self._contract, self.constants)
            self._fitting = []
        return self._signals, self.constants

    def resume(self, constants: dict[str, Array], values: Array, collected: int) -> None:
        """Go on where a state was taken, which has been checked."""
        if self._signals is None:
            self.constants = constants
            self._signals = Signals(self._contract, constants)
        self.values, self.collected = values, collected
        self._random = np.random.default_rng([self._seed, 3, collected])

    def _add(self, values: Array) -> None:
        """Keep the first `MOST` rows, and later the k-th with a chance of `MOST` in k, in place of any (Vitter 1985,
        algorithm R)."""
        fit_in = min(MOST - len(self.values), len(values))
        if fit_in:
            self.values = np.concatenate([*([self.values] if len(self.values) else []), values[:fit_in]])
        later = np.arange(self.collected + fit_in, self.collected + len(values))
        places = self._random.integers(0, later + 1)
        for row in np.flatnonzero(places < MOST).tolist():
            self.values[places[row]] = values[fit_in + row]
        self.collected += len(values)

    def _fit(self, rows: Rows) -> int:
        taken = min(len(rows), FITTED - self._held)
        for group in rows.between(0, taken).groups:
            feeds, outputs = ({n: np.array(a) for n, a in arrays.items()} for arrays in (group.feeds, group.outputs))
            self._fitting.append((feeds, outputs))
            self._bytes += sum(array.nbytes for array in (*feeds.values(), *outputs.values()))
        self._held += taken
        if self._held >= FITTED or (self._bytes >= FITTED_BYTES and self._held >= FEWEST):
            self.finish()
        return taken


def _fitted(contract: Contract, rows: list[tuple[dict[str, Array], dict[str, Array]]]) -> dict[str, Array]:
    try:
        return dict(fit(contract, rows))
    except ContractError:
        # The tokenizer's file is in the package, and what only it tells is left out where that is not at hand.
        return dict(fit(contract.model_copy(update={"encode": {}}), rows))
