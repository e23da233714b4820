"""What every detector comes down to: a number at each look, and an alarm where it reaches a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .streams import CAP
from .subjects import Array


@dataclass(frozen=True)
class Paths:
    statistic: Array
    """[streams, looks]; larger is more suspicious."""
    at: Array
    """Samples of the stream at each look, [looks]."""

    def delays(self, threshold: float) -> Array:
        """Samples until the alarm, [streams]; CAP + 1 where there is none."""
        alarm = self.statistic >= threshold
        return np.where(alarm.any(axis=1), self.at[alarm.argmax(axis=1)], CAP + 1)

    @property
    def highest(self) -> Array:
        """[streams]"""
        return np.asarray(self.statistic.max(axis=1))


def each_sample(statistic: Array) -> Paths:
    return Paths(statistic, np.arange(1, statistic.shape[1] + 1))


def each_window(statistic: Array, window: int) -> Paths:
    return Paths(statistic, window * np.arange(1, statistic.shape[1] + 1))


def tuned(highest: Array, rate: float) -> float:
    """The lowest threshold with which at most this share of undrifted streams alarms."""
    ordered = np.sort(highest)[::-1]
    return float(np.nextafter(ordered[int(rate * len(ordered))], np.inf))
