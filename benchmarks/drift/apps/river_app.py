"""Run where river is: its detectors as they are."""

from __future__ import annotations

import json
import pickle
import sys
import time

import numpy as np
from river import drift  # type: ignore[import-not-found]

SAMPLES = {"river ADWIN": 5000, "river Page-Hinkley": 5000, "river KSWIN": 500}
KSWIN_SEED = 42


def made() -> dict[str, drift.base.DriftDetector]:
    return {
        "river ADWIN": drift.ADWIN(),
        "river Page-Hinkley": drift.PageHinkley(),
        "river KSWIN": drift.KSWIN(seed=KSWIN_SEED),
    }


def first(detector: drift.base.DriftDetector, numbers: list[float]) -> int:
    """The sample at which it first alarms; one more than there are where it does not."""
    for at, number in enumerate(numbers, 1):
        detector.update(number)
        if detector.drift_detected:
            return at
    return len(numbers) + 1


def adwin(given: str, found: str) -> None:
    """First alarms of streams [streams, samples] at each delta, written as [streams, deltas]."""
    with np.load(given) as data:
        streams, deltas = data["values"].tolist(), data["deltas"].tolist()
    np.save(found, np.array([[first(drift.ADWIN(delta=delta), numbers) for delta in deltas] for numbers in streams]))


def agree(given: str, found: str) -> None:
    """First alarms of Page-Hinkley and KSWIN at their own settings, and of the former at a lower threshold."""
    with np.load(given) as data:
        streams, threshold = data["watched"].tolist(), float(data["page_hinkley"])
    alarms = {
        "page_hinkley": [first(drift.PageHinkley(threshold=threshold), numbers) for numbers in streams],
        "kswin": [first(drift.KSWIN(seed=KSWIN_SEED, alpha=1e-4), numbers[:1000]) for numbers in streams],
    }
    np.savez(found, **{name: np.array(each) for name, each in alarms.items()})


def cost(given: str) -> None:
    with np.load(given) as data:
        numbers = data["watched"].tolist()
    found = {}
    for name, detector in made().items():
        began = time.perf_counter()
        for number in numbers[: SAMPLES[name]]:
            detector.update(number)
        found[name] = ((time.perf_counter() - began) / SAMPLES[name] * 1e6, len(pickle.dumps(detector)) / 1e3)
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    {"adwin": adwin, "agree": agree, "cost": cost}[sys.argv[1]](*sys.argv[2:])
