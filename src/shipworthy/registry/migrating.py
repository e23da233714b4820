"""Bringing a database to the revision that this version of Shipworthy works with.

An up-to-date database is told by one query, without Alembic, which takes longer to import than a registry to open. All
migrations run in one transaction, under the lock that every writer takes: of eight processes that open a new registry
at the same time one makes the tables, and the others find them; one that is killed meanwhile leaves nothing behind."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from ..errors import RegistryError
from .database import Database
from .location import Location
from .tables import VERSION_TABLE

_ONE_AT_A_TIME = threading.Lock()
"""What Alembic runs finds its connection in a global, so two registries of one process take turns."""
FOLDER = Path(__file__).with_name("migrations")


def newest_revision() -> str:
    """The number that the last migration's file starts with, such as `0002`."""
    return max(file.name[:4] for file in (FOLDER / "versions").glob("[0-9]*.py"))


def check_file_there(location: Location) -> None:
    """Raises RegistryError where the SQLite file is not there: to connect would make it."""
    if location.file is not None and not location.file.exists():
        raise _none_yet(location)


def _none_yet(location: Location) -> RegistryError:
    remedy = "name another with --registry or $SHIPWORTHY_REGISTRY, or begin this one: shipworthy push PACKAGE"
    return RegistryError(location.shown, "is no registry yet", remedy)


def bring_up_to_date(database: Database, *, create: bool = True) -> None:
    """Make or upgrade the tables; without `create`, only upgrade them, and nothing is written to find out. Raises
    RegistryError where the database is newer, or not a registry's."""
    newest = newest_revision()
    found = _quick_look(database)
    if found is None and not create:
        raise _none_yet(database.location)
    if found == newest:
        return
    if found is not None and found > newest:
        raise RegistryError(
            database.shown, f"has revision {found}, and this version knows {newest} at most", "update shipworthy"
        )
    database.ask(lambda connection: _check_free(connection, database.shown))
    database.keep_log()
    database.transact(lambda connection: _upgrade(connection, database.shown, newest))


def upgrade_to(connection: Connection, revision: str) -> None:
    """Run the migrations up to `revision` within the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _ONE_AT_A_TIME:
        command.upgrade(config, revision)


def _upgrade(connection: Connection, shown: str, newest: str) -> None:
    _check_free(connection, shown)
    upgrade_to(connection, newest)


def _check_free(connection: Connection, shown: str) -> None:
    """Raises RegistryError where another program has tables of the names that a new registry needs."""
    from . import rollout_tables  # with its own the metadata has all of them

    metadata = rollout_tables.rollouts.metadata
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE not in tables and tables & set(metadata.tables):
        taken = ", ".join(sorted(tables & set(metadata.tables)))
        raise RegistryError(
            shown, f"is no registry, and has tables of the same name: {taken}", "give an empty database"
        )


def _quick_look(database: Database) -> str | None:
    """The revision; None where there is no table that holds one."""
    try:
        return database.ask(_revision)
    except DBAPIError:  # a RegistryError, where the table is not what is missing
        if not database.ask(lambda connection: inspect(connection).has_table(VERSION_TABLE)):
            return None
        return database.ask(_revision)  # another process may have made it since


def _revision(connection: Connection) -> str | None:
    found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return found
