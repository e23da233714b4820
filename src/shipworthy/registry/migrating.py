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
from .tables import metadata

VERSION_TABLE = "registry_revision"
"""Not Alembic's own default, which another program may use in the same database."""
_ONE_AT_A_TIME = threading.Lock()
"""What Alembic runs finds its connection in a global, so two registries of one process take turns."""
FOLDER = Path(__file__).with_name("migrations")


def newest_revision() -> str:
    """The number that the last migration's file starts with, such as `0002`."""
    return max(file.name[:4] for file in (FOLDER / "versions").glob("[0-9]*.py"))


def bring_up_to_date(database: Database) -> None:
    """Make or upgrade the tables. Raises RegistryError where the database is newer, or not a registry's."""
    newest = newest_revision()
    found = _quick_look(database)
    if found == newest:
        return
    if found is not None and found > newest:
        raise RegistryError(
            database.shown, f"has revision {found}, and this version knows {newest} at most", "update shipworthy"
        )
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
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE not in tables and tables & set(metadata.tables):
        taken = ", ".join(sorted(tables & set(metadata.tables)))
        raise RegistryError(
            shown, f"is no registry, and has tables of the same name: {taken}", "give an empty database"
        )
    upgrade_to(connection, newest)


def _quick_look(database: Database) -> str | None:
    """The revision; None where there is no table that holds one."""
    try:
        with database.read() as connection:
            found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
            return found
    except DBAPIError:  # a RegistryError, where the table is not what is missing
        with database.read() as connection:
            if inspect(connection).has_table(VERSION_TABLE):
                raise
        return None
