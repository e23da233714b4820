"""How two versions look side by side: on the terminal, in a pipe, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from .comparison import Change, Comparison, Figure, Side, Unit, Value, Verdict
from .registry_show import say, version_data
from .tables import print_table, screen_width, table

if TYPE_CHECKING:
    from ..registry import Version

_STYLES: dict[Verdict, str] = {"better": "green", "worse": "bold red", "same": "dim", "not compared": "dim"}
_WIDE = 110
"""Columns from which a note stands beside its number, not below it."""


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    return {
        "a": _side_data(comparison.a),
        "b": _side_data(comparison.b),
        "figures": [{**asdict(figure), "change": figure.change} for figure in comparison.figures],
        "variants": [asdict(change) for change in comparison.variants],
        "contract": [asdict(change) for change in comparison.contract],
        "measured_with": [asdict(change) for change in comparison.measured_with],
        "notes": list(comparison.notes),
    }


def _side_data(side: Side) -> dict[str, Any]:
    return {**version_data(side.version), "chosen": side.record.chosen, "built": side.record.created}


def print_comparison(comparison: Comparison) -> None:
    """Who and when, then figures, verdicts, the contract, and what it was measured with."""
    sides = comparison.a, comparison.b
    heads = [side.version.name for side in sides]
    about = [_about(side) for side in sides]
    _print_changes("versions", heads, [Change(key, about[0][key], about[1][key]) for key in about[0]])
    if comparison.figures:
        _print_figures(comparison.figures, heads)
    else:
        typer.echo("neither has figures of its chosen variant\n")
    _print_changes("candidates", heads, comparison.variants)
    if comparison.contract:
        _print_changes("contract, where it differs", heads, comparison.contract, missing="default")
    else:
        typer.echo("the contracts say the same")
    if comparison.measured_with:
        _print_changes("measured with, where it differs", heads, comparison.measured_with)
    for note in comparison.notes:
        say(Text(f"note: {note}", style="dim"))


def _about(side: Side) -> dict[str, str]:
    version = side.version
    return {
        "aliases": ", ".join(version.aliases),
        "chosen variant": side.record.chosen or "",
        **about_version(version),
        "built (UTC)": side.record.created.replace("T", " ").removesuffix("Z"),
    }


def about_version(version: Version) -> dict[str, str]:
    """Where a version comes from, in words; empty where it was not said."""
    from .moments import show_moment

    return {
        "registered (UTC)": show_moment(version.created),
        "by": version.who,
        "why": version.why,
        "made from": "" if version.parent is None else f"{version.model}:{version.parent}",
        "git commit": _commit(version.git_commit or ""),
        "parameters": "" if version.parameters is None else f"{version.parameters:,}",
        "tags": ", ".join(f"{key}={value}" for key, value in version.tags.items()),
        "package": version.digest[:12],
        "contract": version.contract_digest[:12],
    }


def _commit(text: str) -> str:
    """As short as git shows it; the `+` of changed files stays."""
    return text[:12] + "+" * (text.endswith("+") and len(text) > 12)


def _print_changes(title: str, heads: list[str], changes: Iterable[Change], missing: str = "–") -> None:
    """Rows that are empty on both sides are left out; where the sides differ, the right one is bold."""
    made = table(title, "", *heads, whole=("",))
    for change in changes:
        if change.a or change.b:
            style = "" if change.a == change.b else "bold"
            made.add_row(Text(change.what), Text(change.a or missing), Text(change.b or missing, style=style))
    print_table(made)


def _print_figures(figures: Iterable[Figure], heads: list[str]) -> None:
    made = table("the chosen variants, measured", "", *heads, "change", "", right=(*heads, "change"), whole=("",))
    for figure in figures:
        verdict = "" if figure.verdict == "not compared" else figure.verdict
        cells = [_number(figure.a, figure.unit), _number(figure.b, figure.unit), Text(_change(figure))]
        made.add_row(Text(figure.name), *cells, Text(verdict, style=_STYLES[figure.verdict]))
    print_table(made)


def _number(value: Value | None, unit: Unit) -> RenderableType:
    from ..select.report.figures import MISSING

    if value is None:
        return Text(MISSING)
    text = Text(written(value.number, unit))
    if not value.note:
        return text
    if screen_width() >= _WIDE:
        return text.append(f" ({value.note})", style="dim")
    return Group(text, Text(value.note, style="dim"))


def written(number: float, unit: Unit) -> str:
    """A figure with its unit, as reports write it."""
    from ..select.report import figures

    writers = {
        "score": figures.score,
        "drop": figures.drop,
        "ms": figures.milliseconds,
        "MB": figures.megabytes,
        "/s": figures.rate,
        "×": figures.ratio,
        "s": figures.duration,
    }
    return writers[unit](number)


def _change(figure: Figure) -> str:
    from ..select.report import figures

    if figure.change is None:
        return ""
    if figure.unit in ("score", "drop"):
        return figures.drop(figure.change)
    return "0" if figure.change == 0 else f"{100 * figure.change:+.1f} %".replace("-", "−")
