"""`shipworthy show`: everything of a version, or of a model as a whole."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .registry_option import AsJson, RegistryUrl, opened

NAME = "show"


def command(
    name: Annotated[
        str, typer.Argument(help="digits for the model as a whole; digits@ALIAS or digits:NUMBER for one version.")
    ],
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show all of a version: figures, variants, evidence, where it comes from, what happened to it. Or of a model."""
    from .registry_details import (
        collect_model,
        collect_version,
        model_details_data,
        print_model_details,
        print_version_details,
        version_details_data,
    )

    with opened(registry) as opened_registry:
        if "@" in name or ":" in name:
            version = collect_version(opened_registry, name)
            if as_json:
                typer.echo(json.dumps(version_details_data(version), indent=2))
            else:
                print_version_details(version)
            return
        model = collect_model(opened_registry, name)
    if as_json:
        typer.echo(json.dumps(model_details_data(model), indent=2))
    else:
        print_model_details(model)
