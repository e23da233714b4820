"""`shipworthy promote`: let an alias name a version."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .registry_option import AsJson, RegistryUrl, Why, opened

NAME = "promote"


def command(
    name: Annotated[str, typer.Argument(help="digits:NUMBER, or digits@ALIAS for the version that it names.")],
    alias: Annotated[str, typer.Option(help="The alias that will name it.")] = "champion",
    why: Why = "",
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Let an alias name this version. Servers that follow the alias take it up within seconds.

    Refused where somebody else moved the alias meanwhile."""
    from .registry_show import event_data, print_moved

    with opened(registry) as opened_registry:
        event = opened_registry.promote(name, alias=alias, why=why)
    if as_json:
        typer.echo(json.dumps(event_data(event), indent=2))
    else:
        print_moved(event)
