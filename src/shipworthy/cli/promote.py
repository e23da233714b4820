"""`shipworthy promote`: let an alias name a version."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..errors import RegistryError
from .registry_option import AsJson, RegistryUrl, Replaces, Why, opened

NAME = "promote"


def command(
    name: Annotated[str, typer.Argument(help="digits:NUMBER, or digits@ALIAS for the version that it names.")],
    alias: Annotated[str, typer.Option(help="The alias that will name it.")] = "champion",
    replaces: Replaces = None,
    why: Why = "",
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Let an alias name this version. Servers that follow the alias take it up within seconds.

    Refused where somebody else moved the alias meanwhile."""
    from .registry_show import event_data, print_moved

    with opened(registry) as opened_registry:
        if not {"@", ":"} & set(name):
            newest = opened_registry.list_versions(name, limit=1)
            say = f"say which: shipworthy promote {newest[0].name if newest else name + ':NUMBER'}"
            raise RegistryError(name, "names a model and no version of it", say)
        version = opened_registry.version(name)
        expected = opened_registry.aliases(version.model).get(alias) if replaces is None else (replaces or None)
        last = opened_registry.newest_event()
        event = opened_registry.move(version.model, alias, version.number, expected=expected, why=why)
    if as_json:
        typer.echo(json.dumps(event_data(event), indent=2))
    else:
        print_moved(event, already=event.number <= last)
