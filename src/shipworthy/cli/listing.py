"""`shipworthy list`: what a registry has."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .registry_option import AsJson, RegistryUrl, a_model, opened

NAME = "list"


def command(
    model: Annotated[str | None, typer.Argument(help="Only this model's versions. Default: the models.")] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Also versions that were deleted.")] = False,
    limit: Annotated[int | None, typer.Option(help="Only so many versions, the newest.", min=1)] = None,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """List the models of a registry, or the versions of one with figures, aliases, when and by whom."""
    from .registry_show import model_data, print_models, print_versions, version_data

    with opened(registry) as opened_registry:
        if model is None:
            models = opened_registry.models()
            if as_json:
                typer.echo(json.dumps([model_data(one) for one in models], indent=2))
            else:
                print_models(models, opened_registry.database.shown)
            return
        versions = opened_registry.list_versions(a_model(model), deleted=deleted, limit=limit)
    if as_json:
        typer.echo(json.dumps([version_data(one) for one in versions], indent=2))
    else:
        print_versions(model, versions)
