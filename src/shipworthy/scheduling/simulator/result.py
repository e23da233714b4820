"""What a simulation shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Served:
    """Of the requests of one load, or of all of a model's."""

    seconds: float
    offered: int
    refused: Mapping[str, int]
    """By reason."""
    expired: int
    """Taken on, and given up because the caller's time was over."""
    left: int
    """Whose callers gave up."""
    in_time: int
    latencies: NDArray[np.float64]
    """Seconds from arrival to answer, of all that were answered; in the order in which they came."""

    @property
    def accepted(self) -> int:
        return self.offered - sum(self.refused.values())

    @property
    def goodput(self) -> float:
        """Requests a second that were answered in time."""
        return self.in_time / self.seconds

    @property
    def timely(self) -> float:
        """The share of those taken on whose callers stayed that was answered in time."""
        stayed = self.accepted - self.left
        return self.in_time / stayed if stayed else 1.0

    def quantile(self, share: float) -> float:
        """Seconds within which this share of the answers was given; NaN where there were none."""
        return float(np.quantile(self.latencies, share)) if len(self.latencies) else float("nan")


@dataclass(frozen=True)
class Result:
    """A simulation's outcome, after its warm-up."""

    models: Mapping[str, Served]
    loads: Mapping[str, tuple[Served, ...]]
    """The same for each load of each model."""
    batches: Mapping[str, Mapping[int, int]]
    """How many batches of each model ran, by the rows that the engine was given."""
    core_seconds: Mapping[str, float]
    """What each model used."""

    @property
    def goodput(self) -> float:
        return sum(served.goodput for served in self.models.values())
