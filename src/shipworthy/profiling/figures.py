"""How a profile writes its numbers."""

from __future__ import annotations

MISSING = "–"


def _significant(value: float, digits: int = 3) -> str:
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if "e" in text or abs(value) >= 1000 else text


def _scaled(value: float, step: float, units: tuple[str, ...]) -> str:
    number = 0
    while abs(value) >= step * 0.9995 and number < len(units) - 1:
        value, number = value / step, number + 1
    return f"{_significant(value)} {units[number]}".strip()


def duration(us: float | None) -> str:
    """Of microseconds: 12.3 µs, 4.56 ms, 1.2 s."""
    return MISSING if us is None else _scaled(us, 1000, ("µs", "ms", "s"))


def size(count: float | None) -> str:
    """Of bytes, in powers of ten: 0 B, 4.1 kB, 97.5 MB."""
    return MISSING if count is None else _scaled(count, 1000, ("B", "kB", "MB", "GB", "TB"))


def count(value: float | None) -> str:
    """340, 25.6 M, 8.2 G."""
    return MISSING if value is None else _scaled(value, 1000, ("", "k", "M", "G", "T"))


def flops(value: float | None) -> str:
    """A count of operations; none is a dash."""
    return count(value) if value else MISSING


def rate(operations: float | None, us: float) -> str:
    """Floating-point operations per second: 41 GFLOP/s."""
    if not operations or us <= 0:
        return MISSING
    return _scaled(operations / us * 1e6, 1000, ("FLOP/s", "kFLOP/s", "MFLOP/s", "GFLOP/s", "TFLOP/s"))


def share(part: float, whole: float) -> str:
    """A share of the whole: 42.1 %."""
    return f"{100 * part / whole:.1f} %" if whole else MISSING


def shapes(given: tuple[tuple[int, ...], ...], most: int = 3) -> str:
    """8×3×64×64 · 64×3×7×7; a scalar is `()`."""
    shown = ["×".join(map(str, shape)) or "()" for shape in given[:most]]
    return " · ".join(shown) + (" …" if len(given) > most else "")


def threads(number: int) -> str:
    """1 thread, 4 threads."""
    return f"{number} thread" + ("s" if number != 1 else "")
