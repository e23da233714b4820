"""Parts of a state as arrays, and back: what a hostile file may have in their place is refused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..contract import Array
from ..errors import MonitorError
from .latency import SIZE
from .recent import WINDOWS, Seen
from .timeline import MOST, Span

WHERE = "the state"
REMEDY = "remove it; the monitor begins anew"
_SPANS = ("at", "scored", "sums", "present", "evidence", "log_p")


class Reader:
    """Takes arrays that are what they should be."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self._arrays = arrays

    def has(self, name: str) -> bool:
        return name in self._arrays

    def under(self, prefix: str) -> Iterator[tuple[str, Array]]:
        for name, array in self._arrays.items():
            if name.startswith(prefix):
                # Infinite is the deviation of what never varies.
                if array.dtype.kind not in "fi" or np.isnan(array).any():
                    raise damaged(f"{name} is no array of numbers")
                yield name.removeprefix(prefix), array

    def columns(self, name: str) -> int:
        """Of a table; 0 where there is none."""
        array = self._arrays.get(name)
        return 0 if array is None or array.ndim != 2 else array.shape[1]

    def take(self, name: str, kind: str, shape: tuple[int | None, ...], *, missing: bool = False) -> Array:
        """An array of 8 bytes a number, or of truth values. `missing`: NaN may be among them."""
        array = self._arrays.get(name)
        if array is None or array.dtype != np.dtype({"f": "f8", "i": "i8", "b": "?"}[kind]):
            raise damaged(f"{name} is not there as it should be")
        fits = array.ndim == len(shape) and all(w in (None, s) for w, s in zip(shape, array.shape, strict=True))
        if not fits:
            raise damaged(f"{name} has the shape {list(array.shape)}")
        if kind == "f" and not (np.isfinite(array) | (np.isnan(array) if missing else False)).all():
            raise damaged(f"{name} is not finite")
        return array


def recent_arrays(windows: list[Seen], fewest: int) -> dict[str, Array]:
    """Sums of fewer values than `fewest` are not told."""
    whole = {
        name: np.array([getattr(seen, name) for seen in windows]) for name in ("counts", "sums", "present", "latency")
    }
    whole["sums"], whole["present"] = _told(whole["sums"], whole["present"], fewest)
    rows = np.array([(seen.rows, seen.sure) for seen in windows], np.int64)
    return {f"recent/{name}": array for name, array in {**whole, "rows": rows}.items()}


def windows_of(reader: Reader, size: int, signals: int) -> Iterator[Seen]:
    rows = reader.take("recent/rows", "i", (None, 2))
    count = len(rows)
    if not 1 <= count <= WINDOWS + 1:
        raise damaged(f"it has {count} windows")
    counts = reader.take("recent/counts", "i", (count, size))
    sums = reader.take("recent/sums", "f", (count, signals))
    present = reader.take("recent/present", "i", (count, signals))
    latency = reader.take("recent/latency", "i", (count, SIZE))
    if min(array.min(initial=0) for array in (rows, counts, present, latency)) < 0:
        raise damaged("it counts below zero")
    for place in range(count):
        seen, sure = rows[place].tolist()
        yield Seen(counts[place], sums[place], present[place], latency[place], seen, sure)


def span_arrays(spans: list[Span], fewest: int) -> dict[str, Array]:
    """Sums of fewer values than `fewest` are not told."""
    if not spans:
        return {}
    kinds = {"scored": np.int64, "present": np.int64}
    arrays = {name: np.array([getattr(span, name) for span in spans], kinds.get(name, np.float64)) for name in _SPANS}
    arrays["sums"], arrays["present"] = _told(arrays["sums"], arrays["present"], fewest)
    return {f"timeline/{name}": array for name, array in arrays.items()}


def _told(sums: Array, present: Array, fewest: int) -> tuple[Array, Array]:
    few = present < fewest
    return np.where(few, 0.0, sums), np.where(few, 0, present)


def spans_of(reader: Reader, signals: int) -> Iterator[Span]:
    if not reader.has("timeline/at"):
        return
    at = reader.take("timeline/at", "f", (None,))
    count = len(at)
    if count > MOST or (np.diff(at) <= 0).any():
        raise damaged("its points are not in order")
    scored = reader.take("timeline/scored", "i", (count,))
    sums = reader.take("timeline/sums", "f", (count, signals))
    present = reader.take("timeline/present", "i", (count, signals))
    evidence = reader.take("timeline/evidence", "f", (count,))
    log_p = reader.take("timeline/log_p", "f", (count,), missing=True)
    if min(array.min(initial=0) for array in (scored, present, evidence)) < 0:
        raise damaged("it counts below zero")
    for place in range(count):
        yield Span(
            float(at[place]),
            int(scored[place]),
            sums[place],
            present[place],
            float(evidence[place]),
            float(log_p[place]),
        )


def damaged(reason: str) -> MonitorError:
    return MonitorError(WHERE, f"is damaged: {reason}", REMEDY)
