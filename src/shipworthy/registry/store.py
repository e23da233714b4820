"""Where a registry keeps its packages: chosen when it is made, and remembered in its database."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, select

from ..errors import RegistryError
from .blobs import Blobs
from .database import Database
from .location import Location
from .tables import settings

_ID = "id"
_ARTIFACTS = "artifacts"
_BESIDE = ""
"""Stands for the place beside the SQLite file, so that a registry's folder can be moved as a whole."""

_AZURE = ("abfs", "abfss", "az")
_CONTAINER = re.compile(
    r"(?:[a-z0-9][a-z0-9-]{1,61}[a-z0-9]|\$[a-z]+)@[a-z0-9]{3,24}\.(?:blob|dfs)\.core"
    r"\.(?:windows\.net|usgovcloudapi\.net|chinacloudapi\.cn)"
)
"""A container of an account on Azure, whose address has no place for a password. An account's key is longer, and has
upper-case letters: https://learn.microsoft.com/azure/storage/blobs/data-lake-storage-introduction-abfs-uri"""


def open_store(database: Database, artifacts: str | None, *, create: bool = True) -> Blobs:
    """The store that the registry was made with; a new registry takes `artifacts`, or the place beside its file.

    Raises RegistryError where another place is given than it was made with, or none for a new one on a server, and
    where nothing was settled yet and `create` is False."""
    location = database.location
    wanted = None if artifacts is None else _normal(artifacts, location)
    with database.read() as connection:
        kept = _kept(connection)
    if _ARTIFACTS not in kept:
        if not create:
            remedy = "name another with --registry or $SHIPWORTHY_REGISTRY, or begin this one: shipworthy push PACKAGE"
            raise RegistryError(location.shown, "is no registry yet", remedy)
        kept = _settle(database, wanted)
    chosen = kept[_ARTIFACTS]
    if wanted is not None and wanted != chosen:
        place = chosen or str(location.blobs)
        raise RegistryError(location.shown, f"keeps its packages in {place}", "leave out the other place that is given")
    return Blobs(_place(chosen, location))


def claim(database: Database, blobs: Blobs) -> None:
    """Raises RegistryError where the blobs are another registry's, who needs what this one would free."""
    with database.read() as connection:
        own = _kept(connection)[_ID]
    blobs.claim(own)


def _settle(database: Database, wanted: str | None) -> dict[str, str]:
    """Choose the place, each step after the one that it needs: a process that ends in between leaves a registry that
    has an id and no place, and the next one goes on with the same id. No place is remembered that is not claimed."""
    location = database.location
    if wanted is None and location.blobs is None:
        remedy = "give artifacts, such as s3://bucket/prefix or a folder that every host has"
        raise RegistryError(location.shown, "is new, and does not know where to keep packages", remedy)
    chosen = wanted if wanted is not None else _BESIDE
    blobs = Blobs(_place(chosen, location))
    owner = blobs.owner()
    own = database.transact(lambda connection: _remember(connection, _ID, uuid4().hex), repeatable=True)[_ID]
    if owner in (None, own):
        blobs.try_writing()  # what is remembered from now on must not be a place that cannot be used
    blobs.claim(own)
    return database.transact(lambda connection: _remember(connection, _ARTIFACTS, chosen), repeatable=True)


def _remember(connection: Connection, key: str, value: str) -> dict[str, str]:
    """Keep the value, unless another process was first; and what is kept now."""
    kept = _kept(connection)
    if key not in kept:
        connection.execute(settings.insert(), {"key": key, "value": value})
        kept[key] = value
    return kept


def _kept(connection: Connection) -> dict[str, str]:
    rows = connection.execute(select(settings).where(settings.c.key.in_((_ID, _ARTIFACTS))))
    return {row.key: row.value for row in rows}


def _normal(artifacts: str, location: Location) -> str:
    if not artifacts:
        raise RegistryError("artifacts", "is empty", "leave it out, or give a folder or s3://bucket/prefix")
    if "://" in artifacts:
        _check_address(artifacts)
        return artifacts.rstrip("/")
    try:
        folder = Path(artifacts).expanduser().absolute()
    except RuntimeError as error:  # there is no such user, or this one has no home
        raise RegistryError(artifacts, " ".join(str(error).split()), "give the whole path of the folder") from None
    return _BESIDE if folder == location.blobs else str(folder)


def _check_address(address: str) -> None:
    """Raises RegistryError where packages would be gone with the process, or where a secret would be remembered."""
    protocol, _, rest = address.partition("://")
    authority, _, path = rest.partition("/")
    protocol = protocol.lower()
    if protocol in _AZURE:
        if "?" in rest:
            remedy = "leave out what follows it: credentials come from where the store's tools look"
            raise RegistryError("artifacts", "has a ? in its address, and would be remembered with a secret", remedy)
        if _CONTAINER.fullmatch(authority):
            return
    # A secret key may have a slash in it, and then what follows it is read as a path.
    if "@" in authority or (":" in authority and "@" in path):
        remedy = "leave out what is before it: credentials come from where the store's tools look"
        raise RegistryError("artifacts", "has an @ in its address, and would be remembered with a secret", remedy)
    if protocol == "memory":
        reason = "is gone when this process ends, and a registry is not"
        raise RegistryError(address, reason, "give a folder or s3://bucket/prefix")


def _place(chosen: str, location: Location) -> str:
    return str(location.blobs) if chosen == _BESIDE else chosen
