"""Where a registry is: a folder, a SQLite file, or a PostgreSQL server."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from ..errors import MissingExtra, RegistryError

if TYPE_CHECKING:
    import ssl

VARIABLE = "SHIPWORTHY_REGISTRY"
_SSL_MODES = ("disable", "require", "verify-ca", "verify-full")
"""As libpq has them: https://www.postgresql.org/docs/current/libpq-ssl.html"""
_SOCKET = "unix_sock"
_OPTIONS = ("sslmode", "sslrootcert", _SOCKET, "password")
_ALMOST_URL = re.compile(r"[a-z][a-z0-9+.-]+:/|(postgres(ql)?|sqlite)(\+\w*)?:", re.IGNORECASE)
"""No folder, but a url with a typing error; it may hold a password."""
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
    ssl_mode: str | None = None
    """Of a server; None encrypts where the server can, and asks for no certificate."""
    ssl_root: str | None = None
    """File with the certificates that a server's must come from; None for those of the system."""


def default_url() -> str:
    """`$SHIPWORTHY_REGISTRY`, else `~/.shipworthy/registry`."""
    return os.environ.get(VARIABLE) or os.path.expanduser("~/.shipworthy/registry")  # noqa: PTH111 - Path's raises


def locate_registry(url: str | Path | None) -> Location:
    """Read what a user calls a registry; None is `default_url`. Raises RegistryError where it is none."""
    text = default_url() if url is None else str(url)
    if "://" not in text:
        if _ALMOST_URL.match(text):
            raise RegistryError("the registry", "its url has no // after the colon", _FORMS)
        return _folder(text)
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError):
        raise RegistryError("the registry", "its url cannot be read", _FORMS) from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return _sqlite(text, parsed)
    _check_signs(text, parsed)
    if kind in ("postgresql", "postgres"):
        return _postgresql(text, parsed)
    raise RegistryError(_shown(parsed), f"{kind!r} is no database that a registry can be in", _FORMS)


def _check_signs(text: str, parsed: URL) -> None:
    """Raises RegistryError, without the url, where a piece of the password is taken for the host or the database."""
    before_options = text.partition("?")[0]
    if before_options.count("@") > (parsed.username is not None) or "@" in (parsed.host or ""):
        remedy = "within the user, the password and the name of the database write %40 for an @, and %2F for a /"
        raise RegistryError("the registry", "its url has an @ where none can be", remedy)


def tls_of(location: Location) -> ssl.SSLContext | bool | None:
    """What the driver takes: False for none, None for where the server can. Raises RegistryError for a bad file."""
    if location.ssl_mode in (None, "disable"):
        return None if location.ssl_mode is None else False
    import ssl  # a registry on a disk needs none

    try:
        context = ssl.create_default_context(cafile=location.ssl_root)
    except OSError as error:
        reason = f"sslrootcert={location.ssl_root} cannot be read: {error.strerror or error}"
        raise RegistryError(location.shown, reason, "give a file with certificates in PEM") from None
    context.check_hostname = location.ssl_mode == "verify-full"
    # As with libpq, a root certificate makes `require` ask for it.
    checked = location.ssl_mode != "require" or location.ssl_root is not None
    context.verify_mode = ssl.CERT_REQUIRED if checked else ssl.CERT_NONE
    return context


def _path(text: str, shown: str) -> Path:
    """The absolute path. Raises RegistryError for what no path can be."""
    try:
        path = Path(text).expanduser().absolute()
        path.exists()
    except PermissionError as error:
        raise RegistryError(shown, f"cannot be looked into: {error.strerror}", "check the permissions") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: of a user who does not exist
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RegistryError(_short(shown), f"is no place for a registry: {reason}", _FORMS) from None
    if "\0" in text:
        raise RegistryError(repr(shown), "is no place for a registry: it has a NUL character", _FORMS)
    return path


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."


def _folder(text: str) -> Location:
    folder = _path(text, text)
    if not text or folder.is_file():
        reason = "is a file" if text else "is empty"
        raise RegistryError(text or "the registry", reason, "give a folder, or sqlite:///path/to/the/file")
    file = _path(f"{folder}/registry.db", text)
    return Location(str(folder), URL.create("sqlite", database=str(file)), str(folder), file, folder / "blobs")


def _sqlite(text: str, parsed: URL) -> Location:
    shown = text.partition("?")[0]
    if parsed.host is not None or parsed.username is not None:
        raise RegistryError("the registry", "its url names a host, and a file has none", _FORMS)
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise RegistryError(shown, "names no file", "a registry outlives the process: give sqlite:///path.db")
    if parsed.query:
        raise RegistryError(shown, "has options, and none is known here", "leave out what follows the question mark")
    file = _path(parsed.database, shown)
    url = URL.create("sqlite", database=str(file))
    return Location(f"sqlite:///{file}", url, f"sqlite:///{file}", file, file.with_name(file.name + ".blobs"))


def _postgresql(text: str, parsed: URL) -> Location:
    shown = _shown(parsed)
    driver = parsed.drivername.partition("+")[2]
    if driver not in ("", "pg8000"):
        raise RegistryError(shown, f"names the driver {driver!r}", "PostgreSQL is spoken with pg8000: leave the + out")
    if not parsed.database:
        raise RegistryError(shown, "names no database", "give postgresql://user@host/database")
    mode, root = _ssl_options(parsed, shown)
    if not parsed.username:
        raise RegistryError(shown, "names no user", "give postgresql://user@host/database")
    if find_spec("pg8000") is None:
        raise MissingExtra(f"the registry {shown}", "pg8000", "postgres")
    given = text
    if root is not None:
        root = str(_path(root, shown))
        given = parsed.update_query_dict({"sslrootcert": root}).render_as_string(hide_password=False)
    url = parsed.set(drivername="postgresql+pg8000").difference_update_query(["sslmode", "sslrootcert"])
    return Location(given, url, shown, None, None, mode, root)


def _ssl_options(parsed: URL, shown: str) -> tuple[str | None, str | None]:
    """`sslmode` and `sslrootcert`. Raises RegistryError for any option that is not known here."""
    for name, value in parsed.query.items():
        if name not in _OPTIONS:
            remedy = "leave it out; there are sslmode, sslrootcert and unix_sock"
            raise RegistryError(shown, f"has the option {name!r}, which is not known", remedy)
        if not isinstance(value, str):
            raise RegistryError(shown, f"has the option {name!r} more than once", "give it once")
    options = {name: value for name, value in parsed.query.items() if isinstance(value, str)}
    mode, root = options.get("sslmode"), options.get("sslrootcert")
    if mode is not None and mode not in _SSL_MODES:
        raise RegistryError(shown, f"has sslmode={mode}", f"give one of {', '.join(_SSL_MODES)}, or leave it out")
    if root is not None and mode in (None, "disable"):
        raise RegistryError(shown, "has an sslrootcert that nothing is checked with", "add sslmode=verify-full")
    return mode, root


def _shown(url: URL) -> str:
    unknown = [name for name in url.query if name not in _OPTIONS]  # another spelling of `password`, perhaps
    return url.difference_update_query(["password", *unknown]).render_as_string(hide_password=True)
