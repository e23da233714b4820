"""How numbers are written: the same digits on the page, on the card and in the terminal."""

from __future__ import annotations

import math

MISSING = "–"


def significant(value: float, digits: int = 3) -> str:
    """`digits` significant digits, thousands grouped, no exponent: 12,400 · 3.42 · 0.00123."""
    if not math.isfinite(value):
        return "∞" if value > 0 else str(value)
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    rounded = round(value, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:,.{min(decimals, 12)}f}".replace("-", "−")


def small(value: float) -> str:
    """An error, which may be far below one: 2.1e-07, 0.0031."""
    if value == 0 or 1e-4 <= abs(value) < 1e4:
        return significant(value, 2)
    return f"{value:.1e}"


def ratio(value: float) -> str:
    return f"{value:.2f}×"


def milliseconds(value: float | None) -> str:
    return MISSING if value is None else f"{significant(value)} ms"


def megabytes(value: float | None) -> str:
    return MISSING if value is None else f"{significant(value)} MB"


def rate(value: float | None) -> str:
    return MISSING if value is None else f"{significant(value)}/s"


def score(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4f}".replace("-", "−")


def drop(value: float | None) -> str:
    """A drop with its sign: what is lost is positive, what is gained negative."""
    if value is None:
        return MISSING
    return "0" if abs(value) < 5e-7 else f"{value:+.4f}".replace("-", "−")


def decibels(value: float) -> str:
    """SQNR; the record writes an exact match as 999."""
    return "exact" if value >= 999 else f"{value:.0f} dB"


def duration(seconds: float | None) -> str:
    """9.4 s · 1 min 52 s · 2 h 3 min."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{significant(seconds, 2)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def percent(value: float) -> str:
    """A confidence level: 95 %, 98.75 %."""
    return f"{100 * value:.4g} %"


def share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else MISSING
