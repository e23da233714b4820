"""What the dashboard shows: rows of panels, each made of metrics of the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ...server.observe import families as server
from ...server.observe.families import Family
from .. import families as the

Kind: TypeAlias = Literal["stat", "timeseries", "bargauge", "table"]
OF = '{model=~"$model", version=~"$version"}'
"""Every query is about what is chosen above the panels."""
RATE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and how its series are called."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    kind: Kind
    says: str
    queries: tuple[Query, ...]
    width: int = 8
    """Of 24."""
    height: int = 8
    unit: str = "short"
    log: bool = False
    line: float | None = None
    """A threshold that is drawn: red from here on."""
    low: float | None = None
    high: float | None = None
    """Of the axis."""


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


def of(family: Family) -> str:
    """The metric, of what is chosen; metrics that are of no model are taken whole."""
    return family.name + (OF if "version" in family.labels else '{model=~"$model"}' if "model" in family.labels else "")


def rate(family: Family, suffix: str = "", by: str = "model, version") -> str:
    whole = of(family).replace(family.name, family.name + suffix, 1)
    return f"sum by ({by}) (rate({whole}[{RATE}]))"


def _quantile(share: float, family: Family) -> Query:
    inside = rate(family, "_bucket", "le, model, version")
    return Query(f"histogram_quantile({share}, {inside})", f"{{{{model}}}}:{{{{version}}}} p{share * 100:g}")


def _highest(family: Family, by: str) -> str:
    return f"max by (model, version, {by}) ({of(family)})"


def _standing() -> str:
    """By detector. An alarm of drift is that of one node; one of the quality is the same on all of them."""
    by, alarms = "by (model, version, detector)", of(the.ALARMS).removesuffix("}")
    return f'sum {by} ({alarms}, detector!="quality"}}) or max {by} ({alarms}, detector="quality"}})'


_NAME = "{{model}}:{{version}}"
_SIGNAL = f"{_NAME} {{{{signal}}}}"

HEADLINE = Row(
    "At a glance",
    (
        Panel(
            "Alarms that stand",
            "stat",
            the.ALARMS.help,
            (Query(f"sum by (model, version) ({_standing()})", _NAME),),
            width=6,
            height=5,
            line=1,
        ),
        Panel(
            "Evidence of drift over its threshold",
            "stat",
            the.EVIDENCE.help,
            (Query(f"max by (model, version) ({of(the.EVIDENCE)})", _NAME),),
            width=6,
            height=5,
            unit="percentunit",
            line=1,
        ),
        Panel(
            "Quality, by labels",
            "stat",
            f"{the.QUALITY.help} {the.QUALITY_LEVEL.help}",
            (
                Query(_highest(the.QUALITY, "metric"), f"{_NAME} {{{{metric}}}}"),
                Query(_highest(the.QUALITY_LEVEL, "metric"), f"{_NAME} accepted at"),
            ),
            width=6,
            height=5,
            unit="percentunit",
        ),
        Panel(
            "Requests",
            "stat",
            server.REQUESTS.help,
            (Query(rate(server.REQUESTS), _NAME),),
            width=6,
            height=5,
            unit="reqps",
        ),
    ),
)
DRIFT = Row(
    "Drift",
    (
        Panel(
            "Evidence of drift",
            "timeseries",
            the.EVIDENCE.help + " The promise counts scored requests, if they are exchangeable with the reference.",
            (Query(f"max by (model, version) ({of(the.EVIDENCE)})", _NAME),),
            width=12,
            height=9,
            log=True,
            line=1,
        ),
        Panel(
            "Evidence by signal",
            "timeseries",
            the.SIGNAL_EVIDENCE.help,
            (Query(_highest(the.SIGNAL_EVIDENCE, "signal"), _SIGNAL),),
            width=12,
            height=9,
            log=True,
            line=1,
        ),
        Panel(
            "Alarms that stand, by detector",
            "timeseries",
            the.ALARMS.help,
            (Query(_standing(), f"{_NAME} {{{{detector}}}}"),),
            low=0,
        ),
        Panel(
            "The change is estimated to have begun",
            "stat",
            the.BEGAN.help,
            (Query(f"min by (model, version) ({of(the.BEGAN)}) * 1000", _NAME),),
            unit="dateTimeAsIso",
        ),
        Panel(
            "p-values of the last window",
            "timeseries",
            the.P_VALUE.help,
            (Query(f"min by (model, version, signal) ({of(the.P_VALUE)})", _SIGNAL),),
            log=True,
        ),
        Panel(
            "Distance from the reference",
            "bargauge",
            the.DISTANCE.help,
            (Query(_highest(the.DISTANCE, "signal"), _SIGNAL),),
            width=12,
            height=9,
            low=0,
            high=1,
        ),
        Panel(
            "Mean of signals, less that of the reference",
            "timeseries",
            f"{the.MEAN.help} {the.REFERENCE_MEAN.help}",
            (Query(f"avg by (model, version, signal) ({of(the.MEAN)} - {of(the.REFERENCE_MEAN)})", _SIGNAL),),
            width=12,
            height=9,
        ),
    ),
)
QUALITY = Row(
    "Quality",
    (
        Panel(
            "Quality with its confidence sequence",
            "timeseries",
            f"{the.QUALITY.help} {the.QUALITY_LOWER.help} {the.QUALITY_UPPER.help}",
            (
                Query(_highest(the.QUALITY, "metric"), f"{_NAME} {{{{metric}}}}"),
                Query(_highest(the.QUALITY_LOWER, "metric"), f"{_NAME} lower"),
                Query(_highest(the.QUALITY_UPPER, "metric"), f"{_NAME} upper"),
                Query(_highest(the.QUALITY_LEVEL, "metric"), f"{_NAME} accepted at"),
            ),
            width=12,
            height=9,
            unit="percentunit",
            high=1,
        ),
        Panel(
            "Accuracy without labels: an estimate",
            "timeseries",
            the.ESTIMATE.help,
            (
                Query(f"avg by (model, version) ({of(the.ESTIMATE)})", f"{_NAME} estimate"),
                Query(f"avg by (model, version) ({of(the.ESTIMATE_REFERENCE)})", f"{_NAME} on the reference"),
            ),
            width=12,
            height=9,
            unit="percentunit",
            high=1,
        ),
        Panel(
            "Labels",
            "timeseries",
            f"{the.LABELS.help} All nodes know all of them.",
            (Query(f"max by (model, version) (rate({of(the.LABELS)}[{RATE}]))", _NAME),),
            width=12,
            low=0,
        ),
        Panel(
            "Labels by what became of them",
            "timeseries",
            server.LABELS.help,
            (Query(rate(server.LABELS, by="model, outcome"), "{{model}} {{outcome}}"),),
            width=12,
            low=0,
        ),
    ),
)
RULES = Row(
    "Rules of thumb (uncalibrated: they keep no rate of false alarms)",
    (
        Panel(
            "Rules over their thresholds",
            "timeseries",
            the.RULE_VALUE.help,
            (
                Query(
                    f"max by (model, version, rule) ({of(the.RULE_VALUE)} / {of(the.RULE_THRESHOLD)})",
                    f"{_NAME} {{{{rule}}}}",
                ),
            ),
            width=12,
            low=0,
        ),
        Panel(
            "PSI by signal",
            "timeseries",
            the.PSI.help,
            (Query(_highest(the.PSI, "signal"), _SIGNAL),),
            width=12,
            low=0,
        ),
    ),
)
SERVING = Row(
    "Serving, and versions beside each other",
    (
        Panel(
            "Requests by version",
            "timeseries",
            server.REQUESTS.help,
            (Query(rate(server.REQUESTS), _NAME),),
            unit="reqps",
            low=0,
        ),
        Panel(
            "Latency",
            "timeseries",
            server.REQUEST_SECONDS.help,
            (_quantile(0.5, server.REQUEST_SECONDS), _quantile(0.99, server.REQUEST_SECONDS)),
            unit="s",
            log=True,
        ),
        Panel(
            "Requests that failed or were refused",
            "timeseries",
            f"{server.FAILED.help} {server.SHED.help}",
            (
                Query(rate(server.FAILED, by="model, version, fault"), f"{_NAME} fault of {{{{fault}}}}"),
                Query(rate(server.SHED, by="model, version, reason"), f"{_NAME} shed: {{{{reason}}}}"),
            ),
            unit="reqps",
            low=0,
        ),
        Panel(
            "Queue and engine, p99",
            "timeseries",
            f"{server.QUEUE_SECONDS.help} {server.COMPUTE_SECONDS.help}",
            (
                _quantile(0.99, server.QUEUE_SECONDS),
                _quantile(0.99, server.COMPUTE_SECONDS),
            ),
            unit="s",
            log=True,
        ),
        Panel(
            "Rows in a batch, on average",
            "timeseries",
            server.BATCH_ROWS.help,
            (Query(f"{rate(server.BATCH_ROWS, '_sum')} / {rate(server.BATCH_ROWS, '_count')}", _NAME),),
            low=0,
        ),
        Panel(
            "In flight and waiting",
            "timeseries",
            f"{server.IN_FLIGHT.help} {server.WAITING.help}",
            (
                Query(f"sum by (model, version) ({of(server.IN_FLIGHT)})", f"{_NAME} in flight"),
                Query(f"sum by (model, version) ({of(server.WAITING)})", f"{_NAME} waiting"),
            ),
            low=0,
        ),
        Panel(
            "Processor",
            "timeseries",
            server.CPU.help,
            (Query(f"rate({server.CPU.name}[{RATE}])", "{{instance}}"),),
            low=0,
        ),
        Panel("Memory", "timeseries", server.RSS.help, (Query(server.RSS.name, "{{instance}}"),), unit="bytes", low=0),
        Panel(
            "Workers, and whether all are ready",
            "timeseries",
            f"{server.WORKERS.help} {server.READY.help}",
            (Query(server.WORKERS.name, "{{instance}} workers"), Query(server.READY.name, "{{instance}} ready")),
            low=0,
        ),
    ),
)
MONITOR = Row(
    "The monitor itself",
    (
        Panel(
            "Scored requests",
            "timeseries",
            f"{the.SCORED.help} {the.UNSCORED.help}",
            (Query(rate(the.SCORED), f"{_NAME} scored"), Query(rate(the.UNSCORED), f"{_NAME} lost")),
            unit="reqps",
            low=0,
        ),
        Panel(
            "What is promised",
            "table",
            f"{the.RUN_LENGTH.help} {the.WINDOW_RATE.help} If scored requests are exchangeable with the reference.",
            (
                Query(of(the.RUN_LENGTH), "scored requests until a false alarm, at least"),
                Query(of(the.WINDOW), "scored requests of a window"),
                Query(of(the.WINDOW_RATE), "false alarms for each window"),
                Query(of(the.REFERENCE_SAMPLES), "samples of the reference"),
            ),
        ),
        Panel(
            "Since the last look; messages that wait",
            "timeseries",
            f"{the.UPDATED.help} {the.WEBHOOKS_WAITING.help}",
            (
                Query(f"time() - max by (model, version) ({of(the.UPDATED)})", f"{_NAME} seconds"),
                Query(the.WEBHOOKS_WAITING.name, "{{instance}} messages that wait"),
            ),
            low=0,
        ),
    ),
)

ROWS = (HEADLINE, DRIFT, QUALITY, RULES, SERVING, MONITOR)
