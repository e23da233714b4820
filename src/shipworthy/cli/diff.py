"""`shipworthy diff`: two versions' evidence side by side."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from .registry_option import AsJson, RegistryUrl, opened

if TYPE_CHECKING:
    from ..registry import Registry
    from .comparison import Side

NAME = "diff"


def command(
    a: Annotated[str, typer.Argument(help="The version to compare with: digits, digits@ALIAS or digits:NUMBER.")],
    b: Annotated[str, typer.Argument(help="The version that is judged.")],
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Compare what was measured of two versions, each figure marked better or worse, and how their contracts differ."""
    from .comparison import compare
    from .registry_diff import comparison_data, print_comparison

    with opened(registry) as opened_registry:
        comparison = compare(side_of(opened_registry, a), side_of(opened_registry, b))
    if as_json:
        typer.echo(json.dumps(comparison_data(comparison), indent=2))
    else:
        print_comparison(comparison)


def side_of(registry: Registry, name: str) -> Side:
    """A version with what was measured of it."""
    from .comparison import Side

    version = registry.version(name)
    return Side(version, registry.evidence(version.name), registry.manifest(version.name).contract)
