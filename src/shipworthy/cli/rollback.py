"""`shipworthy rollback`: back to the version before."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .registry_option import AsJson, RegistryUrl, Replaces, Why, a_model, opened

NAME = "rollback"


def command(
    model: Annotated[str, typer.Argument(help="The model.")],
    alias: Annotated[str, typer.Option(help="The alias to set back.")] = "champion",
    replaces: Replaces = None,
    why: Why = "",
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Let an alias name what it named before the version that it names now.

    Refused where somebody else moved the alias meanwhile."""
    from .registry_show import event_data, print_moved

    with opened(registry) as opened_registry:
        named = opened_registry.aliases(a_model(model)).get(alias)
        expected = named if replaces is None else (replaces or None)
        event = opened_registry.rollback(model, alias=alias, expected=expected, why=why)
    if as_json:
        typer.echo(json.dumps(event_data(event), indent=2))
    else:
        print_moved(event)
