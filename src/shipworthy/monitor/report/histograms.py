"""Counts in the bins of a signal as bars of equal width."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...contract import Array
from ..view import SignalView

BARS = 26


def bars(signal: SignalView) -> list[dict[str, Any]]:
    """For `reference` and `live`, from `low` to `high`: the `share` of all values, and the `height` that is drawn.

    The bins hold about equally many of the reference; what is between their edges is spread evenly over bars of equal
    width. What is beyond stands in one bar on each side, apart from the others, whose height is cut, and which says
    its share."""
    edges = np.asarray(signal.edges, float)
    if len(edges) < 2 or not edges[-1] > edges[0]:
        middle = float(edges[0]) if len(edges) else 0.0
        edges = np.array([middle - 0.5, middle + 0.5])
    grid = np.linspace(edges[0], edges[-1], BARS + 1)
    width = float(grid[1] - grid[0])
    found: list[dict[str, Any]] = []
    highest = 0.0
    for side, counts in (("reference", signal.reference), ("live", signal.live)):
        below, inside, above = _parts(np.asarray(counts, float), len(signal.edges))
        total = max(1.0, float(sum(counts)))
        spread = np.diff(np.interp(grid, edges, np.concatenate([[0.0], np.cumsum(inside)])))
        places = [(grid[0] - 2 * width, grid[0] - width, below, "below all of the reference")]
        places += [(*pair, count, "") for *pair, count in zip(grid[:-1], grid[1:], spread, strict=True)]
        places.append((grid[-1] + width, grid[-1] + 2 * width, above, "above all of the reference"))
        most = 1.2 * float(spread.max(initial=0.0)) / total
        found += [
            {
                "side": side,
                "low": float(low),
                "high": float(high),
                "share": float(count) / total,
                "height": min(float(count) / total, max(most, highest)) if what else float(count) / total,
                "what": what or f"{low:.4g} to {high:.4g}",
                "beyond": f"{count / total:.0%}" if what and count >= 0.005 * total else "",
            }
            for low, high, count, what in places
            if count
        ]
        highest = max(highest, most)
    return found


def _parts(counts: Array, edges: int) -> tuple[float, Array, float]:
    """Below the first edge, between edges, from the last edge up; missing values are no part of the picture."""
    if edges < 2:
        return float(counts[:1].sum()) if edges else 0.0, counts[1:2] if edges else counts[:1], 0.0
    return float(counts[0]), counts[1:edges], float(counts[edges])
