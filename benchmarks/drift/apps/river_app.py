"""Run where river is: its detectors as they are."""

from __future__ import annotations

import sys

import numpy as np
from river import drift  # type: ignore[import-not-found]


def adwin(given: str, found: str) -> None:
    """First alarms of streams [streams, samples] at each delta, written as [streams, deltas]."""
    with np.load(given) as data:
        values, deltas, cap = data["values"].tolist(), data["deltas"].tolist(), int(data["cap"])
    alarms = np.full((len(values), len(deltas)), cap + 1)
    for stream, numbers in enumerate(values):
        for place, delta in enumerate(deltas):
            detector = drift.ADWIN(delta=delta)
            for at, number in enumerate(numbers, 1):
                detector.update(number)
                if detector.drift_detected:
                    alarms[stream, place] = at
                    break
    np.save(found, alarms)


if __name__ == "__main__":
    {"adwin": adwin}[sys.argv[1]](*sys.argv[2:])
