"""The reference: what the signals of a variant are on held-out data, and the level that its metric was accepted at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..contract import Array
from .signal import Signal

FEWEST = 32
"""With fewer samples a bin of the detector would be empty."""
ENOUGH = 300
"""With fewer, alarms are slow."""
MOST = 4000
"""So many samples are kept; more would not shorten the delay of an alarm."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a variant was accepted with."""

    metric: str
    value: float
    """On the holdout."""
    level: float
    """The least that the contract accepts: eager's value on the holdout, less max_metric_drop."""
    samples: int


@dataclass(frozen=True, slots=True)
class Reference:
    """Made with the variant that it is for: another precision is a shift by itself."""

    signals: tuple[Signal, ...]
    scores: Array
    """float64 [m, signals], each column sorted by itself, so that no row of the data can be read from it. NaN (missing)
    comes last."""
    constants: dict[str, Array] = field(default_factory=dict)
    """What was fitted on calibration data, disjoint from these: means, deviations, ranges, frequencies of tokens."""
    accepted: Accepted | None = None
    """None where the contract has no metric or the data has no labels."""
    sure: float | None = None
    """Classification: the confidence above which as many held-out answers lie as are right (ATC, Garg et al. 2022)."""
    origin: Literal["build", "production", "batch"] = "build"
    created: str = ""
    """UTC, ISO 8601."""

    @property
    def samples(self) -> int:
        return len(self.scores)
