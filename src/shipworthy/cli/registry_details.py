"""Everything of one version, or of one model: collected from the registry, and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from .moments import show_moment
from .registry_diff import about_version
from .registry_show import (
    count,
    event_data,
    events_table,
    figures_line,
    live_data,
    print_versions,
    say,
    version_data,
)
from .show import print_evidence, print_variants
from .tables import print_pairs, print_table, table

if TYPE_CHECKING:
    from ..evidence import BuildRecord
    from ..package import Manifest
    from ..registry import Event, Live, Registry, Version

_MOST = 10
"""Versions and events of a model that are shown; `list` and `history` have all."""


@dataclass(frozen=True, slots=True)
class VersionDetails:
    version: Version
    manifest: Manifest | None
    """None for a deleted version, whose package may have been freed."""
    record: BuildRecord | None
    ancestors: tuple[str, ...]
    """What it was made from, what that was made from, and so on: the nearest."""
    descendants: tuple[str, ...]
    """What was made from it directly, the newest first."""
    events: tuple[Event, ...]
    """The newest first."""
    more: tuple[str, ...]
    """Which of these three go on behind the first `_MOST`."""


@dataclass(frozen=True, slots=True)
class ModelDetails:
    model: str
    live: tuple[Live, ...]
    """What each alias names, and since when."""
    count: int
    deleted: int
    """How many of its versions are."""
    versions: tuple[Version, ...]
    """The newest `_MOST`, also deleted ones, newest first."""
    events: tuple[Event, ...]


def collect_version(registry: Registry, name: str) -> VersionDetails:
    version = registry.version(name)
    ancestors = registry.ancestors(version, limit=_MOST + 1)
    descendants = registry.children(version, limit=_MOST + 1)
    events = registry.events_of(version, limit=_MOST + 1)
    parts: dict[str, Sequence[object]] = {"ancestors": ancestors, "descendants": descendants, "events": events}
    present = version.deleted is None
    return VersionDetails(
        version,
        registry.manifest(version.name) if present else None,
        registry.evidence(version.name) if present else None,
        tuple(f"{version.model}:{number}" for number in ancestors[:_MOST]),
        tuple(f"{version.model}:{number}" for number in descendants[:_MOST]),
        tuple(events[:_MOST]),
        tuple(name for name, part in parts.items() if len(part) > _MOST),
    )


def collect_model(registry: Registry, model: str) -> ModelDetails:
    lives = (registry.live(model, alias=alias) for alias in registry.aliases(model))
    return ModelDetails(
        model,
        tuple(live for live in lives if live is not None),
        *registry.counted(model),
        tuple(registry.list_versions(model, deleted=True, limit=_MOST)),
        tuple(registry.history(model, limit=_MOST)),
    )


def version_details_data(details: VersionDetails) -> dict[str, Any]:
    manifest, record = details.manifest, details.record
    return {
        **version_data(details.version),
        "ancestors": list(details.ancestors),
        "descendants": list(details.descendants),
        "events": [event_data(event) for event in details.events],
        "more": list(details.more),
        "variants": [] if manifest is None else [one.model_dump(mode="json") for one in manifest.variants],
        "evidence": None if record is None else record.model_dump(mode="json"),
    }


def model_details_data(details: ModelDetails) -> dict[str, Any]:
    return {
        "model": details.model,
        "count": details.count,
        "deleted": details.deleted,
        "live": [live_data(live) for live in details.live],
        "versions": [version_data(version) for version in details.versions],
        "events": [event_data(event) for event in details.events],
    }


def print_version_details(details: VersionDetails) -> None:
    version = details.version
    aliases = f", {' and '.join(version.aliases)}" if version.aliases else ""
    state = f", deleted {show_moment(version.deleted)} UTC" if version.deleted else ""
    say(Text.assemble((version.name, "bold"), aliases, (state, "red")))
    about = {key: value for key, value in about_version(version).items() if value}
    about["measured"] = figures_line(version)
    about["made from"] = " ← ".join((*details.ancestors, *["…"] * ("ancestors" in details.more)))
    about["made of it"] = ", ".join((*["…"] * ("descendants" in details.more), *reversed(details.descendants)))
    print_pairs({key: value for key, value in about.items() if value})
    typer.echo()
    if details.manifest is not None:
        print_variants(details.manifest)
    if details.record is not None:
        print_evidence(details.record)
        typer.echo()
    print_table(events_table(details.events, "what happened"))
    if "events" in details.more:
        typer.echo(f"and before: shipworthy history {version.model}")


def print_model_details(details: ModelDetails) -> None:
    dead = f", {details.deleted} of them deleted" if details.deleted else ""
    say(Text.assemble((details.model, "bold"), f", {count(details.count, 'version')}{dead}"))
    if details.live:
        made = table(
            "aliases", "alias", "version", "since (UTC)", "by", "why", whole=("alias", "version", "since (UTC)")
        )
        for live in details.live:
            made.add_row(*map(Text, (live.alias, live.name, show_moment(live.since), live.who, live.why)))
        print_table(made)
    print_versions(details.model, details.versions, title="versions")
    _more(details.count, f"shipworthy list {details.model}")
    print_table(events_table(details.events, "what happened"))


def _more(count: int, command: str) -> None:
    if count > _MOST:
        typer.echo(f"and {count - _MOST} older ones: {command}\n")
