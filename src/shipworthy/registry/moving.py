"""Aliases: moved by compare-and-swap, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection

from ..errors import Conflict, RegistryError
from . import log
from .records import Event
from .tables import aliases
from .versions import check_not_deleted, newest_number, present_among

ROLLBACK = "rollback"
"""Key in the details of a move that went back: to the event of this number, which let the alias name that version."""
_AT_ONCE = 25


def move(
    connection: Connection,
    model: str,
    alias: str,
    to: int | None,
    *,
    previous: int | None,
    who: str,
    why: str = "",
    details: Mapping[str, Any] | None = None,
    token: str | None = None,
    adds: bool = True,
) -> Event:
    """Let the alias, which names `previous`, name `to`, or nothing. Where that is the same, nothing is written, and the
    event is the one that made it so. A move that goes back, or is the end of something, `adds` nothing, and is possible
    whatever the clock says (`log.append`). Raises RegistryError where `to` is no version, or a deleted one."""
    if to is not None:
        check_not_deleted(connection, model, to)
    if previous == to:
        return _last_move(connection, model, alias)
    this = (aliases.c.model == model) & (aliases.c.alias == alias)
    if to is None:
        connection.execute(aliases.delete().where(this))
    elif previous is None:
        connection.execute(aliases.insert(), {"model": model, "alias": alias, "number": to})
    else:
        connection.execute(aliases.update().where(this).values(number=to))
    return log.append(
        connection, model, log.MOVED, who=who, version=to, alias=alias, previous=previous, why=why, details=details,
        token=token, adds=adds and to is not None,
    )  # fmt: skip


def check_expected(model: str, alias: str, named: int | None, expected: int | None) -> None:
    """Raises Conflict where the alias names another version than its mover believes."""
    if named != expected:
        raise Conflict(f"{model}@{alias}", f"names {_told(named)}, not {_told(expected)}", "look again, then decide")


def before(connection: Connection, model: str, alias: str, present: int | None) -> tuple[int, int]:
    """What the alias named before the present version was given to it, and the number of the event that made it so.

    Going back is undoing: after 1, 2, 3 one step back is 2 and another is 1, and after a further move to 4 a step back
    is 1 again. Versions that are deleted by now are passed over. Raises RegistryError where nothing is left."""
    newest = newest_number(connection, model)
    for some in _trail(connection, model, alias):
        wanted = {event.version for event in some if event.version not in (None, present)}
        kept = present_among(connection, model, {number for number in wanted if number is not None})
        for event in some:
            if event.version is not None and event.version in kept:
                return event.version, event.number
    raise RegistryError(
        f"{model}@{alias}", "named no other version before", f"choose one: shipworthy promote {model}:{newest}"
    )


def _trail(connection: Connection, model: str, alias: str) -> Iterator[list[Event]]:
    """The moves that no later one went back behind, newest first, some at a time: no more is read than is asked for.

    A move that went back stands for the one that it went back to: what is below that is below it too."""
    moved = log.moves(connection, model, alias, limit=_AT_ONCE)
    while moved:
        some, below = [], moved[0].number + 1
        target = None
        for event in moved:
            if event.number >= below:
                continue
            target = _undone_to(connection, event)
            below = event.number if target is None else target.number + 1
            if target is None:
                some.append(event)
            elif target.number < moved[-1].number:
                break
        yield some
        following = target or moved[-1]
        moved = log.moves(connection, model, alias, until=following, limit=_AT_ONCE)
        if target is None:
            moved = moved[1:]


def _undone_to(connection: Connection, event: Event) -> Event | None:
    """The move that this one went back to; None where it did not, whatever its mover wrote into the details."""
    number = event.details.get(ROLLBACK)
    if type(number) is not int or number >= event.number or event.alias is None:
        return None
    target = log.find_move(connection, event.model, event.alias, number)
    return target if target is not None and target.version == event.version else None


def _last_move(connection: Connection, model: str, alias: str) -> Event:
    newest_number(connection, model)
    found = log.moves(connection, model, alias, limit=1)
    if not found:
        raise RegistryError(f"{model}@{alias}", "is no alias, so it cannot be taken away", "see: shipworthy show")
    return found[0]


def _told(number: int | None) -> str:
    return "nothing" if number is None else f"version {number}"
