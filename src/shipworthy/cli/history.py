"""`shipworthy history`: what happened, and what was live at a point in time."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..errors import RegistryError
from .registry_option import AsJson, RegistryUrl, a_model, opened

NAME = "history"


def command(
    model: Annotated[str | None, typer.Argument(help="Only this model's. Default: all.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help='What was live then: 2026-11-22T14:00+01:00 (UTC without a zone), "2h ago", "yesterday 14:00".'
        ),
    ] = None,
    alias: Annotated[
        str | None, typer.Option(help="Only moves of this alias; with --at, the alias asked for (default: champion).")
    ] = None,
    limit: Annotated[int, typer.Option(help="Only so many events, the newest.", min=1)] = 50,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show what happened, the newest first; or with --at what was live then, since when, why and by whom."""
    from .moments import parse_moment
    from .registry_show import event_data, live_data, print_events, print_live

    if model is not None:
        a_model(model)
    moment = None if at is None else parse_moment("--at", at)
    with opened(registry) as opened_registry:
        if moment is None:
            events = opened_registry.history(model, alias=alias, limit=limit)
            if as_json:
                typer.echo(json.dumps([event_data(one) for one in events], indent=2))
            else:
                print_events(events, model)
            return
        if model is None:
            raise RegistryError("--at", "was given without a model", "name it: shipworthy history MODEL --at TIME")
        live = opened_registry.live(model, moment, alias=alias or "champion")
    if as_json:
        typer.echo(json.dumps(live_data(live), indent=2))
    else:
        print_live(model, alias or "champion", moment, live)
