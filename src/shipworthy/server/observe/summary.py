"""The statistics of one version, from the numbers of all workers."""

from __future__ import annotations

from collections.abc import Sequence

from ...contract import Array
from .families import (
    BUCKET_BATCHES,
    COMPUTE_SECONDS,
    FAILED_SECONDS,
    LAST,
    QUEUE_SECONDS,
    REQUEST_SECONDS,
    REQUESTS,
    Family,
)
from .protocol import BatchSize, Statistics, Timing
from .readers import Totals


def summarize(totals: Totals, model: str, version: str) -> Statistics:
    """All zero where no worker knows the version."""
    names = (model, version)
    sizes = {int(key[-1]): totals.value(key) for key in totals.keys(BUCKET_BATCHES) if key[1:3] == names}
    failed = [
        totals.value(key)[0] for key in totals.keys(REQUESTS.name) if key[1:3] == names and not is_success(key[-1])
    ]
    last, failed_s = (LAST, *names), (FAILED_SECONDS, *names)
    return Statistics(
        model,
        version,
        last_inference_ms=int(totals.value(last, _latest)[0] * 1e3) if last in totals else 0,
        inference_count=int(sum(size[2] for size in sizes.values())),
        execution_count=int(sum(size[0] for size in sizes.values())),
        success=_timing(totals, REQUEST_SECONDS, names),
        fail=Timing(int(sum(failed)), _ns(totals.value(failed_s)[0]) if failed_s in totals else 0),
        queue=_timing(totals, QUEUE_SECONDS, names),
        compute_infer=_timing(totals, COMPUTE_SECONDS, names),
        batches=tuple(BatchSize(size, Timing(int(sizes[size][0]), _ns(sizes[size][1]))) for size in sorted(sizes)),
    )


def is_success(status: str) -> bool:
    return len(status) == 3 and status.startswith("2")


def _timing(totals: Totals, family: Family, names: tuple[str, str]) -> Timing:
    """Count and sum of all series of a histogram that have these first labels."""
    found = [totals.value(key) for key in totals.keys(family.name) if key[1:3] == names]
    return Timing(int(sum(one[:-1].sum() for one in found)), _ns(sum(one[-1] for one in found)))


def _latest(found: Sequence[Array]) -> Array:
    return max(found, key=lambda one: float(one[0]))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
