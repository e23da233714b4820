"""`shipworthy gc`: free what no version needs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .registry_option import AsJson, RegistryUrl, opened

NAME = "gc"


def command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
    older_than: Annotated[
        str, typer.Option(help="Spare what was stored later than so long ago: a push may be under way.")
    ] = "1h",
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Free the files that no version needs: those of deleted versions, and of pushes that were broken off."""
    from .moments import parse_span
    from .registry_show import freed_data, print_freed

    span = parse_span("--older-than", older_than)
    with opened(registry) as opened_registry:
        freed = opened_registry.gc(older_than=span, dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(freed_data(freed), indent=2))
    else:
        print_freed(freed)
