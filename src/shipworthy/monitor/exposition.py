"""Views as Prometheus' text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias, get_args

from ..server.observe.families import Family
from . import families as the
from .view import Detector, View

if TYPE_CHECKING:
    from prometheus_client import Metric

    from .webhooks import Sent

Samples: TypeAlias = Sequence[tuple[tuple[str, ...], float]]
"""The values of a series' labels behind `model` and `version`, and its number."""


def exposition(views: Sequence[View], sent: Sent | None = None) -> bytes:
    """All families in the order of their table, in text format 0.0.4, to stand behind the server's own.

    `views` are of one node, at most one for each version; `sent` is what became of webhooks."""
    # The library takes 70 ms to import, and is wanted only where metrics are.
    from prometheus_client import exposition as written
    from prometheus_client.registry import CollectorRegistry

    if not views and sent is None:
        return b""
    registry = CollectorRegistry()
    registry.register(_Collector(views, sent))
    return written.generate_latest(registry)


def as_openmetrics(text: bytes) -> bytes:
    """What `exposition` gives, for a page of OpenMetrics 1.0, before its `# EOF`: there, a counter is named without
    `_total` where it is described."""
    lines = text.split(b"\n")
    return b"\n".join(_described(line) if line.startswith(b"# ") else line for line in lines)


def _described(line: bytes) -> bytes:
    sign, what, name, rest = line.split(b" ", 3)
    return b" ".join((sign, what, name.removesuffix(b"_total"), rest))


class _Collector:
    def __init__(self, views: Sequence[View], sent: Sent | None) -> None:
        self._views = views
        self._sent = sent

    def collect(self) -> Iterator[Metric]:
        from prometheus_client import metrics_core as core

        for family in the.FAMILIES:
            kind = core.CounterMetricFamily if family.kind == "counter" else core.GaugeMetricFamily
            metric = kind(family.name, family.help, labels=family.labels)
            for labels, value in self._samples(family):
                metric.add_metric(labels, value)
            if metric.samples:
                yield metric

    def _samples(self, family: Family) -> Iterator[tuple[tuple[str, ...], float]]:
        if family in _OF_WEBHOOKS:
            yield from _OF_WEBHOOKS[family](self._sent) if self._sent is not None else ()
            return
        for view in self._views:
            for labels, value in _OF_VIEW[family](view):
                yield (view.model, view.version, *labels), value


def _one(value: float | None) -> Samples:
    return [] if value is None else [((), value)]


def _by_signal(field: str) -> Callable[[View], Samples]:
    def samples(view: View) -> Samples:
        found = [(signal.name, getattr(signal, field)) for signal in view.signals]
        return [((name,), value) for name, value in found if value is not None]

    return samples


def _by_rule(field: str) -> Callable[[View], Samples]:
    return lambda view: [((rule.name,), float(getattr(rule, field))) for rule in view.rules]


def _of_quality(field: str) -> Callable[[View], Samples]:
    def samples(view: View) -> Samples:
        value = None if view.quality is None else getattr(view.quality, field)
        return [] if view.quality is None or value is None else [((view.quality.metric,), float(value))]

    return samples


def _of_promise(field: str) -> Callable[[View], Samples]:
    return lambda view: _one(None if view.promise is None else float(getattr(view.promise, field)))


def _evidence(view: View) -> Samples:
    return _one(max((signal.evidence for signal in view.signals), default=None))


def _alarms(view: View) -> Samples:
    standing = [alarm.detector for alarm in view.alarms if alarm.acknowledged is None]
    return [((detector,), float(standing.count(detector))) for detector in get_args(Detector)]


def _began(view: View) -> Samples:
    standing = [alarm for alarm in view.alarms if alarm.acknowledged is None]
    return [
        ((detector,), min(alarm.began for alarm in standing if alarm.detector == detector))
        for detector in get_args(Detector)
        if any(alarm.detector == detector for alarm in standing)
    ]


def _reference(view: View) -> Samples:
    if view.collecting is not None:
        return _one(float(view.collecting[0]))
    return _of_promise("reference")(view)


def _wanted(view: View) -> Samples:
    have, wanted = view.collecting or (0, 0)
    return _one(float(max(0, wanted - have)))


_OF_VIEW: dict[Family, Callable[[View], Samples]] = {
    the.EVIDENCE: _evidence,
    the.SIGNAL_EVIDENCE: _by_signal("evidence"),
    the.P_VALUE: _by_signal("p_value"),
    the.ALARMS: _alarms,
    the.BEGAN: _began,
    the.DISTANCE: _by_signal("distance"),
    the.MEAN: _by_signal("live_mean"),
    the.REFERENCE_MEAN: _by_signal("reference_mean"),
    the.PSI: _by_signal("psi"),
    the.RULE_VALUE: _by_rule("value"),
    the.RULE_THRESHOLD: _by_rule("threshold"),
    the.RULE_FIRES: _by_rule("fires"),
    the.REQUESTS: lambda view: _one(float(view.requests)),
    the.SCORED: lambda view: _one(float(view.scored)),
    the.UNSCORED: lambda view: _one(float(view.unscored)),
    the.QUALITY: _of_quality("value"),
    the.QUALITY_LOWER: _of_quality("lower"),
    the.QUALITY_UPPER: _of_quality("upper"),
    the.QUALITY_LEVEL: _of_quality("level"),
    the.QUALITY_BELOW: _of_quality("below"),
    the.LABELS: _of_quality("labels"),
    the.ESTIMATE: lambda view: _one(None if view.estimate is None else view.estimate.value),
    the.ESTIMATE_REFERENCE: lambda view: _one(None if view.estimate is None else view.estimate.reference),
    the.REFERENCE_SAMPLES: _reference,
    the.REFERENCE_WANTED: _wanted,
    the.RUN_LENGTH: _of_promise("run_length"),
    the.WINDOW: _of_promise("window"),
    the.WINDOW_RATE: _of_promise("window_rate"),
    the.UPDATED: lambda view: _one(view.updated),
}
_OF_WEBHOOKS: dict[Family, Callable[[Sent], Samples]] = {
    the.WEBHOOKS: lambda sent: [(("delivered",), sent.delivered), (("failed",), sent.failed), (("lost",), sent.lost)],
    the.WEBHOOKS_WAITING: lambda sent: _one(sent.waiting),
}
