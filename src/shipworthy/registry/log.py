"""The event log: appended in the order of commit, and read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from ..errors import RegistryError
from .records import Event, Live
from .tables import events

MOVED = "alias-moved"
REGISTERED = "registered"
DELETED = "deleted"
_KIND = re.compile(r"[a-z][a-z0-9-]{0,63}")


def append(
    connection: Connection,
    model: str,
    kind: str,
    *,
    who: str,
    version: int | None = None,
    alias: str | None = None,
    previous: int | None = None,
    why: str = "",
    details: Mapping[str, Any] | None = None,
    token: str | None = None,
) -> Event:
    """Write the next event, within a transaction that is alone (`Database.write`)."""
    number, at = _next(connection)
    event = Event(
        number=number,
        at=at,
        model=model,
        kind=kind,
        version=version,
        alias=alias,
        previous=previous,
        why=why,
        who=who,
        details=dict(details or {}),
    )
    row = {name: getattr(event, name) for name in Event.__dataclass_fields__}
    connection.execute(events.insert(), {**row, "token": token})
    return event


def by_token(connection: Connection, token: str) -> Event | None:
    """The event that the call of this name wrote, if it was committed."""
    row = connection.execute(select(events).where(events.c.token == token)).first()
    return None if row is None else event_of(row)


def history(connection: Connection, model: str | None, limit: int | None) -> list[Event]:
    """Newest first."""
    query = select(events).order_by(events.c.number.desc())
    if model is not None:
        query = query.where(events.c.model == model)
    return [event_of(row) for row in connection.execute(query if limit is None else query.limit(limit))]


def after(connection: Connection, number: int) -> list[Event]:
    query = select(events).where(events.c.number > number).order_by(events.c.number)
    return [event_of(row) for row in connection.execute(query)]


def newest(connection: Connection) -> int:
    """The highest number; 0 where nothing has happened."""
    return connection.execute(select(func.max(events.c.number))).scalar() or 0


def moves(connection: Connection, model: str, alias: str) -> list[Event]:
    """Every move of an alias, newest first."""
    query = _moves(model, alias).order_by(events.c.at.desc(), events.c.number.desc())
    return [event_of(row) for row in connection.execute(query)]


def live_at(connection: Connection, model: str, alias: str, at: datetime | None) -> Live | None:
    """What the alias named at that time: its last move until then."""
    query = _moves(model, alias).order_by(events.c.at.desc(), events.c.number.desc()).limit(1)
    row = connection.execute(query if at is None else query.where(events.c.at <= at)).first()
    if row is None or row.version is None:
        return None
    return Live(model, alias, row.version, row.at, row.why, row.who, row.number)


def check_kind(kind: str) -> str:
    if not _KIND.fullmatch(kind) or kind in (MOVED, REGISTERED, DELETED):
        rule = "lower-case letters, digits and -, and none that the registry writes itself"
        raise RegistryError(repr(kind), f"is no kind of event to note: {rule}", "such as load-failed")
    return kind


def event_of(row: Row[Any]) -> Event:
    return Event(*(getattr(row, name) for name in Event.__dataclass_fields__))


def _moves(model: str, alias: str) -> Any:
    return select(events).where(events.c.model == model, events.c.alias == alias, events.c.kind == MOVED)


def _next(connection: Connection) -> tuple[int, datetime]:
    """The number and the time of the next event, in one query; by the clock of the server, where there is one."""
    number = select(func.max(events.c.number)).scalar_subquery()
    last = select(events.c.at).order_by(events.c.number.desc()).limit(1).scalar_subquery()
    if connection.dialect.name == "sqlite":
        before, at = connection.execute(select(number, last)).one()
        now = datetime.now(UTC)
    else:
        before, at, now = connection.execute(select(number, last, func.clock_timestamp())).one()
        now = now.astimezone(UTC)
    # A clock that is set back must not make the past ambiguous.
    return (before or 0) + 1, now if at is None else max(now, at)
