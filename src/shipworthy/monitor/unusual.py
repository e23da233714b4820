"""How far a row lies from the reference, signal by signal, to choose samples by. No evidence of anything."""

from __future__ import annotations

import numpy as np

from ..contract import Array
from ..signals.reference import Reference

BOTH = 2
_MOST = 1000.0
"""Deviations; farther out is as far."""


class Unusual:
    """Deviations from the middle of a reference."""

    def __init__(self, reference: Reference) -> None:
        signals, scores = reference.signals, reference.scores
        self._classes = [place for place, signal in enumerate(signals) if signal.kind == "class"]
        self._middle, self._spread = np.zeros(len(signals)), np.ones(len(signals))
        missing = np.isnan(scores).sum(0)
        self._missing = -np.log((missing + 1) / (len(scores) + 1))
        self._rarity: dict[int, Array] = {}
        for place, signal in enumerate(signals):
            known = scores[~np.isnan(scores[:, place]), place]
            if not len(known):
                continue
            if signal.kind == "class":
                counts = np.bincount(np.clip(known, 0, None).astype(np.int64)) + 1.0
                self._rarity[place] = -np.log(counts / (len(known) + 1))
            else:
                # Numbers near the largest float have no deviation, and lie in the middle.
                with np.errstate(over="ignore", invalid="ignore"):
                    low, self._middle[place], high = np.quantile(known, (0.1587, 0.5, 0.8413))
                    spread = max(high / 2 - low / 2, known.std() / 4, abs(self._middle[place]) * 1e-6, 1e-12)
                self._spread[place] = np.nan_to_num(spread, nan=np.inf, posinf=np.inf)

    def deviations(self, values: Array) -> Array:
        """[n, signals] of values [n, signals], with their sign; the rarity of a class, and of a missing value, instead
        of a distance."""
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.clip(np.nan_to_num((values - self._middle) / self._spread), -_MOST, _MOST)
        for place, rarity in self._rarity.items():
            classes = np.nan_to_num(values[:, place], nan=-1.0)
            inside = (classes >= 0) & (classes < len(rarity))
            found[:, place] = np.where(inside, rarity[np.where(inside, classes, 0).astype(np.int64)], rarity.max())
        return np.where(np.isnan(values), self._missing, found)

    def rank(self, values: Array, towards: Array) -> Array:
        """[n]: how far out each row lies in the directions `towards` [signals], of which `BOTH` is up and down, or,
        where that is 0 for all, in any."""
        found = self.deviations(values)
        if towards.any():
            either = np.isnan(values) | (towards == BOTH)
            found = np.where(either, np.abs(found), found * towards)[:, towards != 0]
        else:
            found = np.abs(found)
        rank: Array = found.max(1, initial=0.0)
        return rank
