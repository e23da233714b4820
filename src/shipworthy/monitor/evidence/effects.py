"""How far a signal has moved, in numbers and in words that a person understands.

An effect size says how large a change is, evidence only how sure it is: severity comes from the effect alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from ...signals.signal import Kind, Signal
from ..view import Severity
from . import wording
from .order import Floats, Integers

NUMBERS = (0.2, 0.3)
"""KS distances from which a change is moderate, and large: those of two normal distributions whose means are a half and
0.8 deviations apart (Cohen's medium and large)."""
CLASSES = (0.1, 0.25)
"""Shares of the answers that have moved to another class."""
SHARES = (0.5, 0.8)
"""Cohen's h, 2 asin sqrt(p) - 2 asin sqrt(q): from 0 % these are 6 % and 15 %, from 50 % they are 74 % and 86 %."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Of one signal, live against reference."""

    distance: float
    """In [0, 1]: KS distance of numbers, where a missing value is the largest; total variation of classes; difference
    of shares."""
    severity: Severity
    words: str
    """Such as `brightness of image: median 4.9 → 6.2 (+1.1 deviations)`."""


def effect(signal: Signal, reference: Floats, live: Floats) -> Effect:
    """Of values [m] and [n], NaN where missing; neither is empty."""
    if signal.kind == "class":
        before, now = (count_classes(values, class_number(signal, reference)) for values in (reference, live))
        distance = total_variation(before, now)
        moved = classes_moved(class_names(signal, len(before)), before, now, most=1)
        return Effect(distance, severity(distance, CLASSES), f"{signal.title}: share of {moved[0]}")
    if signal.kind == "share":
        ones = count_ones(reference) / len(reference), count_ones(live) / len(live)
        words = f"{signal.title}: {wording.percents(*ones)}"
        return Effect(abs(ones[1] - ones[0]), severity(_cohen(*ones), SHARES), words)
    distance = ks_distance(reference, live)
    missing = float(np.isnan(reference).mean()), float(np.isnan(live).mean())
    degree = max(severity(distance, NUMBERS), severity(_cohen(*missing), SHARES), key=get_args(Severity).index)
    return Effect(distance, degree, f"{signal.title}: {wording.numbers(reference, live, signal.unit)}")


def severity(size: float, steps: tuple[float, float]) -> Severity:
    """`steps` are the least moderate and the least large size."""
    return "large" if size >= steps[1] else "moderate" if size >= steps[0] else "slight"


def ks_distance(reference: Floats, live: Floats) -> float:
    """Of values [m] and [n]; missing ones are larger than all others. Values that tie are no distance."""
    before, now = np.sort(reference), np.sort(live)
    places = np.concatenate([before, now])
    places = places[~np.isnan(places)]
    if not len(places):
        return 0.0
    shares = [np.searchsorted(values, places, side="right") / len(values) for values in (before, now)]
    return float(np.abs(shares[0] - shares[1]).max())


def ks_of_counts(reference: npt.ArrayLike, live: npt.ArrayLike) -> float:
    """Of counts in the same bins in rising order, [bins] each: at most the distance of the values, and less than it by
    at most what one bin holds."""
    before, now = _shares(reference), _shares(live)
    return float(np.abs(np.cumsum(before - now)).max())


def distance_of(kind: Kind, reference: Integers, live: Integers) -> float:
    """KS distance of numbers, total variation of others, of counts [bins] each; 0 where nothing has come."""
    if not live.sum():
        return 0.0
    distance = ks_of_counts(reference, live) if kind == "number" else total_variation(reference, live)
    return min(distance, 1.0)  # a sum may be rounded up


def total_variation(reference: npt.ArrayLike, live: npt.ArrayLike) -> float:
    """Half the sum of |p - q|, of counts [bins] each: the least share that must have moved."""
    return float(np.abs(_shares(reference) - _shares(live)).sum() / 2)


def psi(reference: npt.ArrayLike, live: npt.ArrayLike) -> float:
    """Population stability index: sum of (p - q) ln(p/q), of counts [bins] each, with a half added to each count. It
    has no rate of false alarms: on the same distribution it grows with the number of bins and shrinks with that of
    samples, about bins (1/m + 1/n)."""
    before, now = np.asarray(reference, np.float64) + 0.5, np.asarray(live, np.float64) + 0.5
    used = (before > 0.5) | (now > 0.5)
    p, q = _shares(before[used]), _shares(now[used])
    return float(((p - q) * np.log(p / q)).sum())


def count_classes(values: Floats, classes: int) -> Integers:
    """How often each class occurs, [classes + 1]; the last count is of missing values and of classes beyond."""
    known = (values >= 0) & (values < classes)
    place = np.where(known, values, classes).astype(np.int64)
    return np.bincount(place, minlength=classes + 1).astype(np.int64)


def count_ones(values: Floats) -> int:
    """Of a share: missing values count as ones, as the largest."""
    return int((~(values < 0.5)).sum())


def class_names(signal: Signal, counts: int) -> tuple[str, ...]:
    """For `count_classes`, the last one included."""
    names = signal.classes or tuple(str(place) for place in range(counts - 1))
    return (*names, "other or missing")


def classes_moved(
    names: Sequence[str], reference: npt.ArrayLike, live: npt.ArrayLike, most: int = 3
) -> tuple[str, ...]:
    """The classes whose share has changed most, in words such as `3: 10 % → 24 %`, most first, of counts [classes]."""
    before, now = _shares(reference), _shares(live)
    order = np.argsort(-np.abs(now - before), kind="stable")[:most]
    return tuple(f"{names[place]}: {wording.percents(before[place], now[place])}" for place in order)


def class_number(signal: Signal, reference: Floats) -> int:
    """Of classes without a name, as many as the reference has."""
    return len(signal.classes) or int(np.max(reference, initial=-1.0, where=~np.isnan(reference))) + 1


def _cohen(p: float, q: float) -> float:
    return abs(2 * math.asin(math.sqrt(q)) - 2 * math.asin(math.sqrt(p)))


def _shares(counts: npt.ArrayLike) -> Floats:
    numbers = np.asarray(counts, np.float64)
    return numbers / max(1.0, float(numbers.sum()))
