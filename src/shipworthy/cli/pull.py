"""`shipworthy pull`: a version as a file."""

from __future__ import annotations

import filecmp
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import RegistryError
from .registry_option import RegistryUrl, opened

if TYPE_CHECKING:
    from ..registry import Registry, Version

NAME = "pull"


def command(
    name: Annotated[str, typer.Argument(help="digits (its champion), digits@ALIAS or digits:NUMBER.")],
    to: Annotated[str | None, typer.Argument(help="File or folder to write to. Default: NAME-NUMBER.ship.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    registry: RegistryUrl = None,
) -> None:
    """Write a version of the registry as a .ship file, audited, byte for byte as it was pushed."""
    from ..registry.cache import check_plain, writing
    from .places import check_file

    with opened(registry) as opened_registry:
        version = opened_registry.version(name)
        with writing(Path(to or ".")):
            target = _target(to, f"{version.model}-{version.number}.ship")
            check_file(target)
            check_plain(target)
            there = os.path.lexists(target)
        if there and not force:
            _check_same(opened_registry, version, target)
            typer.echo(f"{target} is {version.name} already")
            return
        typer.echo(f"wrote {opened_registry.pull(version.name, target)}, which is {version.name}")


def _target(to: str | None, file: str) -> Path:
    """Where it goes: what ends in a slash must be a folder, which is easily mistyped."""
    if to is None:
        return Path(file)
    if to.endswith(os.sep) and not Path(to).is_dir():
        raise RegistryError(to, "is no folder", f"make it first: mkdir -p {to}")
    return Path(to) / file if Path(to).is_dir() else Path(to)


def _check_same(registry: Registry, version: Version, target: Path) -> None:
    """Raises RegistryError where the file that is there would become another one."""
    with tempfile.TemporaryDirectory(prefix="shipworthy-") as folder:
        wanted = registry.pull(version.name, Path(folder) / "wanted.ship")
        try:
            same = target.is_file() and filecmp.cmp(wanted, target, shallow=False)
            reason = f"is there already, and is not {version.name}"
        except OSError as error:
            same, reason = False, f"is there already, and cannot be read: {error.strerror or error}"
        if not same:
            raise RegistryError(str(target), reason, "give another name, or write over it: --force")
