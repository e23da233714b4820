"""What has changed between two samples, as a person would say it."""

from __future__ import annotations

import numpy as np

from .order import Floats

_SHIFT = 0.25
"""Deviations; a median that moves by less is not what has changed most."""
_SPREAD = 1.25
"""Times."""
_TAIL = 0.01
"""Of each side of the reference: what is farther out is outside the usual."""


def numbers(reference: Floats, live: Floats, unit: str = "") -> str:
    """Of values [m] and [n], NaN where missing: the median where it has moved, else the spread, else the tails; and
    missing values, where their share has changed."""
    missing = float(np.isnan(reference).mean()), float(np.isnan(live).mean())
    before, now = reference[~np.isnan(reference)], live[~np.isnan(live)]
    parts = [_change(before, now, f" {unit}" if unit else "")] if len(before) and len(now) else []
    if not parts or abs(missing[1] - missing[0]) >= 0.01:
        parts.append(f"missing {percents(*missing)}")
    return ", ".join(parts)


def _change(before: Floats, now: Floats, unit: str) -> str:
    middle = float(np.median(before)), float(np.median(now))
    spread = deviation(before), deviation(now)
    shift = (middle[1] - middle[0]) / spread[0] if spread[0] else 0.0
    if abs(shift) >= _SHIFT or not spread[0]:
        moved = f" ({shift:+.1f} deviations)" if spread[0] else ""
        return f"median {arrow(*middle)}{unit}{moved}"
    times = spread[1] / spread[0]
    if not 1 / _SPREAD < times < _SPREAD:
        return f"spread {arrow(*spread)}{unit} ({times:.2g} times)"
    low, high = np.quantile(before, [_TAIL, 1 - _TAIL]).tolist()
    outside = [float(((values < low) | (values > high)).mean()) for values in (before, now)]
    if outside[1] > outside[0] + 0.02:
        return f"outside {number(low)} to {number(high)}{unit}: {percents(*outside)}"
    return f"median {arrow(*middle)}{unit} ({shift:+.1f} deviations)"


def deviation(values: Floats) -> float:
    """Half the width of the middle 68 %, which is one standard deviation of a normal distribution; the standard
    deviation itself where more than that are the same."""
    low, high = np.quantile(values, [0.1587, 0.8413])
    half = float(high - low) / 2
    return half if half > 0 else float(values.std())


def arrow(before: float, now: float) -> str:
    """`4.9 → 6.2`, with as many digits as it takes to tell them apart."""
    for digits in range(2, 7):
        if number(before, digits) != number(now, digits):
            break
    return f"{number(before, digits)} → {number(now, digits)}"


def number(value: float, digits: int = 3) -> str:
    if abs(value) >= 10**digits and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def percents(before: float, now: float) -> str:
    """`10 % → 24 %`."""
    return f"{percent(before)} → {percent(now)}"


def percent(share: float) -> str:
    """Whole ones from 10 %, and tenths below, where they are not all."""
    hundredths = 100 * share
    return f"{hundredths:.0f} %" if hundredths >= 9.95 else f"{hundredths:.2g} %"
