"""What every verb of the registry shares: where it is, and how it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from ..registry import Registry

RegistryUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="A folder, sqlite:/// or postgresql:// URL. Default: $SHIPWORTHY_REGISTRY, else ~/.shipworthy/registry.",
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Why: TypeAlias = Annotated[str, typer.Option(help="The reason, kept in the history.")]


@contextmanager
def opened(url: str | None, artifacts: str | None = None) -> Iterator[Registry]:
    """The registry, closed behind the verb. Raises RegistryError where it cannot be reached."""
    from ..registry import Registry

    registry = Registry(url, artifacts=artifacts)
    try:
        yield registry
    finally:
        registry.close()
