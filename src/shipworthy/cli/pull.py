"""`shipworthy pull`: a version as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .registry_option import RegistryUrl, opened

NAME = "pull"


def command(
    name: Annotated[str, typer.Argument(help="digits (its champion), digits@ALIAS or digits:NUMBER.")],
    to: Annotated[Path | None, typer.Argument(help="File or folder to write to. Default: NAME-NUMBER.ship.")] = None,
    registry: RegistryUrl = None,
) -> None:
    """Write a version of the registry as a .ship file, audited, byte for byte as it was pushed."""
    from .places import check_file

    with opened(registry) as opened_registry:
        version = opened_registry.version(name)
        file = f"{version.model}-{version.number}.ship"
        target = Path(file) if to is None else to / file if to.is_dir() else to
        check_file(target)
        typer.echo(f"wrote {opened_registry.pull(version.name, target)}, which is {version.name}")
