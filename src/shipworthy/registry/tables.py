"""The tables of a registry. `migrations` makes them; a test compares both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(TypeDecorator[datetime]):
    """A time in UTC, kept as whole microseconds since 1970: the same in every database, and in order."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


VERSION_TABLE = "registry_revision"
"""Holds the number of the last migration. Not Alembic's own default, which another program may use in the same
database."""

metadata = MetaData()

settings = Table(
    "settings",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

packages = Table(
    "packages",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("manifest", Text, nullable=False),
)

package_blobs = Table(
    "package_blobs",
    metadata,
    Column("digest", String(64), ForeignKey("packages.digest", ondelete="CASCADE"), primary_key=True),
    Column("path", String(240), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Index("package_blobs_sha256", "sha256"),
)

models = Table(
    "models",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("next_number", Integer, nullable=False),
)

# A deleted version stays when its package is freed, so `digest` refers to no table.
versions = Table(
    "versions",
    metadata,
    Column("model", String(63), ForeignKey("models.name"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("created", Instant, nullable=False),
    Column("who", Text, nullable=False),
    Column("git_commit", String(80)),
    Column("parent", Integer),
    Column("contract_digest", String(64), nullable=False),
    Column("parameters", BigInteger),
    Column("metrics", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("why", Text, nullable=False),
    Column("deleted", Instant),
    Index("versions_digest", "digest", "number"),
    Index("versions_present", "model", "deleted", "number"),
    Index("versions_parent", "model", "parent", "number"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("alias", String(63), primary_key=True),
    Column("number", Integer, nullable=False),
    ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"]),
)

events = Table(
    "events",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("model", String(63), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("version", Integer),
    Column("alias", String(63)),
    Column("previous", Integer),
    Column("why", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Column("token", String(128)),
    Index("events_of_model", "model", "number"),
    Index("events_of_alias", "model", "alias", "at", "number"),
    Index("events_of_every_alias", "alias", "number"),
    Index("events_of_version", "model", "version", "number"),
    Index("events_of_previous", "model", "previous", "number"),
    Index("events_token", "token", unique=True),
)
"""`token` names the call that wrote an event, so that a call whose answer was lost is not carried out twice."""
