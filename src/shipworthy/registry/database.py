"""The database of a registry: transactions, and what is done when one cannot be carried out.

SQLite is used in WAL mode with synchronous=FULL: readers never wait, a commit is on the disk before it returns, and
neither a killed process nor a power cut takes back what was said to be done. The file must be on a local disk, because
WAL needs memory that all its users share; for several hosts there is PostgreSQL."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from ..errors import RegistryError
from .faults import (
    is_lost,
    is_passing,
    is_silent,
    is_starting,
    is_unconfirmed,
    is_unconnected,
    is_unreachable,
    mark_unconfirmed,
    mark_unconnected,
    told,
)
from .location import Location, tls_of
from .tables import VERSION_TABLE

T = TypeVar("T")

BUSY_S = 30.0
"""How long a transaction waits for another one's lock."""
STATEMENT_S = 45.0
"""What PostgreSQL gives one statement: more than any wait for a lock."""
CONNECT_S = 5.0
"""How long a server may take to take a connection up."""
SILENT_S = 60.0
"""After how long a server that says nothing, not even that a time is over, is given up."""
PATIENCE_S = 8.0
"""How long one that was there, or that starts, is waited for in an outage: a restart takes a few seconds."""
ATTEMPTS = 6
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_LOCK = 0x5349_5057_5254_4859
"""Of PostgreSQL's advisory locks, the one that whoever appends events holds until the end of its transaction."""
_PAUSE_S = 1.0
_USED = "shipworthy_used"
_WRITES = "shipworthy_writes"


class Database:
    """Connections of one process to one database. May be used by any thread, and goes on working after a fork."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self.shown = location.shown
        """The url without the password, for messages."""
        self._engine = _engine(location)
        self._writer = self._engine.execution_options(**{_WRITES: True})
        self._process = os.getpid()
        self._reached = False
        self._away_since: float | None = None
        """When a server that is waited for, or was in vain, was first not there."""

    @property
    def is_sqlite(self) -> bool:
        return self.location.file is not None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that changes nothing: on SQLite one snapshot, on PostgreSQL what is committed at each query."""
        with self._told(), self._begin(self._engine) as connection:
            yield connection

    def ask(self, work: Callable[[Connection], T]) -> T:
        """Do `work`, which only asks, in a `read`; and again where the connection broke, as often as `transact`."""
        return self._repeat(self._engine, work, alone=False, repeatable=True)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is alone: no other `write` of this registry runs anywhere until it has ended.

        So events are numbered in the order in which they are committed. Raises RegistryError where the database cannot
        be reached or stays locked; nothing is changed then, and `transact` would have tried again."""
        with self._told(), self._begin(self._writer, alone=True) as connection:
            yield connection

    @contextmanager
    def merge(self) -> Iterator[Connection]:
        """A `write` that on PostgreSQL waits only for the rows it locks itself. It must not append events."""
        with self._told(), self._begin(self._writer) as connection:
            yield connection

    def transact(self, work: Callable[[Connection], T], *, alone: bool = True, repeatable: bool = False) -> T:
        """Do `work` in a `write`, or in a `merge` where it need not be alone, and again where that may help.

        Again at most five times, after pauses: when another transaction was in the way, and for work that says to be
        `repeatable` also when the connection broke, where nobody knows whether it was committed. Such work looks first
        whether it has been done. A server that does not answer in time is not asked again, and one that cannot be
        connected to has been waited for. Raises RegistryError in the end."""
        return self._repeat(self._writer, work, alone=alone, repeatable=repeatable)

    def _repeat(self, engine: Engine, work: Callable[[Connection], T], *, alone: bool, repeatable: bool) -> T:
        maybe_done = False
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._begin(engine, alone=alone) as connection:
                    return work(connection)
            except (DBAPIError, PoolTimeout) as error:
                maybe_done = maybe_done or is_unconfirmed(error)
                again = is_passing(error) or (repeatable and is_lost(error) and not is_silent(error))
                if attempt == ATTEMPTS or not again or is_unconnected(error):
                    raise told(error, self.shown, maybe_done=maybe_done) from error
            _pause(attempt)
        raise AssertionError("the last attempt returns or raises")

    def keep_log(self) -> None:
        """Let SQLite write to a log (WAL), which is part of its file from then on. For a new registry."""
        if self.is_sqlite:
            with self._told(), self._engine.connect() as connection:
                _keep_log(connection.connection.driver_connection)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _begin(self, engine: Engine, *, alone: bool = False) -> Iterator[Connection]:
        if self._process != os.getpid():
            # A connection that two processes use is broken for both; the parent keeps it.
            self._process = os.getpid()
            self._engine.dispose(close=False)
        with self._connect(engine) as connection, connection.begin() as transaction:
            if alone and not self.is_sqlite:
                connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            yield connection
            try:
                transaction.commit()
            except DBAPIError as error:
                if engine is self._writer:
                    mark_unconfirmed(error)
                raise

    def _connect(self, engine: Engine) -> Connection:
        """A connection. A server that was reached before, or says that it starts, is waited for: once in an outage, by
        all threads together, so that what is asked later costs no time until it has been reached again."""
        attempt = 0
        while True:
            try:
                connection = engine.connect()
            except DBAPIError as error:
                if self.is_sqlite:
                    raise
                if not self._is_waited_for(error):
                    mark_unconnected(error)
                    raise
            else:
                self._reached, self._away_since = True, None
                return connection
            attempt += 1
            _pause(attempt)

    def _is_waited_for(self, error: DBAPIError) -> bool:
        if not is_unreachable(error) or not (self._reached or is_starting(error)):
            return False
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        return now - self._away_since < PATIENCE_S

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeout) as error:
            raise told(error, self.shown) from error


def _pause(attempt: int) -> None:
    """Longer each time, and never as long as another's who was in the way."""
    time.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0))


def _engine(location: Location) -> Engine:
    if location.file is None:
        # Without TLS on a socket of this host: making its context takes longer than all the rest of opening.
        tls = False if "unix_sock" in location.url.query else tls_of(location)
        engine = create_engine(location.url, connect_args={"ssl_context": tls, "timeout": CONNECT_S})
        event.listen(engine, "do_connect", _connect_postgresql)
        event.listen(engine, "connect", _set_up_postgresql)
        event.listen(engine, "checkin", _note_time)
        event.listen(engine, "checkout", _look_after_pause)
        event.listen(engine, "handle_error", _mark_lost)
        return engine
    try:
        location.file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"its folder cannot be made: {error.strerror or error}"
        raise RegistryError(location.shown, reason, "choose another place, or check the permissions") from None
    engine = create_engine(location.url, connect_args={"timeout": BUSY_S, "check_same_thread": False})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, record: object) -> None:
    # The driver would begin transactions of its own, and only at the first change.
    connection.isolation_level = None
    # Only a registry's own file is changed: whoever opens it may have meant another program's, or an empty one.
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (VERSION_TABLE,)).fetchone() is not None:
        _keep_log(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _keep_log(connection: Any) -> None:
    until = time.monotonic() + BUSY_S
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # The mode is part of the file and set once; SQLite does not wait for others here.
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    # Who reads first and locks later may find that another has written in between, and must give up.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _connect_postgresql(dialect: Any, record: object, arguments: Any, options: Any) -> Any:
    try:
        return dialect.connect(*arguments, **options)
    except OSError as error:  # the driver lets it through once the socket is open
        raise dialect.loaded_dbapi.InterfaceError("communication error") from error
    except UnicodeError:  # its own text may have a piece of the password
        raise dialect.loaded_dbapi.InterfaceError("the url has a host or a sign that cannot be sent") from None


def _wait_at_most(connection: Any, seconds: float) -> None:
    """For each answer. The driver takes a time for its socket only before it connects."""
    connection._usock.settimeout(seconds)


def _set_up_postgresql(connection: Any, record: object) -> None:
    _wait_at_most(connection, SILENT_S)
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = {int(BUSY_S * 1000)}")
    cursor.execute(f"SET statement_timeout = {int(STATEMENT_S * 1000)}")
    # A client that is stopped within a transaction must not hold the lock for ever.
    cursor.execute(f"SET idle_in_transaction_session_timeout = {int(2 * BUSY_S * 1000)}")
    cursor.execute("SET application_name = 'shipworthy'")
    cursor.close()
    connection.commit()
    close = connection.close

    def close_quietly() -> None:
        # One that is lost cannot say goodbye, and the pool would log a traceback for it.
        with suppress(sys.modules["pg8000"].InterfaceError, OSError):
            close()

    connection.close = close_quietly


def _note_time(connection: object, record: ConnectionPoolEntry) -> None:
    record.info[_USED] = time.monotonic()


def _look_after_pause(connection: Any, record: ConnectionPoolEntry, proxy: object) -> None:
    """A connection that nobody has used for a while may be gone: the pool makes another one then.

    One that is in use is not asked each time, which would make the shortest question twice as long."""
    if time.monotonic() - record.info.get(_USED, math.inf) < _PAUSE_S:
        return
    cursor = connection.cursor()
    try:
        _wait_at_most(connection, CONNECT_S)
        cursor.execute("SELECT 1")
        connection.rollback()
        _wait_at_most(connection, SILENT_S)
    except Exception as error:  # whatever it raises, there is no use in it
        raise DisconnectionError from error
    finally:
        cursor.close()


def _mark_lost(context: ExceptionContext) -> None:
    original = context.original_exception
    if isinstance(original, OSError):  # the driver lets it through where it reads
        context.is_disconnect = True
        raise OperationalError(context.statement, None, original, connection_invalidated=True) from original
    if isinstance(context.sqlalchemy_exception, DBAPIError) and is_lost(context.sqlalchemy_exception):
        context.is_disconnect = True
