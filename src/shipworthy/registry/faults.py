"""What a database's errors mean: whether another attempt may help, and what a user is told."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..errors import RegistryError

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_PASSING = {"40001", "40P01", "55P03"}
_RESTARTING = {"57P01", "57P02", "57P03"}
_LOST = {"25P03", *_RESTARTING}
_UNCONNECTED = "no connection came about"
_UNCONFIRMED = "the commit was sent, and not confirmed"
_REMEDIES = {
    "28": "check the user and the password",
    "3D": "create the database first: createdb NAME",
    "42501": "grant the user what it needs in this database",
    "53": "the server lacks connections, memory or disk: see its log",
}
_SQLITE_REMEDIES = {
    sqlite3.SQLITE_BUSY: "another process holds it: try again, or see what that process does",
    sqlite3.SQLITE_CANTOPEN: "check the path and its permissions",
    sqlite3.SQLITE_READONLY: "check the permissions of the file and of its folder",
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_CORRUPT: "restore it from a backup",
    sqlite3.SQLITE_NOTADB: "this file is no registry: give another one",
}


def is_passing(error: SQLAlchemyError) -> bool:
    """Whether another transaction was in the way, so that the same one may succeed later."""
    return _sqlite_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or _state(error) in _PASSING


def is_lost(error: SQLAlchemyError) -> bool:
    """Whether the connection is gone, and with it the knowledge of what was committed."""
    disconnected = isinstance(error, DBAPIError) and error.connection_invalidated
    return disconnected or _state(error) in _LOST


def is_silent(error: SQLAlchemyError) -> bool:
    """Whether the server did not answer in time; another attempt would wait as long."""
    return isinstance(_cause(error), TimeoutError)


def is_starting(error: SQLAlchemyError) -> bool:
    """Whether the server says that it goes down or comes up."""
    return _state(error) in _RESTARTING


def is_unreachable(error: SQLAlchemyError) -> bool:
    """Whether no connection came about, for no fault of who asked: the server is down, or on its way up or down."""
    if is_starting(error):
        return True
    cause = _cause(error)
    # A certificate that is refused is an OSError too, and will be refused again.
    return (isinstance(cause, OSError) and "SSL" not in type(cause).__name__) or "network error" in str(cause)


def mark_unconnected(error: DBAPIError) -> None:
    """Note that it came before there was a connection."""
    error.add_detail(_UNCONNECTED)


def is_unconnected(error: SQLAlchemyError) -> bool:
    return isinstance(error, DBAPIError) and _UNCONNECTED in error.detail


def mark_unconfirmed(error: DBAPIError) -> None:
    """Note that the commit of a change had been sent, where the error leaves open what became of it."""
    if is_lost(error) or is_silent(error):
        error.add_detail(_UNCONFIRMED)


def is_unconfirmed(error: SQLAlchemyError) -> bool:
    return isinstance(error, DBAPIError) and _UNCONFIRMED in error.detail


def told(error: SQLAlchemyError, where: str, *, maybe_done: bool = False) -> Exception:
    """A RegistryError for what a user or a host can mend; else the error itself, which is a fault of the program.

    `maybe_done`: an earlier attempt was left unconfirmed."""
    found = _told(error, where)
    if isinstance(found, RegistryError) and (maybe_done or is_unconfirmed(error)):
        remedy = "what you asked for may be done: look into the history before you repeat it"
        return RegistryError(found.culprit, found.reason, remedy)
    return found


def _told(error: SQLAlchemyError, where: str) -> Exception:
    if not isinstance(error, DBAPIError):
        return RegistryError(where, "all its connections of this process are in use", "use fewer threads")
    state = _state(error)
    if state is not None:
        if state[:2] in ("22", "23") or (state[:2] == "42" and state != "42501"):
            return error
        remedy = _REMEDIES.get(state) or _REMEDIES.get(state[:2], "see the log of the server")
        return RegistryError(where, f"the database says: {_message(error)}", remedy)
    code = _sqlite_code(error)
    if code is not None:
        if code not in _SQLITE_REMEDIES and code != sqlite3.SQLITE_IOERR:
            return error
        remedy = _SQLITE_REMEDIES.get(code, "check the disk, and that it is a local one")
        return RegistryError(where, f"the database says: {_message(error)}", remedy)
    if is_silent(error):
        return RegistryError(where, "does not answer in time", "see what the server does, and the network")
    if isinstance(error.orig, OSError) or type(error.orig).__name__ in ("InterfaceError", "OperationalError"):
        return RegistryError(where, f"cannot be reached: {_message(error)}", "check that the server runs, and the url")
    return error


def _sqlite_code(error: SQLAlchemyError) -> int | None:
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _state(error: SQLAlchemyError) -> str | None:
    """The SQLSTATE that PostgreSQL sent."""
    fields = _fields(error)
    return None if fields is None else fields.get("C")


def _fields(error: SQLAlchemyError) -> dict[str, str] | None:
    arguments: tuple[Any, ...] = getattr(getattr(error, "orig", None), "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], dict) else None


def _cause(error: SQLAlchemyError) -> BaseException | None:
    """What the driver wrapped, or its own error."""
    original: BaseException | None = getattr(error, "orig", None)
    return getattr(original, "__cause__", None) or original


def _message(error: DBAPIError) -> str:
    fields = _fields(error)
    text = str(error.orig) if fields is None else fields.get("M", "")
    cause = getattr(error.orig, "__cause__", None)
    return " ".join(text.split()) + (f" ({cause})" if isinstance(cause, OSError) else "")
