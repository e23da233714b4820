"""`shipworthy delete`: a version's tombstone."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .registry_option import AsJson, RegistryUrl, Why, opened

NAME = "delete"


def command(
    name: Annotated[str, typer.Argument(help="digits:NUMBER.")],
    why: Why = "",
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Delete a version. It stays in the history, its number is never given again, and `gc` frees its files.

    Refused while an alias or a running rollout names it."""
    from .registry_show import event_data

    with opened(registry) as opened_registry:
        event = opened_registry.delete(name, why=why)
    if as_json:
        typer.echo(json.dumps(event_data(event), indent=2))
    else:
        typer.echo(f"{event.model}:{event.version} is deleted; `shipworthy gc` frees what no other version needs")
