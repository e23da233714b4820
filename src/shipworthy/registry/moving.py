"""Aliases: moved by compare-and-swap, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from ..errors import Conflict, RegistryError
from . import log
from .names import Reference
from .records import Event
from .tables import aliases
from .versions import check_not_deleted, find, newest_number

ROLLBACK = "rollback"
"""Key in the details of a move that went back."""


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
) -> Event:
    """Let the alias, which names `previous`, name `to`, or nothing. Where that is the same, nothing is written, and the
    event is the one that made it so. Raises RegistryError where `to` is no version, or a deleted one."""
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
        token=token,
    )  # fmt: skip


def check_expected(model: str, alias: str, named: int | None, expected: int | None) -> None:
    """Raises Conflict where the alias names another version than its mover believes."""
    if named != expected:
        raise Conflict(f"{model}@{alias}", f"names {_told(named)}, not {_told(expected)}", "look again, then decide")


def before(connection: Connection, model: str, alias: str, present: int | None) -> int:
    """What the alias named before the present version was given to it.

    Going back is undoing: after 1, 2, 3 one step back is 2 and another is 1, and after a further move to 4 a step back
    is 1 again. Versions that are deleted by now are passed over. Raises RegistryError where nothing is left."""
    trail: list[int | None] = []
    for event in reversed(log.moves(connection, model, alias)):
        if event.details.get(ROLLBACK) and event.version in trail:
            while trail[-1] != event.version:
                trail.pop()
        else:
            trail.append(event.version)
    for number in reversed(trail[:-1]):
        if number is None or number == present:
            continue
        if find(connection, Reference(model, number=number)).deleted is None:
            return number
    newest = newest_number(connection, model)
    raise RegistryError(
        f"{model}@{alias}", "named no other version before", f"choose one: shipworthy promote {model}:{newest}"
    )


def _last_move(connection: Connection, model: str, alias: str) -> Event:
    newest_number(connection, model)
    found = log.moves(connection, model, alias)
    if not found:
        raise RegistryError(f"{model}@{alias}", "is no alias, so it cannot be taken away", "see: shipworthy show")
    return found[0]


def _told(number: int | None) -> str:
    return "nothing" if number is None else f"version {number}"
