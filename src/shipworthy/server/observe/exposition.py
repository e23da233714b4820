"""The numbers of all workers as Prometheus' text, or as OpenMetrics."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ... import __version__
from ...contract import Array
from .families import (
    BUILD,
    FAILED,
    FAMILIES,
    FDS,
    REQUESTS,
    RSS,
    SERIES_LOST,
    START,
    VIRTUAL,
    WORKERS,
    Family,
    Merged,
)
from .readers import Merge, Totals, Worker
from .summary import is_success

if TYPE_CHECKING:
    from prometheus_client import Metric

Sample = tuple[tuple[str, ...], Array]
"""The values of a series' labels, and its numbers."""

_PROC = Path("/proc")
_OPENMETRICS = "application/openmetrics-text"
_END = b"# EOF\n"
_MERGES: dict[Merged, Merge | None] = {
    "sum": None,
    "least": lambda found: np.min(found, axis=0),
    "greatest": lambda found: np.max(found, axis=0),
}


def render(totals: Totals | None, accept: str) -> tuple[bytes, str]:
    """All families, in the order of their table, and the content type; none of them without `totals`."""
    # Imported with the first scrape: it takes 70 ms, which a server's start can do without.
    from prometheus_client import exposition
    from prometheus_client.openmetrics import exposition as openmetrics_exposition
    from prometheus_client.registry import CollectorRegistry

    registry = CollectorRegistry()
    if totals is not None:
        registry.register(_Collector(totals))
    if prefers_openmetrics(accept):
        content: bytes = openmetrics_exposition.generate_latest(registry)  # type: ignore[no-untyped-call]
        return content, openmetrics_exposition.CONTENT_TYPE_LATEST
    return exposition.generate_latest(registry), exposition.CONTENT_TYPE_PLAIN_0_0_4


def is_openmetrics(media: str) -> bool:
    """Whether a content type that `render` gave is that of OpenMetrics."""
    return media.startswith(_OPENMETRICS)


def joined(content: bytes, more: bytes, *, openmetrics: bool) -> bytes:
    """A page of metrics, and further families behind it. OpenMetrics has a last line, which stays the last."""
    return content.removesuffix(_END) + more + _END if openmetrics else content + more


def prefers_openmetrics(accept: str) -> bool:
    """Whether an Accept header wants OpenMetrics 1.0 at least as much as plain text (RFC 9110, 12.5.1)."""
    wishes = {_OPENMETRICS: 0.0, "text/plain": 0.0}
    for choice in accept.split(",")[:32]:
        name, *parameters = (part.strip().lower() for part in choice.split(";"))
        given = dict(part.split("=", 1) for part in parameters if "=" in part)
        if name in wishes and not (name == _OPENMETRICS and given.get("version", "1.0.0") != "1.0.0"):
            wishes[name] = max(wishes[name], _quality(given.get("q", "1")))
    return wishes[_OPENMETRICS] > 0 and wishes[_OPENMETRICS] >= wishes["text/plain"]


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


class _Collector:
    """The totals as prometheus_client's families."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            yield _metric(family, _samples(self._totals, family))


def _metric(family: Family, samples: Sequence[Sample]) -> Metric:
    from prometheus_client import metrics_core as core

    if family.kind == "info":
        name = family.name.removesuffix("_info")
        return core.InfoMetricFamily(name, family.help, dict(zip(family.labels, samples[0][0], strict=True)))
    if family.kind == "histogram":
        histogram = core.HistogramMetricFamily(family.name, family.help, labels=family.labels)
        bounds = [*map(repr, family.bounds), "+Inf"]
        for labels, values in samples:
            counts = np.cumsum(values[:-1]).tolist()
            histogram.add_metric(labels, list(zip(bounds, counts, strict=True)), float(values[-1]))
        return histogram
    kind = core.CounterMetricFamily if family.kind == "counter" else core.GaugeMetricFamily
    plain = kind(family.name, family.help, labels=family.labels)
    for labels, values in samples:
        plain.add_metric(labels, float(values[0]))
    return plain


def _samples(totals: Totals, family: Family) -> list[Sample]:
    if family in _DERIVED:
        return _DERIVED[family](totals)
    return [(key[1:], totals.value(key, _MERGES[family.merged])) for key in totals.keys(family.name)]


def _single(number: float) -> list[Sample]:
    return [((), np.array([number]))]


def _failed(totals: Totals) -> list[Sample]:
    counts: Counter[tuple[str, ...]] = Counter()
    for key in totals.keys(REQUESTS.name):
        if not is_success(key[-1]):
            counts[(*key[1:3], "client" if key[-1].startswith("4") else "server")] += int(totals.value(key)[0])
    return [(labels, np.array([count])) for labels, count in sorted(counts.items())]


def _live(totals: Totals) -> list[Worker]:
    return [worker for worker in totals.workers if worker.live]


def _memory(column: int) -> Callable[[Totals], list[Sample]]:
    """Bytes of memory of the live workers, by a column of /proc/<pid>/statm; no sample where there is no /proc."""

    def of(pid: int) -> float:
        return float((_PROC / str(pid) / "statm").read_text(encoding="ascii").split()[column]) * os.sysconf(
            "SC_PAGESIZE"
        )

    return lambda totals: _of_processes(totals, of)


def _descriptors(totals: Totals) -> list[Sample]:
    return _of_processes(totals, lambda pid: float(sum(1 for _ in (_PROC / str(pid) / "fd").iterdir())))


def _of_processes(totals: Totals, ask: Callable[[int], float]) -> list[Sample]:
    total, seen = 0.0, False
    for worker in _live(totals):
        try:
            total, seen = total + ask(worker.pid), True
        except OSError:
            continue  # It has just died, or the system has no /proc.
    return _single(total) if seen else []


_DERIVED: dict[Family, Callable[[Totals], list[Sample]]] = {
    FAILED: _failed,
    WORKERS: lambda totals: _single(len(_live(totals))),
    SERIES_LOST: lambda totals: _single(sum(worker.lost for worker in _live(totals))),
    RSS: _memory(1),
    VIRTUAL: _memory(0),
    FDS: _descriptors,
    START: lambda totals: _single(min((worker.created for worker in totals.workers), default=0.0)),
    BUILD: lambda totals: [((__version__, platform.python_version()), np.ones(1))],
}
