"""Where `shipworthy monitor` looks: a server that runs, or the place where its monitor remembers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ..errors import MonitorError, RegistryError

if TYPE_CHECKING:
    from ..monitor import States, View
    from ..monitor.sources import Source

Server: TypeAlias = Annotated[
    str | None, typer.Option(help="Ask a server that runs, such as http://127.0.0.1:8000.", metavar="URL")
]
TokenFile: TypeAlias = Annotated[Path | None, typer.Option(help="File with the server's token.")]
Place: TypeAlias = Annotated[
    str | None, typer.Option(help="Folder or URL where monitors remember; default: beside the registry's files.")
]


def opened(server: str | None, token_file: Path | None, place: str | None, registry: str | None) -> Source:
    """Raises MonitorError where what was given cannot be meant together."""
    from ..monitor.sources import Remembered, Served

    if server is None:
        if token_file is not None:
            raise MonitorError("--token-file", "is for a server", "give --server too")
        return Remembered(states(place, registry))
    if place is not None or registry is not None:
        given = "--place" if place is not None else "--registry"
        raise MonitorError(given, "is not asked where a server is", "leave out one of both")
    return Served(server, None if token_file is None else _token(token_file))


def states(place: str | None, registry: str | None) -> States:
    from ..monitor import States
    from ..monitor.beside import place_of

    return States(place_of(place, registry))


def views_of(source: Source, model: str) -> list[View]:
    """The version that was looked at last first. Raises MonitorError where nothing of the model is watched."""
    views = source.views(model)
    if not views:
        known = ", ".join(source.models())
        remedy = f"these are: {known}" if known else "serve it: shipworthy serve PACKAGE --monitor-place FOLDER"
        raise MonitorError(model, "has not been watched", remedy)
    return sorted(views, key=lambda view: -view.updated)


def all_views(source: Source) -> list[View]:
    """Of all models; those of a server that are not watched are left out."""
    found = []
    for model in source.models():
        try:
            found += sorted(source.views(model), key=lambda view: -view.updated)
        except MonitorError as error:
            if "answers 404" not in error.reason:
                raise
    return found


def _token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(str(path), f"cannot be read: {error}", "give a text file with the token") from None
