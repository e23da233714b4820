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
from .tables import fitting, print_table, table, visible, visible_text

if TYPE_CHECKING:
    from rich.table import Table

    from ..registry import Event, Freed, Live, Model, Version

WHEN = "when (UTC)"
_FIRST_TO_GO = ("throughput", "p99", "drop at most", "why", "size", "p50")
"""Columns of a list of versions that a narrow screen does without."""


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


def print_models(models: Sequence[Model], where: str) -> None:
    """`where` is the registry as it may be shown, without a password."""
    if not models:
        typer.echo(f"{visible(where)} has no model yet; next: shipworthy push PACKAGE")
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
    measured = [_cells(version) for version in versions]
    numbers = list(dict.fromkeys(head for cells in measured for head in cells))
    rows = [{**_row(version), **cells} for version, cells in zip(versions, measured, strict=True)]
    heads = ["version", "aliases", *numbers, WHEN, "who", *["why"] * any(version.why for version in versions)]
    heads = fitting(rows, heads, _FIRST_TO_GO)
    made = table(title, *heads, right=numbers, whole=("version", "aliases", WHEN))
    for version, row in zip(versions, rows, strict=True):
        made.add_row(*(Text(row.get(head, "")) for head in heads), style="dim" if version.deleted else "")
    print_table(made)


def _row(version: Version) -> dict[str, str]:
    return {
        "version": version.name,
        "aliases": "deleted" if version.deleted else ", ".join(version.aliases),
        WHEN: show_moment(version.created)[: -len(":00")],
        "who": visible(version.who),
        "why": visible(version.why),
    }


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


def print_moved(event: Event, *, already: bool = False) -> None:
    """`digits@champion names digits:3, in place of digits:2`; `already` where nothing had to be moved for that."""
    now = f"{event.model}@{event.alias} names {event.model}:{event.version}"
    if already:
        typer.echo(f"{now} already, since {show_moment(event.at)} UTC")
    elif event.previous is None:
        typer.echo(f"{now}, where it named none")
    else:
        typer.echo(f"{now}, in place of {event.model}:{event.previous}")


def print_events(events: Sequence[Event], model: str | None) -> None:
    if not events:
        typer.echo("nothing has happened" + (f" to {model}" if model else ""))
        return
    print_table(events_table(events, one_model=model is not None))


def events_table(events: Sequence[Event], title: str = "", *, one_model: bool = True) -> Table:
    made = table(title, WHEN, "what", "who", "why", whole=(WHEN, "what"))
    for event in events:
        made.add_row(*map(Text, (show_moment(event.at), told(event, one_model), event.who, event.why)))
    return made


def told(event: Event, one_model: bool) -> str:
    """An event as a few words: `champion: 2 → 3`, `champion: 3 → 2, back`, `digits:3 registered`."""
    from ..registry.log import MOVED
    from ..registry.moving import ROLLBACK

    if event.kind == MOVED:
        alias = event.alias if one_model else f"{event.model}@{event.alias}"
        back = ", back" if event.details.get(ROLLBACK) else ""
        return f"{alias}: {_number(event.previous)} → {_number(event.version)}{back}"
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
    if not (freed.packages or freed.blobs):
        typer.echo("there is nothing to free")
        return
    verb = "would free" if freed.dry_run else "freed"
    counts = f"{count(len(freed.packages), 'package')}, {count(len(freed.blobs), 'file')}"
    typer.echo(f"{verb} {counts}, {freed.size / 1e6:.3g} MB")


def count(number: int, what: str) -> str:
    """`1 version`, `3 versions`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def say(text: Text) -> None:
    """A line that a pipe gets unfolded."""
    console = Console()
    console.print(visible_text(text), soft_wrap=not console.is_terminal)


def _number(number: int | None) -> str:
    return "–" if number is None else str(number)
