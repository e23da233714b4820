"""The record as a table for the terminal, narrow enough for 80 columns."""

from __future__ import annotations

from collections import Counter

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ...evidence import BuildRecord
from . import figures
from .view import Row, ranked

_MOST_SKIPPED = 12
"""Candidates that were not tried and are listed one by one; more are only counted."""
_STYLES = {"chosen": "bold green", "accepted": "blue", "baseline": "dim", "rejected": "red", "skipped": "dim"}


def render_table(record: BuildRecord) -> Table:
    """Every candidate that was tried, with its verdict; below it, why others were turned down or not tried."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"{record.name}: {len(record.results)} candidates")
    table.title_justify, table.title_style = "left", "bold"
    table.add_column("candidate", overflow="fold", min_width=24)
    table.add_column("verdict", no_wrap=True)
    for head in ("× eager", "p50", "drop", "size"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in ranked(record):
        if row.verdict != "skipped":
            table.add_row(*_cells(row))
    table.caption = _reasons(record)
    table.caption_justify, table.caption_style = "left", ""
    return table


def _cells(row: Row) -> list[Text]:
    latency = row.latency
    cells = [
        row.id,
        row.verdict,
        figures.MISSING if row.speed is None else figures.ratio(row.speed.ratio),
        figures.milliseconds(None if latency is None else latency.p50_ms),
        figures.drop(None if row.metric is None else row.metric.drop),
        figures.megabytes(row.size_mb),
    ]
    style = _STYLES[row.verdict]
    return [Text(cell, style=style if index < 2 else "") for index, cell in enumerate(cells)]


def _reasons(record: BuildRecord) -> Text:
    """`[gate] reason` of each that was rejected or skipped; an engine's own words can be long, so they are cut."""
    text = Text()
    untried = Counter(row.result.gate or "search" for row in ranked(record) if row.verdict == "skipped")
    listed = ("rejected", "skipped") if untried.total() <= _MOST_SKIPPED else ("rejected",)
    for row in ranked(record):
        if row.verdict in listed:
            gate = f" by {row.result.gate}" if row.result.gate else ""
            text.append(row.id, style=_STYLES[row.verdict]).append(f": {row.verdict}{gate}: {_cut(row.reason)}\n")
    if "skipped" not in listed:
        counts = ", ".join(f"{count} by {gate}" for gate, count in untried.most_common())
        text.append(f"{untried.total()} candidates were not tried ({counts}); the report has the reason of each\n")
    return text


def _cut(reason: str, most: int = 200) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
