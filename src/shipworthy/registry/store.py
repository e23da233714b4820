"""Where a registry keeps its packages: chosen when it is made, and remembered in its database."""

from __future__ import annotations

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


def open_store(database: Database, artifacts: str | None) -> Blobs:
    """The store that the registry was made with; a new registry takes `artifacts`, or the place beside its file.

    Raises RegistryError where another place is given than it was made with, or none for a new one on a server."""
    location = database.location
    wanted = None if artifacts is None else _normal(artifacts, location)
    with database.read() as connection:
        kept = _kept(connection)
    if _ARTIFACTS not in kept:
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
    location = database.location
    if wanted is None and location.blobs is None:
        remedy = "give artifacts, such as s3://bucket/prefix or a folder that every host has"
        raise RegistryError(location.shown, "is new, and does not know where to keep packages", remedy)
    chosen = wanted if wanted is not None else _BESIDE
    blobs = Blobs(_place(chosen, location))
    if blobs.owner() is not None:
        with database.read() as connection:
            if not _kept(connection):
                raise RegistryError(blobs.url, "keeps the packages of another registry", "give a place of its own")
    blobs.try_writing()  # what is remembered from now on must not be a place that cannot be used
    own = uuid4().hex

    def work(connection: Connection) -> dict[str, str]:
        kept = _kept(connection)
        if kept:
            return kept
        rows = {_ID: own, _ARTIFACTS: chosen}
        connection.execute(settings.insert(), [{"key": key, "value": value} for key, value in rows.items()])
        return rows

    kept = database.transact(work, repeatable=True)
    if kept[_ID] == own:
        blobs.claim(own)
    return kept


def _kept(connection: Connection) -> dict[str, str]:
    rows = connection.execute(select(settings).where(settings.c.key.in_((_ID, _ARTIFACTS))))
    return {row.key: row.value for row in rows}


def _normal(artifacts: str, location: Location) -> str:
    if not artifacts:
        raise RegistryError("artifacts", "is empty", "leave it out, or give a folder or s3://bucket/prefix")
    if "://" in artifacts:
        return artifacts.rstrip("/")
    folder = Path(artifacts).expanduser().absolute()
    return _BESIDE if folder == location.blobs else str(folder)


def _place(chosen: str, location: Location) -> str:
    return str(location.blobs) if chosen == _BESIDE else chosen
