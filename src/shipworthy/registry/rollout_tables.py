"""The tables of rollouts and of the labels that judge them. `migrations` makes them; a test compares both."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

from .tables import Instant, metadata

RUNNING = text("state = 'running'")

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("model", String(63), nullable=False),
    Column("champion", Integer, nullable=False),
    Column("challenger", Integer, nullable=False),
    Column("mode", String(16), nullable=False),
    Column("spec", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("verdict", String(16)),
    Column("reason", Text, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("share", Float, nullable=False),
    Column("stage_seen", BigInteger, nullable=False),
    Column("stage_began", Instant, nullable=False),
    Column("started", Instant, nullable=False),
    Column("ended", Instant),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("tally", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    ForeignKeyConstraint(["model", "champion"], ["versions.model", "versions.number"]),
    ForeignKeyConstraint(["model", "challenger"], ["versions.model", "versions.number"]),
    Index("rollouts_of_model", "model", "id"),
    Index("rollouts_running", "model", unique=True, sqlite_where=RUNNING, postgresql_where=RUNNING),
)
"""`stage_seen` counts the requests that were assigned with the present share. `tally` is JSON of its plain counts."""

# Digests of keys that have been counted, in the order in which they were: 8 bytes each, big-endian. Appended to while
# the rollout's row is locked, so that `seq` has no gap that is filled later.
rollout_keys = Table(
    "rollout_keys",
    metadata,
    Column("rollout", Integer, ForeignKey("rollouts.id"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("stream", String(16), nullable=False),
    Column("digests", LargeBinary, nullable=False),
)

# Number of the last flush of each worker that was merged: one whose answer was lost is not merged again.
rollout_flushes = Table(
    "rollout_flushes",
    metadata,
    Column("rollout", Integer, ForeignKey("rollouts.id"), primary_key=True),
    Column("worker", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

# What both versions predicted, as the 64 bits that ids have, read as a signed number.
rollout_pairs = Table(
    "rollout_pairs",
    metadata,
    Column("rollout", Integer, ForeignKey("rollouts.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary(16), nullable=False),
    Column("champion", BigInteger, nullable=False),
    Column("challenger", BigInteger, nullable=False),
    Column("worst", Float, nullable=False),
    Column("created", Instant, nullable=False),
    Index("rollout_pairs_digest", "rollout", "digest", unique=True),
)

labels = Table(
    "labels",
    metadata,
    Column("digest", LargeBinary(16), primary_key=True),
    Column("model", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("rollout", Integer),
    Column("label", Text, nullable=False),
    Column("predicted", Float),
    Column("loss", Float),
    Column("received", Instant, nullable=False),
    Index("labels_received", "received"),
    Index("labels_of_version", "model", "version", "received"),
)
"""A digest stands for a prediction's id. `predicted` is the class or the number that was answered, and `loss` how wrong
it was; NULL where that cannot be said."""

label_counts = Table(
    "label_counts",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("outcome", String(16), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

losses = Table(
    "losses",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("loss", SmallInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
)
"""How wrong a version's answers were, of all labels that ever came; `losses.py` says what is in a row. `hour` is
counted from 1970, and is no `Instant`: times that a wrong clock wrote are all brought to one, which here would be many
rows."""
