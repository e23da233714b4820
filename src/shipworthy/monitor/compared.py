"""All that depends on the reference: made anew where another one is taken."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from ..contract import Array
from ..errors import MonitorError
from ..signals.reference import FEWEST, MOST, Reference
from ..signals.signal import Signal
from .drift import Drift
from .options import MonitorOptions
from .recent import Recent
from .scales import Scales
from .unusual import Unusual


@dataclass(frozen=True, slots=True)
class Compared:
    """A reference, and what is computed against it."""

    reference: Reference
    scales: Scales
    drift: Drift
    recent: Recent
    unusual: Unusual
    confidence: int | None
    """The column of that signal; None where the model has none."""

    @classmethod
    def of(cls, reference: Reference, options: MonitorOptions, seed: int) -> Compared:
        """Raises MonitorError where the reference has too few samples."""
        if reference.samples < FEWEST:
            reason = f"has {reference.samples} samples, and a detector needs {FEWEST}"
            raise MonitorError("the reference", reason, "give it more, better 1000")
        scales = Scales.of(reference)
        drift = Drift(reference, options, seed)
        names = [signal.name for signal in reference.signals]
        confidence = names.index("confidence") if "confidence" in names else None
        return cls(reference, scales, drift, Recent(scales, options.window), Unusual(reference), confidence)

    def sure(self, values: Array) -> int:
        """Rows [n, signals] that are as confident as the estimate of the accuracy asks for."""
        if self.confidence is None or self.reference.sure is None:
            return 0
        return int((values[:, self.confidence] > self.reference.sure).sum())


def reference_from(
    values: Array, signals: tuple[Signal, ...], constants: dict[str, Array], own: Reference | None, seed: int
) -> Reference:
    """A reference of live rows [m, signals]. What only labels tell is taken from the package's `own`.

    Raises MonitorError below 32 rows."""
    if len(values) < FEWEST:
        raise MonitorError("the baseline", f"has {len(values)} rows", f"give at least {FEWEST}, better 1000")
    if len(values) > MOST:
        values = values[np.random.default_rng(seed).choice(len(values), MOST, replace=False)]
    return Reference(
        signals=signals,
        scores=np.sort(values, axis=0),
        constants=constants,
        accepted=None if own is None else own.accepted,
        sure=None if own is None else own.sure,
        origin="production",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
