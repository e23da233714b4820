"""The event log: appended in the order of commit, and read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select

from ..errors import RegistryError
from .records import Event, Live
from .tables import Instant, events, versions
from .words import one_line

MOVED = "alias-moved"
REGISTERED = "registered"
DELETED = "deleted"
_TIME_OF = {REGISTERED: "created", DELETED: "deleted"}
"""Columns of a version that have the time of an event."""
AHEAD = timedelta(minutes=5)
"""How far the clocks of those who write may differ."""
CLOCK = "clock"
"""Key in the details of an event that was written while the newest one lay ahead: what its writer's clock said."""
WAS_AT = "was_at"
"""Key in the details of an event whose time was mended: the one that it had."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
    adds: bool = False,
) -> Event:
    """Write the next event, within a transaction that is alone (`Database.write`).

    Where the newest event lies further ahead of the clock than clocks differ, an event that `adds` raises
    RegistryError. What takes back, ends or notes has to be possible at any time: it gets the newest event's time, so
    that the log stays in order, and its details say what the clock said."""
    number, at, now = _next(connection)
    told = dict(details or {})
    if at - now > AHEAD:
        if adds:
            raise _ahead(connection, now, number - 1)
        told[CLOCK] = now.isoformat()
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
        details=told,
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


def mend_times(connection: Connection, after: int, at: datetime) -> int:
    """Give every event after that number the time `at`, or what its writer's clock said, where the details have that;
    how many there are. Times of their versions follow, and all others that lie in the future become `at`.

    Raises RegistryError where `at` is before the event of that number, or in the future."""
    from . import rollout_tables  # with its own the metadata has all of them

    right = connection.execute(select(events.c.at).where(events.c.number == after)).scalar()
    if right is None and after != 0:
        raise RegistryError(f"event {after}", "is not known", "see: shipworthy history --json")
    now = _now(connection)
    if not (right or _EPOCH) <= at <= now:
        reason = f"is before event {after}, or in the future"
        raise RegistryError(f"{at:%Y-%m-%d %H:%M:%S}", reason, f"give a time up to {now:%Y-%m-%d %H:%M:%S} UTC")
    time, later = at, connection.execute(select(events).where(events.c.number > after).order_by(events.c.number)).all()
    for event in map(event_of, later):
        time = min(now, max(time, _clock_of(event) or time))
        values = {"at": time, "details": {WAS_AT: event.at.isoformat(), **event.details}}
        connection.execute(events.update().where(events.c.number == event.number).values(values))
        if event.kind in _TIME_OF:
            this = (versions.c.model == event.model) & (versions.c.number == event.version)
            connection.execute(versions.update().where(this).values({_TIME_OF[event.kind]: time}))
    for table in rollout_tables.rollouts.metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, Instant):
                connection.execute(table.update().where(column > now).values({column.name: at}))
    return len(later)


def check_kind(kind: str) -> str:
    if not _KIND.fullmatch(kind) or kind in (MOVED, REGISTERED, DELETED):
        rule = "lower-case letters, digits and -, and none that the registry writes itself"
        raise RegistryError(repr(kind), f"is no kind of event to note: {rule}", "such as load-failed")
    return kind


def event_of(row: Row[Any]) -> Event:
    return Event(*(getattr(row, name) for name in Event.__dataclass_fields__))


def _moves(model: str, alias: str) -> Any:
    return select(events).where(events.c.model == model, events.c.alias == alias, events.c.kind == MOVED)


def _clock_of(event: Event) -> datetime | None:
    """What the clock of its writer said; None where the details do not have it, whatever else they have there."""
    try:
        said = datetime.fromisoformat(str(event.details.get(CLOCK)))
    except ValueError:
        return None
    return said if said.tzinfo is not None else None


def _ahead(connection: Connection, now: datetime, number: int) -> RegistryError:
    host = "this host" if connection.dialect.name == "sqlite" else "the database server"
    event = event_of(connection.execute(select(events).where(events.c.number == number)).one())
    said = f"event {number} ({event.kind} of {event.model}, by {event.who}) is from {event.at:%Y-%m-%d %H:%M:%S}"
    return RegistryError(
        f"the clock of {host}",
        f"says {now:%Y-%m-%d %H:%M:%S} UTC, and {said}: one of both is wrong",
        "set the clock right (a rollback is possible meanwhile); where the event's time is the wrong one, see 'A wrong "
        "clock' in docs/registry.md",
    )


def _next(connection: Connection) -> tuple[int, datetime, datetime]:
    """The number and the time of the next event, and what the clock says, in one query."""
    number = select(func.max(events.c.number)).scalar_subquery()
    last = select(events.c.at).order_by(events.c.number.desc()).limit(1).scalar_subquery()
    if connection.dialect.name == "sqlite":
        before, at = connection.execute(select(number, last)).one()
        now = datetime.now(UTC)
    else:
        before, at, now = connection.execute(select(number, last, func.clock_timestamp())).one()
        now = now.astimezone(UTC)
    # A clock that is set back must not make the past ambiguous.
    return (before or 0) + 1, now if at is None else max(now, at), now


def _now(connection: Connection) -> datetime:
    """By the clock of the server, where there is one."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)
