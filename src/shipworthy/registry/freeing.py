"""`gc`: what no version needs any more is freed, in an order in which a push on its way loses nothing.

Rows first: packages that only deleted versions had. Then blobs that no package row names, in small transactions that
are alone, so that none falls between a push's look at the store and its rows. A blob that was just stored has no row
yet; its age keeps it, and a push that takes longer than that finds it missing and stores it again.

A PostgreSQL server ends a transaction that says nothing for a minute, and then pushes no longer wait for it. So the
connection is asked before each removal, and twice a second while a removal lasts; the first answer that does not come
ends the removing, and what is left is looked at anew. What remains is the one removal that is on its way when the
server goes, or when this process is stopped for that long in the middle of it: where a push finds that very file just
before it disappears, its version lacks it, which `pull` says, and another push of the package mends."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, literal, select, tuple_

from .blobs import Blobs, Stored
from .database import Database
from .records import Freed
from .tables import package_blobs, packages, versions
from .versions import pinned

_AT_ONCE = 50
_PART = timedelta(hours=1)
_ASK_S = 0.5


def free(database: Database, blobs: Blobs, *, older_than: timedelta, dry_run: bool) -> Freed:
    """Free packages that only deleted versions have, and blobs older than `older_than` that no package needs."""
    before = datetime.now(UTC) - older_than
    if dry_run:
        with database.read() as connection:
            unneeded = _unneeded(connection)
            needed = _needed(connection, besides=unneeded)
        removed = [stored for stored in _old(blobs, before) if stored.sha256 not in needed]
    else:
        unneeded = database.transact(_remove_packages)
        removed, old = [], _old(blobs, before)
        for start in range(0, len(old), _AT_ONCE):
            removed += _remove_blobs(database, blobs, old[start : start + _AT_ONCE])
    names = tuple(sorted(stored.sha256 for stored in removed if stored.sha256))
    return Freed(tuple(unneeded), names, sum(stored.size for stored in removed), dry_run)


def _unneeded(connection: Connection) -> list[str]:
    """Digests of packages that are stored, and of which every version is deleted."""
    needed = select(versions.c.digest).where(versions.c.deleted.is_(None))
    query = select(packages.c.digest).where(packages.c.digest.not_in(needed)).order_by(packages.c.digest)
    held = sorted(pinned(connection))
    named = select(versions.c.digest).where(tuple_(versions.c.model, versions.c.number).in_(held))
    kept = set(connection.execute(named).scalars()) if held else set()
    return [digest for digest in connection.execute(query).scalars() if digest not in kept]


def _remove_packages(connection: Connection) -> list[str]:
    unneeded = _unneeded(connection)
    for digest in unneeded:
        connection.execute(delete(packages).where(packages.c.digest == digest))
    return unneeded


def _remove_blobs(database: Database, blobs: Blobs, some: Collection[Stored]) -> list[Stored]:
    def work(connection: Connection) -> list[Stored]:
        wanted = [stored.sha256 for stored in some]
        query = select(package_blobs.c.sha256).where(package_blobs.c.sha256.in_(wanted))
        needed = set(connection.execute(query).scalars())
        unneeded = [stored for stored in some if stored.sha256 not in needed]
        with ThreadPoolExecutor(1, thread_name_prefix="shipworthy-gc") as remover:
            for stored in unneeded:
                _check_alone(connection)
                removal = remover.submit(blobs.remove, stored.path)
                while wait([removal], timeout=_ASK_S).not_done:
                    _check_alone(connection)
                removal.result()
        return unneeded

    # After a lost connection it is asked again what is needed, and what is gone already is no error.
    return database.transact(work, repeatable=True)


def _check_alone(connection: Connection) -> None:
    """Raises where the transaction has ended, and with it the lock that makes pushes wait."""
    connection.execute(select(literal(1)))


def _needed(connection: Connection, besides: Collection[str]) -> set[str]:
    gone = set(besides)
    rows = connection.execute(select(package_blobs.c.digest, package_blobs.c.sha256))
    return {row.sha256 for row in rows if row.digest not in gone}


def _old(blobs: Blobs, before: datetime) -> list[Stored]:
    """What lies there from before; a part may still be written, so it is given an hour in any case."""
    parts = min(before, datetime.now(UTC) - _PART)
    limits = ((stored, before if stored.sha256 else parts) for stored in blobs.listing())
    return [stored for stored, limit in limits if stored.modified is not None and stored.modified < limit]
