"""Alert rules of Prometheus. None of them looks at a rule of thumb: those keep no rate of false alarms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ...server.observe import families as server
from .. import families as the

_WHO = "{{ $labels.model }}:{{ $labels.version }}"
_BY = "by (model, version)"
_ON = "by (model, version, instance)"
"""One node that sees nothing is not hidden by others that do."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert, with what whoever is woken by it needs to know."""

    name: str
    expression: str
    lasting: str
    severity: Literal["critical", "warning", "info"]
    summary: str
    description: str


DRIFT = (
    Rule(
        "ShipworthyDrift",
        f'sum by (model, version, detector) ({the.ALARMS.name}{{detector=~"sequential|window"}}) > 0',
        "0m",
        "warning",
        f"{_WHO}: inputs or answers have drifted from the reference",
        "The {{ $labels.detector }} detector has raised {{ $value }} alarm(s) that nobody has acknowledged. It keeps "
        "its own rate of false alarms, so there is nothing to wait for. See what has moved, by how much and since "
        "when: shipworthy monitor report {{ $labels.model }} --out report.html",
    ),
    Rule(
        "ShipworthyQualityBelowLevel",
        f"max by (model, version, metric) ({the.QUALITY_BELOW.name}) == 1",
        "0m",
        "critical",
        f"{_WHO}: {{{{ $labels.metric }}}} is proven to be below the level that it was accepted at",
        "The labels that have come prove it. Consider going back: shipworthy rollback {{ $labels.model }}",
    ),
)
MONITOR = (
    Rule(
        "ShipworthyMonitorSilent",
        f"time() - max {_ON} ({the.UPDATED.name}) > 300 and sum {_ON} (rate({server.REQUESTS.name}[5m])) > 0",
        "0m",
        "warning",
        f"{_WHO} on {{{{ $labels.instance }}}}: requests come, and the monitor has not looked for five minutes",
        "Drift would not be seen. Its process is started again when it dies; the log of the server says why it did.",
    ),
    Rule(
        "ShipworthyMonitorLosesRows",
        f"sum {_BY} (rate({the.UNSCORED.name}[15m])) > "
        f"0.1 * sum {_BY} (rate({the.SCORED.name}[15m]) + rate({the.UNSCORED.name}[15m]))",
        "15m",
        "info",
        f"{_WHO}: more than a tenth of the rows that were chosen are lost",
        "The monitor is too slow for them. Promises hold for what is scored; alarms come later. Score fewer "
        "requests a second, or give the host a core more.",
    ),
    Rule(
        "ShipworthyWebhooksFail",
        f"{the.WEBHOOKS_WAITING.name} > 0",
        "15m",
        "warning",
        "Messages about alarms are not delivered",
        "{{ $value }} message(s) wait on {{ $labels.instance }}; they are tried again for a day. The log of the server "
        "says what the receiver answers.",
    ),
)
SERVING = (
    Rule(
        "ShipworthyNotReady",
        f"min by (instance) ({server.READY.name}) == 0",
        "2m",
        "critical",
        "{{ $labels.instance }} is not ready",
        "A worker of the server does not come up, or comes up again and again; its log says why.",
    ),
    Rule(
        "ShipworthyErrors",
        f'sum {_BY} (rate({server.FAILED.name}{{fault="server"}}[5m])) > '
        f"0.01 * sum {_BY} (rate({server.REQUESTS.name}[5m]))",
        "5m",
        "critical",
        f"{_WHO}: more than 1 % of the requests fail by fault of the server",
        "{{ $value | humanize }} a second. The log of the server has the reason of each.",
    ),
    Rule(
        "ShipworthySheds",
        f"sum {_BY} (rate({server.SHED.name}[5m])) > 0.05 * sum {_BY} (rate({server.REQUESTS.name}[5m]))",
        "10m",
        "warning",
        f"{_WHO}: more than 5 % of the requests are refused, because there is no room or no time for them",
        "{{ $value | humanize }} a second. More workers, more hosts, or a longer latency target.",
    ),
)
GROUPS = {"shipworthy-drift": DRIFT, "shipworthy-monitor": MONITOR, "shipworthy-serving": SERVING}


def rules_yaml() -> str:
    """A file for `rule_files` of Prometheus. Texts are quoted as JSON, which is YAML too."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Made by: shipworthy monitor dashboards"
    yield "groups:"
    for group, rules in GROUPS.items():
        yield f"  - name: {group}"
        yield "    rules:"
        for rule in rules:
            yield f"      - alert: {rule.name}"
            yield f"        expr: {_quoted(rule.expression)}"
            yield f"        for: {rule.lasting}"
            yield "        labels:"
            yield f"          severity: {rule.severity}"
            yield "        annotations:"
            yield f"          summary: {_quoted(rule.summary)}"
            yield f"          description: {_quoted(rule.description)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
