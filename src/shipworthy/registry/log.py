"""The event log: appended in the order of commit, and read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select

from ..errors import RegistryError
from .records import Event, Live
from .tables import events
from .words import one_line

MOVED = "alias-moved"
REGISTERED = "registered"
DELETED = "deleted"
AHEAD = timedelta(minutes=5)
"""How far the clocks of those who write may differ."""
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
    """Write the next event, within a transaction that is alone (`Database.write`).

    Raises RegistryError where the newest event lies further ahead of the clock than clocks differ."""
    number, at = _next(connection)
    event = Event(
        number=number,
        at=at,
        model=model,
        kind=kind,
        version=version,
        alias=alias,
        previous=previous,
        why=one_line(why),  # a program's reason, such as the text of an error, may have several
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


def history(connection: Connection, model: str | None, alias: str | None, limit: int | None) -> list[Event]:
    """Newest first; only what happened to the alias, where one is given."""
    query = select(events)
    if model is not None:
        query = query.where(events.c.model == model)
    if alias is not None:
        query = query.where(events.c.alias == alias)
    # Both orders are the same; each has the index that goes with it.
    both = model is not None and alias is not None
    order = (events.c.at.desc(), events.c.number.desc()) if both else (events.c.number.desc(),)
    return [event_of(row) for row in connection.execute(query.order_by(*order).limit(limit))]


def of_version(connection: Connection, model: str, version: int, limit: int | None) -> list[Event]:
    """What happened to a version, and the moves of aliases away from it; newest first."""
    found: dict[int, Event] = {}
    for column in (events.c.version, events.c.previous):
        query = select(events).where(events.c.model == model, column == version)
        rows = connection.execute(query.order_by(events.c.number.desc()).limit(limit))
        found |= {row.number: event_of(row) for row in rows}
    return [found[number] for number in sorted(found, reverse=True)][:limit]


def after(connection: Connection, number: int) -> list[Event]:
    query = select(events).where(events.c.number > number).order_by(events.c.number)
    return [event_of(row) for row in connection.execute(query)]


def newest(connection: Connection) -> int:
    """The highest number; 0 where nothing has happened."""
    return connection.execute(select(func.max(events.c.number))).scalar() or 0


def moves(
    connection: Connection, model: str, alias: str, *, until: Event | None = None, limit: int | None = None
) -> list[Event]:
    """Moves of an alias, newest first; with `until` from that one on."""
    query = _moves(model, alias).order_by(events.c.at.desc(), events.c.number.desc()).limit(limit)
    if until is not None:
        query = query.where(events.c.at <= until.at, events.c.number <= until.number)
    return [event_of(row) for row in connection.execute(query)]


def find_move(connection: Connection, model: str, alias: str, number: int) -> Event | None:
    """The event of that number, if it moved this alias."""
    row = connection.execute(_moves(model, alias).where(events.c.number == number)).first()
    return None if row is None else event_of(row)


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


def _ahead(connection: Connection, clock: str, now: datetime, number: int) -> RegistryError:
    event = event_of(connection.execute(select(events).where(events.c.number == number)).one())
    said = f"event {number} ({event.kind} of {event.model}, by {event.who}) is from {event.at:%Y-%m-%d %H:%M:%S}"
    return RegistryError(
        clock,
        f"says {now:%Y-%m-%d %H:%M:%S} UTC, and {said}: one of both is wrong",
        "set the clock right; where the event's time is the wrong one, see 'A wrong clock' in docs/registry.md",
    )


def _next(connection: Connection) -> tuple[int, datetime]:
    """The number and the time of the next event, in one query; by the clock of the server, where there is one."""
    number = select(func.max(events.c.number)).scalar_subquery()
    last = select(events.c.at).order_by(events.c.number.desc()).limit(1).scalar_subquery()
    if connection.dialect.name == "sqlite":
        clock = "the clock of this host"
        before, at = connection.execute(select(number, last)).one()
        now = datetime.now(UTC)
    else:
        clock = "the clock of the database server"
        before, at, now = connection.execute(select(number, last, func.clock_timestamp())).one()
        now = now.astimezone(UTC)
    if at is not None and at - now > AHEAD:
        raise _ahead(connection, clock, now, before)
    # A clock that is set back must not make the past ambiguous.
    return (before or 0) + 1, now if at is None else max(now, at)
