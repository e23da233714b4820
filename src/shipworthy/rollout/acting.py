"""A decision, carried out in the transaction that it was made in: the row, the aliases, and the history."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, delete

from ..registry import log, moving
from ..registry.names import CHAMPION
from ..registry.rollout_tables import rollout_flushes
from ..registry.versions import aliases_of
from . import rows
from .controller import Decision, decide
from .counting import forget_keys
from .evidence import Evidence
from .pairs import forget_pairs
from .record import Rollout
from .tally import Tally

CHALLENGER = "challenger"


class MustBeAlone(Exception):
    """There is something to note in the history, which only a transaction that is alone may do."""


def conclude(
    connection: Connection, rollout: Rollout, evidence: Evidence, tally: Tally, *, now: datetime, who: str, alone: bool
) -> Rollout:
    """Decide on what has been added to a running rollout, and write it. Its row is locked.

    Raises MustBeAlone, before anything of the history is written, where it has to be done again `alone`."""
    champion = aliases_of(connection, rollout.model).get(CHAMPION)
    decision = decide(rollout, evidence, champion=champion, now=now)
    if decision.notes and not alone:
        raise MustBeAlone
    decided = replace(decision.rollout, evidence_json=evidence.to_json(), tally_json=tally.to_json())
    return carry_out(connection, replace(decision, rollout=decided), who=who)


def carry_out(connection: Connection, decision: Decision, *, who: str) -> Rollout:
    """Write the rollout as it was decided, and what is to be noted. Its row is locked."""
    after = replace(decision.rollout, revision=decision.rollout.revision + 1)
    for note in decision.notes:
        if note.kind == "rollout-ended":
            after = end(connection, after, who=who)
        log.append(
            connection, after.model, note.kind, version=after.challenger, who=who, why=note.why, details=note.details
        )
    rows.write(connection, after)
    return after


def end(connection: Connection, rollout: Rollout, *, who: str) -> Rollout:
    """What the end of a rollout does beside: aliases follow the verdict, and what only a running one needs is freed.

    The alias challenger stays where nothing was decided; it is not taken from a version that somebody else gave it."""
    model, challenger = rollout.model, rollout.challenger
    why, details = f"rollout {rollout.id}: {rollout.reason}", {"rollout": rollout.id}
    named = aliases_of(connection, model)
    if rollout.state == "promote":
        champion = named.get(CHAMPION)
        moving.check_expected(model, CHAMPION, champion, rollout.champion)
        moving.move(
            connection, model, CHAMPION, challenger, previous=champion, who=who, why=why, details=details, adds=False
        )
    if rollout.state in ("promote", "rollback") and named.get(CHALLENGER) == challenger:
        moving.move(connection, model, CHALLENGER, None, previous=challenger, who=who, why=why, details=details)
    forget_keys(connection, rollout.id)
    forget_pairs(connection, rollout.id)
    connection.execute(delete(rollout_flushes).where(rollout_flushes.c.rollout == rollout.id))
    tally = rollout.tally
    return replace(rollout, tally_json=_without_pairs(tally).to_json())


def _without_pairs(tally: Tally) -> Tally:
    tally.evicted += tally.pairs
    tally.pairs = 0
    return tally
