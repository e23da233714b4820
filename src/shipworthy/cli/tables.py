"""Tables: drawn and coloured on a terminal, bare columns where the output is piped."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ..registry.words import moves_the_cursor

_UNFOLDED = 4096
"""Columns of a table that no screen bounds: one row stays one line."""
_FOLDED = 20
"""Characters below which a text that may be folded is not squeezed."""
_BETWEEN = 3
"""Characters between two columns."""


class _Table(Table):
    """A table in whose cells no text moves the cursor, colours the screen or takes two lines."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        shown = (Text(visible(cell)) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*(visible_text(cell) if isinstance(cell, Text) else cell for cell in shown), **options)


def visible(text: str) -> str:
    """The text with a sign in place of every character that a terminal would obey: ␛ for escape, ␊ for a new line."""
    return "".join(_sign(character) if moves_the_cursor(character) else character for character in text)


def visible_text(text: Text) -> Text:
    """The same for a text that has colours of its own."""
    plain = visible(text.plain)
    if plain == text.plain:
        return text
    shown = text.copy()
    shown.plain = plain  # one sign for each character, so the colours stay where they are
    return shown


def _sign(character: str) -> str:
    if character == "\x7f":
        return "\u2421"
    return chr(0x2400 + ord(character)) if character < " " else "\ufffd"


def table(title: str, *columns: str, right: Collection[str] = (), whole: Collection[str] = ()) -> Table:
    """A table with these heads; columns in `right` hold numbers, and neither they nor those in `whole` are folded."""
    made = _Table(title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numbers = column in right
        made.add_column(
            column, overflow="fold", justify="right" if numbers else "left", no_wrap=numbers or column in whole
        )
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


def print_pairs(pairs: Mapping[str, str]) -> None:
    """What is known, one line each, with what it is in front of it."""
    made = _Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True, style="dim")
    made.add_column(overflow="fold")
    for key, value in pairs.items():
        made.add_row(Text(f"  {key}"), Text(value))
    print_table(made)


def fitting(rows: Iterable[Mapping[str, str]], heads: Sequence[str], first_to_go: Sequence[str]) -> list[str]:
    """The columns that the screen has room for: those in `first_to_go` are left out in that order until all fit."""
    cells = list(rows)
    widths = {head: max(len(head), *(_least(row.get(head, "")) for row in cells)) for head in heads}
    kept = list(heads)
    for head in first_to_go:
        if sum(widths[one] + _BETWEEN for one in kept) <= screen_width() + 1:
            break
        kept = [one for one in kept if one != head]
    return kept


def _least(text: str) -> int:
    """Texts of several words may be folded."""
    return min(len(text), _FOLDED) if len(text.split()) > 2 else len(text)


def screen_width() -> int:
    """Columns of the terminal; as many as one likes in a pipe."""
    console = Console()
    return console.width if console.is_terminal else _UNFOLDED
