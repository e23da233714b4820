"""`shipworthy push`: a package becomes the next version of its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import RegistryError
from .registry_option import AsJson, RegistryUrl, Why, opened

NAME = "push"


def command(
    package: Annotated[Path, typer.Argument(help="A package: a folder or a .ship file.")],
    alias: Annotated[
        list[str] | None,
        typer.Option(help="Let this alias name the new version, such as champion (may be given again)."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="key=value to keep with it (may be given again).")] = None,
    why: Why = "",
    parent: Annotated[int | None, typer.Option(help="Number of the version that it was made from.", min=1)] = None,
    artifacts: Annotated[
        str | None,
        typer.Option(help="Where a new registry keeps files: a folder or s3://bucket/prefix. Later it is remembered."),
    ] = None,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Audit a package and register it as the next version of the model that its manifest names."""
    from .registry_show import print_pushed, version_data

    tags = dict(map(_pair, tag or []))
    with opened(registry, create=True, artifacts=artifacts) as opened_registry:
        version = opened_registry.register(package, aliases=alias or [], tags=tags, parent=parent, why=why)
    if as_json:
        typer.echo(json.dumps(version_data(version), indent=2))
    else:
        print_pushed(version)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise RegistryError(f"--tag {text!r}", "is no key=value", "write it as --tag data=2026-11")
    return key, value
