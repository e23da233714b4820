"""What the dashboard shows: rows of panels, each made of metrics of the tables."""

from __future__ import annotations

from ...server.observe import families as server
from .. import families as the
from .queries import NAME, RATE, SIGNAL, Panel, Query, Row, highest, of, rate, standing
from .serving import SERVING

HEADLINE = Row(
    "At a glance",
    (
        Panel(
            "Alarms that stand",
            "stat",
            the.ALARMS.help,
            (Query(f"sum by (model, version) ({standing()})", NAME),),
            width=6,
            height=5,
            line=1,
        ),
        Panel(
            "Evidence of drift over its threshold",
            "stat",
            the.EVIDENCE.help,
            (Query(f"max by (model, version) ({of(the.EVIDENCE)})", NAME),),
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
                Query(highest(the.QUALITY, "metric"), f"{NAME} {{{{metric}}}}"),
                Query(highest(the.QUALITY_LEVEL, "metric"), f"{NAME} accepted at"),
            ),
            width=6,
            height=5,
            unit="percentunit",
        ),
        Panel(
            "Requests",
            "stat",
            server.REQUESTS.help,
            (Query(rate(server.REQUESTS), NAME),),
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
            (Query(f"max by (model, version) ({of(the.EVIDENCE)})", NAME),),
            width=12,
            height=9,
            log=True,
            line=1,
        ),
        Panel(
            "Evidence by signal",
            "timeseries",
            the.SIGNAL_EVIDENCE.help,
            (Query(highest(the.SIGNAL_EVIDENCE, "signal"), SIGNAL),),
            width=12,
            height=9,
            log=True,
            line=1,
        ),
        Panel(
            "Alarms that stand, by detector",
            "timeseries",
            the.ALARMS.help,
            (Query(standing(), f"{NAME} {{{{detector}}}}"),),
            low=0,
        ),
        Panel(
            "The change is estimated to have begun",
            "stat",
            the.BEGAN.help,
            (Query(f"min by (model, version) ({of(the.BEGAN)}) * 1000", NAME),),
            unit="dateTimeAsIso",
        ),
        Panel(
            "p-values of the last window",
            "timeseries",
            the.P_VALUE.help,
            (Query(f"min by (model, version, signal) ({of(the.P_VALUE)})", SIGNAL),),
            log=True,
        ),
        Panel(
            "Distance from the reference",
            "bargauge",
            the.DISTANCE.help,
            (Query(highest(the.DISTANCE, "signal"), SIGNAL),),
            width=12,
            height=9,
            low=0,
            high=1,
        ),
        Panel(
            "Mean of signals, less that of the reference",
            "timeseries",
            f"{the.MEAN.help} {the.REFERENCE_MEAN.help}",
            (Query(f"avg by (model, version, signal) ({of(the.MEAN)} - {of(the.REFERENCE_MEAN)})", SIGNAL),),
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
                Query(highest(the.QUALITY, "metric"), f"{NAME} {{{{metric}}}}"),
                Query(highest(the.QUALITY_LOWER, "metric"), f"{NAME} lower"),
                Query(highest(the.QUALITY_UPPER, "metric"), f"{NAME} upper"),
                Query(highest(the.QUALITY_LEVEL, "metric"), f"{NAME} accepted at"),
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
                Query(f"avg by (model, version) ({of(the.ESTIMATE)})", f"{NAME} estimate"),
                Query(f"avg by (model, version) ({of(the.ESTIMATE_REFERENCE)})", f"{NAME} on the reference"),
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
            (Query(f"max by (model, version) (rate({of(the.LABELS)}[{RATE}]))", NAME),),
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
                    f"{NAME} {{{{rule}}}}",
                ),
            ),
            width=12,
            low=0,
        ),
        Panel(
            "PSI by signal",
            "timeseries",
            the.PSI.help,
            (Query(highest(the.PSI, "signal"), SIGNAL),),
            width=12,
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
            (Query(rate(the.SCORED), f"{NAME} scored"), Query(rate(the.UNSCORED), f"{NAME} lost")),
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
                Query(f"time() - max by (model, version) ({of(the.UPDATED)})", f"{NAME} seconds"),
                Query(the.WEBHOOKS_WAITING.name, "{{instance}} messages that wait"),
            ),
            low=0,
        ),
    ),
)
ROWS = (HEADLINE, DRIFT, QUALITY, RULES, SERVING, MONITOR)
