"""Rows of rollouts: read, locked, and written back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from ..registry.rollout_tables import rollout_flushes, rollouts
from .observed import Observed
from .record import Rollout
from .spec import Spec

_PLAIN = ("id", "model", "champion", "challenger", "state", "verdict", "reason", "stage", "share", "stage_seen",
          "stage_began", "started", "ended", "who", "why", "revision")  # fmt: skip


def rollout_of(row: Row[Any]) -> Rollout:
    plain = {name: getattr(row, name) for name in _PLAIN}
    return Rollout(**plain, spec=Spec.from_json(row.spec), evidence_json=row.evidence, tally_json=row.tally)


def values_of(rollout: Rollout) -> dict[str, Any]:
    plain = {name: getattr(rollout, name) for name in _PLAIN}
    spec, evidence, tally = rollout.spec.to_json(), rollout.evidence_json, rollout.tally_json
    return {**plain, "mode": rollout.mode, "spec": spec, "evidence": evidence, "tally": tally}


def add(connection: Connection, rollout: Rollout) -> None:
    connection.execute(insert(rollouts), values_of(rollout))


def write(connection: Connection, rollout: Rollout) -> None:
    values = values_of(rollout)
    connection.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(values))


def next_id(connection: Connection) -> int:
    """In a transaction that is alone."""
    return (connection.execute(select(func.max(rollouts.c.id))).scalar() or 0) + 1


def lock(connection: Connection, number: int) -> Rollout | None:
    """The rollout, which nobody else changes until the transaction ends; None where there is no such."""
    row = connection.execute(select(rollouts).where(rollouts.c.id == number).with_for_update()).first()
    return None if row is None else rollout_of(row)


def lock_running(connection: Connection, model: str) -> Rollout | None:
    query = select(rollouts).where(rollouts.c.model == model, rollouts.c.state == "running")
    row = connection.execute(query.with_for_update()).first()
    return None if row is None else rollout_of(row)


def is_told_again(connection: Connection, rollout: int, observed: Observed) -> bool:
    """Whether this telling of the worker was merged before; from now on it was. The rollout's row is locked."""
    if not observed.worker:
        return False
    this = (rollout_flushes.c.rollout == rollout) & (rollout_flushes.c.worker == observed.worker)
    last = connection.execute(select(rollout_flushes.c.number).where(this)).scalar()
    if last is None:
        row = {"rollout": rollout, "worker": observed.worker, "number": observed.number}
        connection.execute(insert(rollout_flushes), row)
    elif last < observed.number:
        connection.execute(update(rollout_flushes).where(this).values(number=observed.number))
    return last is not None and last >= observed.number


def now_of(connection: Connection) -> datetime:
    """The clock of the database's server where there is one: those of its clients differ."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)
