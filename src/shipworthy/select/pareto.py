"""Which candidates no other beats on everything at once."""

from __future__ import annotations

from collections.abc import Sequence

from ..measure import SIZES
from .tried import Tried


def pareto(tried: Sequence[Tried], baseline: str) -> tuple[str, ...]:
    """Ids of those that no other equals in accuracy, speed and size while it is better in one of them.

    Rejected ones count as well: where none meets the limits, these are what there is to choose between."""
    figures = {each.candidate.id: found for each in tried if (found := _figures(each, baseline)) is not None}
    return tuple(
        name
        for name, own in figures.items()
        if not any(_beats(other, own) for rival, other in figures.items() if rival != name)
    )


def _figures(tried: Tried, baseline: str) -> tuple[float, float, float] | None:
    """Accuracy (the metric, or without one the SQNR of the worst output), speed against eager, and smallness."""
    speed = next((s.ratio for s in tried.pace.speed if s.against == baseline and s.objective not in SIZES), None)
    metric = tried.proof.metric or tried.quality.metric
    if speed is None or not tried.quality.parity:
        return None
    accuracy = metric.candidate if metric is not None else min(parity.sqnr_db for parity in tried.quality.parity)
    return accuracy, speed, -tried.exported.size_mb


def _beats(other: tuple[float, ...], own: tuple[float, ...]) -> bool:
    return other != own and all(theirs >= mine for theirs, mine in zip(other, own, strict=True))
