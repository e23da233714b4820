"""Tables: drawn and coloured on a terminal, bare columns where the output is piped."""

from __future__ import annotations

import io
from collections.abc import Iterable

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

_UNFOLDED = 4096
"""Columns of a table that no screen bounds: one row stays one line."""


def table(title: str, *columns: str, right: Iterable[str] = ()) -> Table:
    """A table with these heads; those that are also in `right` hold numbers."""
    made = Table(title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numbers = column in right
        made.add_column(column, overflow="fold", justify="right" if numbers else "left", no_wrap=numbers)
    return made


def print_table(made: Table) -> None:
    """Fitted to the terminal; in a pipe without a frame, and never folded, so that `grep` and `awk` see whole rows."""
    console = Console()
    if console.is_terminal:
        console.print(made)
        return
    made.box, made.title_style = None, ""
    text = io.StringIO()
    Console(file=text, width=_UNFOLDED, color_system=None).print(made)
    typer.echo("\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n" * bool(made.title))


def screen_width() -> int:
    """Columns of the terminal; as many as one likes in a pipe."""
    console = Console()
    return console.width if console.is_terminal else _UNFOLDED
