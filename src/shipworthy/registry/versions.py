"""Rows of versions: added, read, and marked as deleted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, column, func, inspect, select, table, update

from ..errors import RegistryError
from . import log
from .names import CHAMPION, Reference
from .records import Event, Model, Version
from .tables import aliases, models, package_blobs, packages, versions

_AT_ONCE = 500
_ROLLOUTS = table("rollouts", column("model"), column("champion"), column("challenger"), column("state"))


@dataclass(frozen=True, slots=True)
class Blob:
    """One file of a package."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a version before it has a number."""

    model: str
    digest: str
    manifest: str
    blobs: tuple[Blob, ...]
    contract_digest: str
    parameters: int | None
    metrics: Mapping[str, float]
    git_commit: str | None
    parent: int | None
    tags: Mapping[str, str]
    why: str


def has_package(connection: Connection, digest: str) -> bool:
    """Whether the package is stored: then all of its blobs are."""
    return connection.execute(select(packages.c.digest).where(packages.c.digest == digest)).first() is not None


def unknown_blobs(connection: Connection, facts: Facts) -> list[Blob]:
    """Blobs of a package that no registered package needs: nothing else keeps them from being freed."""
    known: set[str] = set()
    for start in range(0, len(facts.blobs), _AT_ONCE):
        wanted = [blob.sha256 for blob in facts.blobs[start : start + _AT_ONCE]]
        needed = select(package_blobs.c.sha256).where(package_blobs.c.sha256.in_(wanted)).distinct()
        known |= set(connection.execute(needed).scalars())
    return [blob for blob in facts.blobs if blob.sha256 not in known]


def add_package(connection: Connection, facts: Facts) -> None:
    connection.execute(packages.insert(), {"digest": facts.digest, "manifest": facts.manifest})
    rows = [{"digest": facts.digest, "path": b.path, "sha256": b.sha256, "size": b.size} for b in facts.blobs]
    for start in range(0, len(rows), _AT_ONCE):
        # One statement for many rows: a driver that sends each by itself waits for each.
        connection.execute(package_blobs.insert().values(rows[start : start + _AT_ONCE]))


def add(connection: Connection, facts: Facts, *, who: str, token: str) -> Version:
    """Give a package that is stored the next number of its model."""
    number = _take_number(connection, facts.model)
    if facts.parent is not None and not 1 <= facts.parent < number:
        raise RegistryError(f"{facts.model}:{facts.parent}", "is no version, so it is no parent", "name one that is")
    event = log.append(
        connection, facts.model, log.REGISTERED, who=who, version=number, why=facts.why, token=token,
        details={"digest": facts.digest}, adds=True,
    )  # fmt: skip
    version = Version(
        model=facts.model,
        number=number,
        digest=facts.digest,
        created=event.at,
        who=who,
        git_commit=facts.git_commit,
        parent=facts.parent,
        contract_digest=facts.contract_digest,
        parameters=facts.parameters,
        metrics=dict(facts.metrics),
        tags=dict(facts.tags),
        why=facts.why,
    )
    row = {name: getattr(version, name) for name in Version.__dataclass_fields__ if name != "aliases"}
    connection.execute(versions.insert(), row)
    return version


def find(connection: Connection, name: Reference) -> Version:
    """Raises RegistryError where there is no such model, version or alias."""
    named = aliases_of(connection, name.model)
    number = number_of(connection, name, named)
    row = connection.execute(select(versions).where(_is(name.model, number))).first()
    if row is None:
        raise _missing(connection, name.model, number)
    return version_of(row, named)


def number_of(connection: Connection, name: Reference, named: Mapping[str, int]) -> int:
    """The number in the name, or what its alias names. Raises RegistryError where it names nothing."""
    if name.number is not None:
        return name.number
    assert name.alias is not None, "a reference has the one or the other"
    if name.alias not in named:
        newest = newest_number(connection, name.model)
        has = f"{name.model} has {', '.join(named)}" if named else f"{name.model} has none"
        option = "" if name.alias == CHAMPION else f" --alias {name.alias}"
        raise RegistryError(
            str(name), f"is no alias; {has}", f"make one: shipworthy promote {name.model}:{newest}{option}"
        )
    return named[name.alias]


def check_not_deleted(connection: Connection, model: str, number: int) -> None:
    """Raises RegistryError where an alias cannot name this version."""
    row = connection.execute(select(versions.c.deleted).where(_is(model, number))).first()
    if row is None:
        raise _missing(connection, model, number)
    if row.deleted is not None:
        raise RegistryError(f"{model}:{number}", "is deleted, so no alias can name it", "choose another version")


def present_among(connection: Connection, model: str, numbers: Collection[int]) -> set[int]:
    """Those of these versions that are not deleted."""
    query = select(versions.c.number).where(
        versions.c.model == model, versions.c.number.in_(numbers), versions.c.deleted.is_(None)
    )
    return set(connection.execute(query).scalars()) if numbers else set()


def ancestors(connection: Connection, version: Version, limit: int) -> list[int]:
    """Numbers of what it was made from, what that was made from, and so on: at most so many."""
    line: list[int] = []
    parent = version.parent
    # A parent is older than its child, so this ends in any case.
    while parent is not None and len(line) < limit:
        line.append(parent)
        parent = connection.execute(select(versions.c.parent).where(_is(version.model, parent))).scalar()
    return line


def children(connection: Connection, version: Version, limit: int) -> list[int]:
    """Numbers of what was made from it directly, the newest first: at most so many."""
    query = select(versions.c.number).where(versions.c.model == version.model, versions.c.parent == version.number)
    return list(connection.execute(query.order_by(versions.c.number.desc()).limit(limit)).scalars())


def counted(connection: Connection, model: str) -> tuple[int, int]:
    """How many versions of the model there are, and how many of them are deleted."""
    query = select(func.count(), func.count(versions.c.deleted)).where(versions.c.model == model)
    every, deleted = connection.execute(query).one()
    return every, deleted


def newest_number(connection: Connection, model: str) -> int:
    """The highest number that was given. Raises RegistryError for a model that has no version."""
    following = connection.execute(select(models.c.next_number).where(models.c.name == model)).scalar()
    if following is None:
        known = connection.execute(select(models.c.name).order_by(models.c.name)).scalars().all()
        near = get_close_matches(model, known, n=1)
        have = f"did you mean {near[0]}" if near else f"it has {', '.join(known[:5])}" if known else "it is empty"
        raise RegistryError(repr(model), "is no model of this registry", f"{have}; or register a package first")
    return int(following) - 1


def listed(connection: Connection, model: str, *, deleted: bool, limit: int | None) -> list[Version]:
    query = select(versions).where(versions.c.model == model).order_by(versions.c.number.desc())
    if not deleted:
        query = query.where(versions.c.deleted.is_(None))
    named = aliases_of(connection, model)
    rows = connection.execute(query if limit is None else query.limit(limit))
    return [version_of(row, named) for row in rows]


def with_digest(connection: Connection, model: str, digest: str) -> Version | None:
    """The newest version of a package that is not deleted; None where `model` has none.

    A package names its model, so its digest alone finds it. With the model in the query SQLite would go through all
    versions of that model, and leave the index of the digests aside."""
    query = select(versions).where(versions.c.digest == digest, versions.c.deleted.is_(None))
    row = connection.execute(query.order_by(versions.c.number.desc()).limit(1)).first()
    return None if row is None or row.model != model else version_of(row, aliases_of(connection, model))


def all_models(connection: Connection) -> list[Model]:
    counted = (
        select(versions.c.model, func.count().label("present"), func.max(versions.c.number).label("newest"))
        .where(versions.c.deleted.is_(None))
        .group_by(versions.c.model)
    )
    counts = {row.model: row for row in connection.execute(counted)}
    named: dict[str, dict[str, int]] = {}
    for row in connection.execute(select(aliases).order_by(aliases.c.model, aliases.c.alias)):
        named.setdefault(row.model, {})[row.alias] = row.number
    names = connection.execute(select(models.c.name).order_by(models.c.name)).scalars()
    return [_model(name, counts.get(name), named.get(name, {})) for name in names]


def delete(connection: Connection, version: Version, *, who: str, why: str, token: str) -> Event:
    """Mark as deleted. Raises RegistryError where it is already, or where an alias or a running rollout names it."""
    if version.deleted is not None:
        raise RegistryError(version.name, f"was deleted on {version.deleted:%Y-%m-%d}", "see: shipworthy history")
    if version.aliases:
        named = ", ".join(version.aliases)
        raise RegistryError(version.name, f"is named by an alias: {named}", "move it to another version first")
    if (version.model, version.number) in pinned(connection):
        raise RegistryError(version.name, "is part of a running rollout", "stop it first: shipworthy rollout stop")
    event = log.append(connection, version.model, log.DELETED, who=who, version=version.number, why=why, token=token)
    connection.execute(update(versions).where(_is(version.model, version.number)).values(deleted=event.at))
    return event


def pinned(connection: Connection) -> set[tuple[str, int]]:
    """Versions that a running rollout compares."""
    if not inspect(connection).has_table(_ROLLOUTS.name):
        return set()
    running = select(_ROLLOUTS).where(_ROLLOUTS.c.state == "running")
    return {(row.model, number) for row in connection.execute(running) for number in (row.champion, row.challenger)}


def blobs_of(connection: Connection, digest: str) -> tuple[Blob, ...]:
    """The files of a package, sorted by path; empty where it was freed."""
    query = select(package_blobs).where(package_blobs.c.digest == digest)
    return tuple(
        sorted((Blob(row.path, row.sha256, row.size) for row in connection.execute(query)), key=lambda b: b.path)
    )


def aliases_of(connection: Connection, model: str) -> dict[str, int]:
    query = select(aliases.c.alias, aliases.c.number).where(aliases.c.model == model).order_by(aliases.c.alias)
    return {row.alias: row.number for row in connection.execute(query)}


def version_of(row: Row[Any], named: Mapping[str, int]) -> Version:
    values = {name: getattr(row, name) for name in Version.__dataclass_fields__ if name != "aliases"}
    return Version(**values, aliases=tuple(alias for alias, number in named.items() if number == row.number))


def _is(model: str, number: int) -> ColumnElement[bool]:
    return and_(versions.c.model == model, versions.c.number == number)


def _missing(connection: Connection, model: str, number: int) -> RegistryError:
    newest = newest_number(connection, model)
    return RegistryError(f"{model}:{number}", "is no version", f"the newest is {model}:{newest}")


def _take_number(connection: Connection, model: str) -> int:
    number = connection.execute(select(models.c.next_number).where(models.c.name == model)).scalar()
    if number is None:
        connection.execute(models.insert(), {"name": model, "next_number": 2})
        return 1
    connection.execute(update(models).where(models.c.name == model).values(next_number=number + 1))
    return int(number)


def _model(name: str, counted: Row[Any] | None, named: Mapping[str, int]) -> Model:
    if counted is None:
        return Model(name, 0, None, dict(named))
    return Model(name, counted.present, counted.newest, dict(named))
