"""What every verb of the registry shares: where it is, and how it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ..errors import RegistryError

if TYPE_CHECKING:
    from ..registry import Registry

RegistryUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="A folder, sqlite:/// or postgresql:// URL. Default: $SHIPWORTHY_REGISTRY, else ~/.shipworthy/registry.",
    ),
]
PackageName: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="PACKAGE", help="A folder, a .ship file, or a name in the registry: digits, digits@ALIAS, digits:3."
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Replaces: TypeAlias = Annotated[
    int | None, typer.Option(help="Refuse unless the alias names this version now (0: none).", min=0)
]
Why: TypeAlias = Annotated[str, typer.Option(help="The reason, kept in the history.")]


@contextmanager
def opened(url: str | None, *, create: bool = False, artifacts: str | None = None) -> Iterator[Registry]:
    """The registry, closed behind the verb; only `create` makes one that is not there.

    Raises RegistryError where it cannot be reached."""
    from ..registry import Registry

    with Registry(url, artifacts=artifacts, create=create) as registry:
        yield registry


def a_model(name: str) -> str:
    """The name itself. Raises RegistryError where it names a version of a model."""
    model = name.partition("@")[0].partition(":")[0]
    if model != name:
        raise RegistryError(name, "names a version, and here a model is asked for", f"leave the rest out: {model}")
    return name
