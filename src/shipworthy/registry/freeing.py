"""`gc`: what no version needs any more is freed, in an order in which a push on its way loses nothing.

Rows first: packages that only deleted versions had. Then blobs that no package row names, in small transactions that
are alone, so that none falls between a push's look at the store and its rows. A blob that was just stored has no row
yet; its age keeps it, and a push that takes longer than that finds it missing and stores it again.

Whoever writes waits while such a transaction lasts, so it ends soon. SQLite has no queue: those who wait ask again
after a sleep, the longest of a tenth of a second, and the next transaction begins when all of them have asked.

A PostgreSQL server ends a transaction that says nothing for a minute, and then pushes no longer wait for it. So the
connection is asked before each removal, and twice a second while a removal lasts; the first answer that does not come
ends the removing, and what is left is looked at anew. What remains is the one removal that is on its way when the
server goes, or when this process is stopped for that long in the middle of it (of a few files, where they are in a
bucket): where a push finds one of these very files just before it disappears, its version lacks it, which `pull` says,
and another push of the package mends."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection, delete, literal, select, tuple_

from .blobs import Blobs, Stored
from .database import Database
from .records import Freed
from .tables import package_blobs, packages, versions
from .versions import pinned

HOLD_S = 0.5
"""After how long a transaction that is alone begins no further removal."""
PAUSE_S = 0.2
"""How long it is nobody's on SQLite, which is more than the longest sleep of those who wait."""
_LOOKED_AT = 500
"""Files that one query asks for."""
_PART = timedelta(hours=1)
_ASK_S = 0.5


def free(database: Database, blobs: Blobs, *, older_than: timedelta, dry_run: bool) -> Freed:
    """Free packages that only deleted versions have, and blobs older than `older_than` that no package needs."""
    before = datetime.now(UTC) - older_than
    if dry_run:
        with database.read() as connection:
            unneeded = _unneeded(connection)
    else:
        unneeded = database.transact(_remove_packages)
    with database.read() as connection:
        needed = _needed(connection, besides=unneeded)
    # What is needed now is not looked at again, for which everybody would wait.
    found = [stored for stored in _old(blobs, before) if stored.sha256 not in needed]
    removed = found if dry_run else _remove_blobs(database, blobs, found)
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


def _remove_blobs(database: Database, blobs: Blobs, found: Sequence[Stored]) -> list[Stored]:
    """Remove those that no package needs, and let others write in between."""
    removed: list[Stored] = []
    looked = 0
    while looked < len(found):
        if looked and database.is_sqlite:
            time.sleep(PAUSE_S)
        work = partial(_remove_some, blobs=blobs, some=found[looked : looked + _LOOKED_AT])
        # After a lost connection it is asked again what is needed, and what is gone already is no error.
        gone, seen = database.transact(work, repeatable=True)
        removed += gone
        looked += seen
    return removed


def _remove_some(connection: Connection, *, blobs: Blobs, some: Sequence[Stored]) -> tuple[list[Stored], int]:
    """Remove those that no package needs, until others have waited for long enough.

    Gives what was removed, and how many of `some` were looked at, which are the first ones."""
    until = time.monotonic() + HOLD_S
    query = select(package_blobs.c.sha256).where(package_blobs.c.sha256.in_([stored.sha256 for stored in some]))
    needed = set(connection.execute(query).scalars())
    removed: list[Stored] = []
    looked = 0
    with ThreadPoolExecutor(1, thread_name_prefix="shipworthy-gc") as remover:
        while looked < len(some) and (looked == 0 or time.monotonic() < until):
            batch = some[looked : looked + blobs.removed_at_once]
            looked += len(batch)
            unneeded = [stored for stored in batch if stored.sha256 not in needed]
            if not unneeded:
                continue
            _check_alone(connection)
            removal = remover.submit(blobs.remove, [stored.path for stored in unneeded])
            while wait([removal], timeout=_ASK_S).not_done:
                _check_alone(connection)
            removal.result()
            removed += unneeded
    return removed, looked


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
