"""Where a registry is: a folder, a SQLite file, or a PostgreSQL server."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from ..errors import MissingExtra, RegistryError

VARIABLE = "SHIPWORTHY_REGISTRY"
_FORMS = "give a folder, sqlite:///path/to/registry.db, or postgresql://user@host/database"


@dataclass(frozen=True, slots=True)
class Location:
    """A database, and the place of the packages where nobody chooses another."""

    given: str
    """What opens the same registry in another process: with the password, with an absolute path."""
    url: URL
    shown: str
    """For messages: without the password."""
    file: Path | None
    """The SQLite file; None for a server."""
    blobs: Path | None
    """Beside the SQLite file; a server has no such place."""


def default_url() -> str:
    """`$SHIPWORTHY_REGISTRY`, else `~/.shipworthy/registry`."""
    return os.environ.get(VARIABLE) or str(Path("~/.shipworthy/registry").expanduser())


def locate_registry(url: str | Path | None) -> Location:
    """Read what a user calls a registry; None is `default_url`. Raises RegistryError where it is none."""
    text = default_url() if url is None else str(url)
    if "://" not in text:
        return _folder(text)
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError):
        raise RegistryError("the registry", "its url cannot be read", _FORMS) from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return _sqlite(text, parsed)
    if kind in ("postgresql", "postgres"):
        return _postgresql(text, parsed)
    raise RegistryError(_shown(parsed), f"{kind!r} is no database that a registry can be in", _FORMS)


def _folder(text: str) -> Location:
    folder = Path(text).expanduser().absolute()
    if not text or folder.is_file():
        reason = "is a file" if text else "is empty"
        raise RegistryError(text or "the registry", reason, "give a folder, or sqlite:///path/to/the/file")
    file = folder / "registry.db"
    return Location(str(folder), URL.create("sqlite", database=str(file)), str(folder), file, folder / "blobs")


def _sqlite(text: str, parsed: URL) -> Location:
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise RegistryError(text, "names no file", "a registry outlives the process: give sqlite:///path.db")
    if parsed.query:
        raise RegistryError(text, "has options, and none is known here", "leave out what follows the question mark")
    file = Path(parsed.database).expanduser().absolute()
    url = URL.create("sqlite", database=str(file))
    return Location(f"sqlite:///{file}", url, f"sqlite:///{file}", file, file.with_name(file.name + ".blobs"))


def _postgresql(text: str, parsed: URL) -> Location:
    shown = _shown(parsed)
    driver = parsed.drivername.partition("+")[2]
    if driver not in ("", "pg8000"):
        raise RegistryError(shown, f"names the driver {driver!r}", "PostgreSQL is spoken with pg8000: leave the + out")
    if not parsed.database:
        raise RegistryError(shown, "names no database", "give postgresql://user@host/database")
    if find_spec("pg8000") is None:
        raise MissingExtra(f"the registry {shown}", "pg8000", "postgres")
    return Location(text, parsed.set(drivername="postgresql+pg8000"), shown, None, None)


def _shown(url: URL) -> str:
    return url.difference_update_query(["password"]).render_as_string(hide_password=True)
