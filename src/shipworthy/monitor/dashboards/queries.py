"""How panels are described, and the queries that they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

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


def quantile(share: float, family: Family) -> Query:
    inside = rate(family, "_bucket", "le, model, version")
    return Query(f"histogram_quantile({share}, {inside})", f"{{{{model}}}}:{{{{version}}}} p{share * 100:g}")


def highest(family: Family, by: str) -> str:
    return f"max by (model, version, {by}) ({of(family)})"


def standing() -> str:
    """By detector. An alarm of drift is that of one node; one of the quality is the same on all of them."""
    by, alarms = "by (model, version, detector)", of(the.ALARMS).removesuffix("}")
    return f'sum {by} ({alarms}, detector!="quality"}}) or max {by} ({alarms}, detector="quality"}})'


NAME = "{{model}}:{{version}}"
SIGNAL = f"{NAME} {{{{signal}}}}"
