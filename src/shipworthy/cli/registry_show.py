"""How the registry's answers look: on the terminal, in a pipe, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from .moments import show_moment
from .tables import print_table, screen_width, table

if TYPE_CHECKING:
    from rich.table import Table

    from ..registry import Event, Freed, Live, Model, Version

WHEN = "when (UTC)"
_WIDE = 110
"""Columns from which a reason has room beside the figures."""


def version_data(version: Version) -> dict[str, Any]:
    return {"name": version.name, **_plain(version)}


def event_data(event: Event) -> dict[str, Any]:
    return _plain(event)


def model_data(model: Model) -> dict[str, Any]:
    return _plain(model)


def live_data(live: Live | None) -> dict[str, Any] | None:
    return None if live is None else {"name": live.name, **_plain(live)}


def freed_data(freed: Freed) -> dict[str, Any]:
    return _plain(freed)


def _plain(record: Version | Event | Model | Live | Freed) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {
        name: value.isoformat() if isinstance(value, datetime) else dict(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
    }


def print_pushed(version: Version) -> None:
    typer.echo(version.name)
    aliases = f", {' and '.join(version.aliases)}" if version.aliases else ""
    size = "" if version.parameters is None else f", {version.parameters:,} parameters"
    figures = figures_line(version)
    say(Text(f"package {version.digest[:12]}{size}{aliases}{'; ' if figures else ''}{figures}", style="dim"))


def figures_line(version: Version) -> str:
    """`accuracy 0.9926, p50 0.0527 ms, size 0.504 MB`"""
    return ", ".join(f"{head} {cell}" for head, cell in _cells(version).items())


def print_models(models: Sequence[Model], url: str) -> None:
    if not models:
        typer.echo(f"{url} has no model yet; next: shipworthy push PACKAGE")
        return
    made = table("", "model", "versions", "newest", "champion", "other aliases", right=("versions",))
    for model in models:
        others = ", ".join(f"{alias} {number}" for alias, number in model.aliases.items() if alias != "champion")
        champion = model.aliases.get("champion")
        cells = (model.name, str(model.versions), _number(model.newest), _number(champion), others)
        made.add_row(*map(Text, cells))
    print_table(made)


def print_versions(model: str, versions: Sequence[Version], title: str = "") -> None:
    if not versions:
        typer.echo(f"{model} has no version that is not deleted; `shipworthy list {model} --deleted` shows those")
        return
    rows = {version.name: _cells(version) for version in versions}
    heads = list(dict.fromkeys(head for cells in rows.values() for head in cells))
    if screen_width() < _WIDE:
        heads = [head for head in heads if head not in ("throughput", "p99", "drop at most")]
    wide = ["why"] if screen_width() >= _WIDE and any(version.why for version in versions) else []
    made = table(title, "version", "aliases", *heads, WHEN, "who", *wide, right=heads)
    for version in versions:
        dead = version.deleted is not None
        about = [version.name, "deleted" if dead else ", ".join(version.aliases)]
        figures = [rows[version.name].get(head, "") for head in heads]
        cells = [*about, *figures, show_moment(version.created), version.who, *([version.why] if wide else [])]
        made.add_row(*(Text(cell) for cell in cells), style="dim" if dead else "")
    print_table(made)


def _cells(version: Version) -> dict[str, str]:
    """The figures that a row has room for, as they are written everywhere, by their column."""
    from ..select.report import figures

    shown = {
        name.removeprefix("metric."): figures.score(number)
        for name, number in version.metrics.items()
        if name.startswith("metric.")
    }
    writers = {
        "drop_upper": ("drop at most", figures.drop),
        "p50_ms": ("p50", figures.milliseconds),
        "p99_ms": ("p99", figures.milliseconds),
        "items_per_s": ("throughput", figures.rate),
        "size_mb": ("size", figures.megabytes),
    }
    for name, (head, write) in writers.items():
        if name in version.metrics:
            shown[head] = write(version.metrics[name])
    return shown


def print_moved(event: Event) -> None:
    """`digits@champion names digits:3 now, and no more digits:2`."""
    before = "where it named none" if event.previous is None else f"in place of {event.model}:{event.previous}"
    typer.echo(f"{event.model}@{event.alias} names {event.model}:{event.version}, {before}")


def print_events(events: Sequence[Event], model: str | None) -> None:
    if not events:
        typer.echo("nothing has happened" + (f" to {model}" if model else ""))
        return
    print_table(events_table(events))


def events_table(events: Sequence[Event], title: str = "") -> Table:
    made = table(title, WHEN, "what", "who", "why")
    for event in events:
        made.add_row(*map(Text, (show_moment(event.at), told(event), event.who, event.why)))
    return made


def told(event: Event) -> str:
    """An event as a few words: `digits@champion: 2 → 3`, `digits:3 registered`."""
    if event.alias is not None and (event.version is not None or event.previous is not None):
        return f"{event.model}@{event.alias}: {_number(event.previous)} → {_number(event.version)}"
    version = "" if event.version is None else f":{event.version}"
    return f"{event.model}{version} {event.kind.replace('-', ' ')}"


def print_live(model: str, alias: str, moment: datetime, live: Live | None) -> None:
    at = show_moment(moment)
    if live is None:
        typer.echo(f"at {at} UTC {model}@{alias} named no version")
        return
    reason = f": {live.why}" if live.why else "; no reason was given"
    since = f"since {show_moment(live.since)} UTC, by {live.who}"
    say(Text.assemble(f"at {at} UTC {model}@{alias} was ", (live.name, "bold"), f", {since}{reason}"))


def print_freed(freed: Freed) -> None:
    verb = "would free" if freed.dry_run else "freed"
    typer.echo(f"{verb} {len(freed.packages)} packages: {len(freed.blobs)} files, {freed.size / 1e6:.3g} MB")


def say(text: Text) -> None:
    """A line that a pipe gets unfolded."""
    console = Console()
    console.print(text, soft_wrap=not console.is_terminal)


def _number(number: int | None) -> str:
    return "–" if number is None else str(number)
