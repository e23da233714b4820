"""The pictures of a report, as Altair charts without data of their own outside the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ...evidence import BuildRecord
from ...pages import MUTED, altair, drawn, layered
from ...pages import chart_png as as_png
from . import figures, theme
from .view import Row, rows

if TYPE_CHECKING:
    import altair as alt

Values: TypeAlias = list[dict[str, Any]]
Picture: TypeAlias = Literal["tradeoff", "speed", "operating-points", "footprint"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with what a reader needs beside it."""

    name: str
    title: str
    note: str
    chart: alt.LayerChart


def figures_of(record: BuildRecord) -> list[Figure]:
    """The build's pictures that have something to show; one without data is left out."""
    shown = rows(record)
    made = (_tradeoff(shown), _footprint(shown), _speed(shown), _operating_points(shown))
    return [figure for figure in made if figure is not None]


def latency_curves(record: BuildRecord) -> list[tuple[Row, alt.LayerChart]]:
    """One small chart for each candidate whose latency was measured, all on the same axes, eager behind each."""
    shown = [row for row in rows(record) if row.result.evidence.latency]
    points = [point for row in shown for point in row.result.evidence.latency]
    if not points:
        return []
    batches = sorted({point.batch for point in points})
    low, high = min(point.p50_ms for point in points), max(max(point.p99_ms, point.p50_ms) for point in points)
    eager = next((row for row in shown if row.verdict == "baseline"), None)
    return [(row, _latency_curve(row, eager, batches, (low, high))) for row in shown]


def chart_png(
    record: BuildRecord, picture: Picture = "tradeoff", *, width: int = 760, height: int = 380, scale: float = 2
) -> bytes:
    """One of the report's pictures as PNG on white, `width` × `height` points at `scale` pixels each.

    Raises ValueError where the record has nothing measured that this picture shows."""
    named = {figure.name: figure for figure in figures_of(record)}
    if picture not in named:
        raise ValueError(
            f"the record of {record.name!r} has no data for the picture {picture!r}; it has {sorted(named)}"
        )
    return as_png(named[picture].chart, width=width, height=height, scale=scale)


def _tradeoff(shown: Sequence[Row]) -> Figure | None:
    """Throughput against the metric; against the agreement with eager where no metric was measured."""
    by_metric = any(row.searched and row.throughput for row in shown)
    values = [
        _point(
            row,
            row.throughput.items_per_s,
            row.searched.candidate if by_metric and row.searched else row.parity.sqnr_db if row.parity else None,
        )
        for row in shown
        if row.throughput and (row.searched if by_metric else row.parity)
    ]
    if not values:
        return None
    splits = [f"{row.searched.name} ({row.searched.split})" for row in shown if row.searched]
    name = splits[0] if by_metric else "SQNR against eager, dB"
    chart = _scatter(
        values,
        "throughput, items per second",
        name,
        (True, False),
        _front(values, (1, 1)),
        f"Throughput against {name} of every candidate",
    )
    note = (
        "Up and to the right is better. The dashed line joins the candidates that no other beats on both; "
        "eager is the square."
    )
    return Figure("tradeoff", f"Throughput against {name}", note, chart)


def _footprint(shown: Sequence[Row]) -> Figure | None:
    values = [_point(row, row.size_mb, row.latency.p50_ms) for row in shown if row.size_mb is not None and row.latency]
    if not values:
        return None
    chart = _scatter(
        values,
        "size on disk, MB",
        "median latency, ms",
        (True, True),
        _front(values, (-1, -1)),
        "Size against latency of every candidate",
    )
    batch = min(row.latency.batch for row in shown if row.latency)
    return Figure(
        "footprint", "Size against latency", f"One stream, batch {batch}. Down and to the left is better.", chart
    )


def _point(row: Row, x: float | None, y: float | None) -> dict[str, Any]:
    return {"candidate": row.id, "verdict": row.verdict, "x": x, "y": y, "reason": row.reason}


def _front(values: Values, direction: tuple[int, int]) -> Values:
    """The points that no other beats in both directions, in the order of x. Rejected candidates do not count."""
    able = [value for value in values if value["verdict"] in ("chosen", "accepted", "baseline")]
    able.sort(key=lambda value: (-direction[0] * value["x"], -direction[1] * value["y"]))
    front: Values = []
    for value in able:
        if not front or direction[1] * value["y"] > direction[1] * front[-1]["y"]:
            front.append(value)
    return front


def _scatter(values: Values, x: str, y: str, log: tuple[bool, bool], front: Values, description: str) -> alt.LayerChart:
    alt = altair()

    def axis(channel: Any, field: str, title: str, logarithmic: bool) -> Any:
        scale = (
            alt.Scale(type="log", nice=False, padding=64)
            if logarithmic
            else alt.Scale(zero=False, nice=False, padding=64)
        )
        ticks = alt.Axis(tickCount=6, grid=False) if logarithmic else alt.Axis(tickCount=6, format=".4~r")
        return channel(f"{field}:Q", title=title, scale=scale, axis=ticks)

    where = {"x": axis(alt.X, "x", x, log[0]), "y": axis(alt.Y, "y", y, log[1])}
    line = (
        drawn(front)
        .mark_line(strokeDash=[4, 4], strokeWidth=1.2, color=MUTED, opacity=0.8)
        .encode(**where, order="x:Q")
    )
    dots = (
        drawn(values)
        .mark_point(size=130, filled=True, opacity=0.95)
        .encode(
            **where,
            color=theme.verdict_colour(legend=True),
            shape=theme.verdict_shape(legend=True),
            tooltip=["candidate:N", "verdict:N", alt.Tooltip("x:Q", title=x), alt.Tooltip("y:Q", title=y), "reason:N"],
        )
    )
    names = (
        drawn(_apart(values, front, log))
        .mark_text(align="left", angle=325, dx=9, dy=-5, fontSize=11)
        .encode(**where, text="candidate:N")
    )
    return layered(line, dots, names, description=description, height=340)


def _apart(values: Values, front: Values, log: tuple[bool, bool]) -> Values:
    """The points whose names can be written without covering another's; the rest are named when pointed at.

    The chosen one comes first, then eager, then the front."""

    def rank(value: Mapping[str, Any]) -> tuple[bool, bool, bool]:
        return value["verdict"] != "chosen", value["verdict"] != "baseline", value not in front

    def place(value: Mapping[str, Any]) -> tuple[float, ...]:
        return tuple(
            _share(value[axis], [other[axis] for other in values], logarithmic)
            for axis, logarithmic in zip("xy", log, strict=True)
        )

    named: Values = []
    for value in sorted(values, key=rank):
        x, y = place(value)
        if all(abs(x - other[0]) > 0.07 or abs(y - other[1]) > 0.12 for other in map(place, named)):
            named.append(value)
    return named


def _share(value: float, among: Sequence[float], logarithmic: bool) -> float:
    """Where on its axis a value stands, from 0 to 1."""
    scale = math.log if logarithmic else float
    low, high, at = scale(min(among)), scale(max(among)), scale(value)
    return (at - low) / (high - low) if high > low else 0.5


def _speed(shown: Sequence[Row]) -> Figure | None:
    """The paired ratio to eager with its interval, one row for each candidate."""
    measured = sorted((row for row in shown if row.speed), key=lambda row: -(row.speed.ratio if row.speed else 0))
    values = [
        {
            "candidate": row.id,
            "verdict": row.verdict,
            "ratio": row.speed.ratio,
            "lower": row.speed.lower,
            "upper": row.speed.upper,
            "label": figures.ratio(row.speed.ratio),
        }
        for row in measured
        if row.speed
    ]
    if not values:
        return None
    alt = altair()
    base = drawn(values).encode(y=_candidates(values))
    colour = theme.verdict_colour(legend=False)
    even = drawn([{"one": 1}]).mark_rule(strokeDash=[4, 4], color=MUTED).encode(x=alt.X("one:Q", title=None))
    rule = base.mark_rule(strokeWidth=2.5).encode(
        x=alt.X("lower:Q", title="times as fast as eager", scale=alt.Scale(zero=True, nice=True)),
        x2="upper:Q",
        color=colour,
    )
    tip = [
        "candidate:N",
        "verdict:N",
        alt.Tooltip("ratio:Q", format=".3f"),
        alt.Tooltip("lower:Q", format=".3f"),
        alt.Tooltip("upper:Q", format=".3f"),
    ]
    dots = base.mark_point(size=110, filled=True, opacity=1).encode(
        x="ratio:Q", color=colour, shape=theme.verdict_shape(legend=False), tooltip=tip
    )
    names = base.mark_text(align="left", dx=10, fontSize=11).encode(x="upper:Q", text="label:N")
    chart = layered(
        even,
        rule,
        dots,
        names,
        description="Speed of every candidate relative to eager, with its interval",
        height=_row_height(values),
    )
    return Figure(
        "speed",
        "Speed relative to eager",
        "Geometric mean over interleaved paired rounds, with 95 % bounds. The dashed line is eager.",
        chart,
    )


def _operating_points(shown: Sequence[Row]) -> Figure | None:
    """Throughput at every operating point, one row for each candidate."""
    measured = sorted(
        (row for row in shown if row.throughput), key=lambda row: -(row.throughput.items_per_s if row.throughput else 0)
    )
    values = [
        {
            "candidate": row.id,
            "verdict": row.verdict,
            "rate": point.items_per_s,
            "p99": point.p99_ms,
            "batch": point.point.batch,
            "point": f"{point.point.streams} × {point.point.batch}",
            "best": point == row.throughput,
        }
        for row in measured
        for point in row.result.evidence.throughput
    ]
    if not values:
        return None
    alt = altair()
    rate = alt.X("rate:Q", title="throughput, items per second", scale=alt.Scale(zero=True, nice=True))
    base = drawn(values).encode(y=_candidates(values))
    span = base.mark_rule(strokeWidth=1, opacity=0.5).encode(
        x=alt.X("min(rate):Q", title="throughput, items per second"),
        x2="max(rate):Q",
        color=theme.verdict_colour(legend=False),
    )
    size = alt.Size("batch:Q", scale=alt.Scale(type="log", range=[25, 220]), legend=None)
    tip = [
        "candidate:N",
        alt.Tooltip("point:N", title="streams × batch"),
        alt.Tooltip("rate:Q", format=",.0f"),
        alt.Tooltip("p99:Q", title="p99, ms", format=".3g"),
    ]
    dots = base.mark_circle(opacity=0.75).encode(
        x=rate, color=theme.verdict_colour(legend=False), size=size, tooltip=tip
    )
    names = (
        base.transform_filter("datum.best").mark_text(align="left", dx=12, fontSize=11).encode(x=rate, text="point:N")
    )
    chart = layered(
        span,
        dots,
        names,
        description="Throughput of every candidate at every operating point",
        height=_row_height(values),
    )
    return Figure(
        "operating-points",
        "Throughput by operating point",
        "Streams × batch; a larger dot is a larger batch. The best point of each is named.",
        chart,
    )


def _latency_curve(row: Row, eager: Row | None, batches: list[int], span: tuple[float, float]) -> alt.LayerChart:
    alt = altair()
    ticks = alt.Axis(values=batches, grid=False, labelExpr="datum.value", labelOverlap=True)
    x = alt.X(
        "batch:Q",
        title="batch",
        scale=alt.Scale(type="log", domain=[batches[0], max(batches[-1], batches[0] + 1)], nice=False),
        axis=ticks,
    )
    y = alt.Y(
        "p50:Q",
        title="ms",
        scale=alt.Scale(type="log", domain=[span[0], max(span[1], span[0] * 1.01)], nice=True),
        axis=alt.Axis(tickCount=4),
    )
    colour = theme.COLOURS[row.verdict]
    own = drawn(_curve(row))
    band = own.mark_area(opacity=0.2, color=colour).encode(x=x, y=y, y2="p99:Q")
    tip = [
        "batch:Q",
        alt.Tooltip("p50:Q", title="median, ms", format=".3g"),
        alt.Tooltip("p99:Q", title="p99, ms", format=".3g"),
        "runs:Q",
    ]
    line = own.mark_line(color=colour, strokeWidth=2, point={"color": colour, "size": 28}).encode(x=x, y=y, tooltip=tip)
    behind = (
        drawn(_curve(eager) if eager else [])
        .mark_line(color=theme.COLOURS["baseline"], strokeWidth=1.2, strokeDash=[3, 3])
        .encode(x=x, y=y)
    )
    return layered(behind, band, line, description=f"Latency of {row.id} by batch size", height=150)


def _curve(row: Row) -> Values:
    points = sorted(row.result.evidence.latency, key=lambda point: point.batch)
    return [{"batch": point.batch, "p50": point.p50_ms, "p99": point.p99_ms, "runs": point.runs} for point in points]


def _candidates(values: Values) -> Any:
    alt = altair()
    order = list(dict.fromkeys(value["candidate"] for value in values))
    return alt.Y("candidate:N", title=None, sort=order, axis=alt.Axis(grid=False, labelLimit=260, labelFontSize=12))


def _row_height(values: Values) -> int:
    return 30 * len({value["candidate"] for value in values}) + 10
