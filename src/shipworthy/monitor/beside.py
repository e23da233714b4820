"""Where states are, where nobody has said it: beside the registry's files."""

from __future__ import annotations

from pathlib import Path

from ..registry.location import locate_registry


def place_of(given: str | None, registry: str | Path | None) -> str:
    """The place that was given, else that of a registry, whose url None means the default one: `monitor` in its folder,
    `<file>.monitor` beside a SQLite file, `monitor` in the place of the packages for a server.

    Raises RegistryError where a server cannot be reached, or has no registry."""
    if given is not None:
        return given
    location = locate_registry(registry)
    if location.blobs is not None:
        return str(location.blobs.with_name(location.blobs.name.removesuffix("blobs") + "monitor"))
    from ..registry import Registry  # a file needs no database

    with Registry(registry, create=False) as opened:
        return f"{opened.blobs.url}/monitor"
