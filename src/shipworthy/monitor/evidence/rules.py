"""Rules of thumb, for those who expect them. None of them keeps a rate of false alarms: each says that it is
uncalibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..view import Rule
from .wording import arrow, percents

CONFIDENCE = 0.1
PSI = 0.1
PSI_LARGE = 0.2
CLASS_SHARE = 0.1
_UNCALIBRATED = "; uncalibrated: it keeps no rate of false alarms"


def mean_confidence(reference: float, live: float) -> Rule:
    """Means of the confidence. It fires where they are further apart than 0.1, and sees nothing of what leaves them as
    they are."""
    moved = abs(live - reference)
    words = f"mean confidence {arrow(reference, live)}{_UNCALIBRATED}"
    return Rule("mean-confidence", moved, CONFIDENCE, moved > CONFIDENCE, words)


def largest_psi(by_signal: Mapping[str, float]) -> Rule | None:
    """`by_signal`: population stability index by the title of the signal. None where there is none."""
    if not by_signal:
        return None
    title, value = max(by_signal.items(), key=lambda item: item[1])
    degree = "above 0.2" if value > PSI_LARGE else "above 0.1" if value > PSI else "not above 0.1"
    words = f"largest PSI {value:.2f}, {degree}, of {title}{_UNCALIBRATED}"
    return Rule("psi", value, PSI, value > PSI, words)


def class_share(names: Sequence[str], reference: npt.ArrayLike, live: npt.ArrayLike) -> Rule | None:
    """Counts of the classes, [classes] each. It fires where the share of one has moved by more than 0.1. None where
    there is nothing to compare."""
    before, now = np.asarray(reference, np.float64), np.asarray(live, np.float64)
    if not before.sum() or not now.sum():
        return None
    before, now = before / before.sum(), now / now.sum()
    place = int(np.abs(now - before).argmax())
    moved = float(abs(now[place] - before[place]))
    words = f"largest change of a class share: {names[place]} {percents(before[place], now[place])}{_UNCALIBRATED}"
    return Rule("class-share", moved, CLASS_SHARE, moved > CLASS_SHARE, words)
