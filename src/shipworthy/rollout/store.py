"""The rollouts of a registry: begun, told what workers see, and ended. Each knows all in one row of the database.

A decision is made by whoever tells something, in the transaction in which it is counted: so it is made once, from all
that has been seen, and a restart loses only what had not been told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection, select

from ..errors import RolloutError
from ..predict.ids import MAX_CLASSES
from ..registry import log, moving
from ..registry.names import CHAMPION, Reference, parse
from ..registry.records import Version
from ..registry.rollout_tables import rollouts
from ..registry.versions import aliases_of, find, newest_number
from ..registry.words import LONGEST, check_details, one_line
from . import pairs, rows
from .acting import CHALLENGER, MustBeAlone, carry_out, conclude, end
from .controller import decide_alarm, details_of
from .counting import KeyFilters, KeyLog
from .deaths import MOST
from .evidence import Evidence
from .judging import settle_early
from .losses import COMPARED, Question
from .merging import absorb, requests_at
from .observed import Observed
from .questions import Questions
from .record import Ended, Rollout
from .spec import Spec
from .tally import Tally

if TYPE_CHECKING:
    from ..registry import Registry

Clock: TypeAlias = Callable[[Connection], datetime]


class Rollouts:
    """May be used by any thread. What it remembers of a rollout is read from the database, never the other way."""

    def __init__(self, registry: Registry, *, clock: Clock = rows.now_of) -> None:
        self._database = registry.database
        self._who = registry.who
        self._clock = clock
        self._filters = KeyFilters("assigned", "completed", "settled", "copied")
        self._questions = Questions()
        self._guard = threading.Lock()

    def start(self, model: str, challenger: str, spec: Spec, *, why: str = "") -> Rollout:
        """Try `challenger`, such as `digits:4` or `digits@staging`, beside what the alias champion names.

        The alias challenger names it from now on. Raises RolloutError where it cannot be tried, RegistryError where
        there is no such version."""
        reference = parse(challenger)
        if reference.model != model:
            raise RolloutError(challenger, f"is no version of {model}", f"give one of it, such as {model}:2")
        return self._database.transact(lambda connection: self._start(connection, reference, spec, why))

    def stop(self, model: str, *, why: str = "") -> Rollout:
        """End the running rollout of a model; the champion stays. Raises RolloutError where there is none."""
        return self._database.transact(lambda connection: self._stop(connection, model, why))

    def fail(self, number: int, why: str) -> Rollout:
        """End a rollout as lost, because its challenger cannot be served; one that has ended stays as it is."""
        return self._database.transact(lambda connection: self._fail(connection, number, why))

    def note_death(self, number: int, why: str) -> Rollout:
        """A process died while it tried the challenger: the history gets an event; after `MOST` of them it has lost."""
        return self._database.transact(lambda connection: self._note_death(connection, number, why))

    def alarmed(
        self, model: str, version: int, why: str, *, details: Mapping[str, Any] | None = None
    ) -> Rollout | None:
        """A monitor's alarm stands for a version of the model, and none for its champion: what moved for both would be
        the traffic. The rollout as it is then; None where none is running that tries this version with the guardrail
        drift, which costs one question.

        May be told as often as one likes: the same verdict is noted once. `details` go into the history with it.
        Raises RegistryError where the database cannot be reached; then nothing has happened."""
        rollout = self.active(model)
        if rollout is None or rollout.challenger != version or "drift" not in rollout.spec.guardrails:
            return None
        if rollout.verdict == "rollback" and not rollout.spec.auto:
            return rollout
        said, told = one_line(why)[:LONGEST], check_details(details)
        return self._database.transact(lambda connection: self._alarmed(connection, rollout.id, said, told))

    def get(self, number: int) -> Rollout:
        """Raises RolloutError where there is no such rollout."""
        with self._database.read() as connection:
            row = connection.execute(select(rollouts).where(rollouts.c.id == number)).first()
        if row is None:
            raise _unknown(number)
        return rows.rollout_of(row)

    def look(self, number: int) -> Rollout:
        """The same, but one whose time is over ends now: where no server runs, nobody else would notice."""
        rollout = self.get(number)
        with self._database.read() as connection:
            over = (self._clock(connection) - rollout.started).total_seconds() >= rollout.spec.timeout_s
        return self.merge(number, Observed()) if rollout.running and over else rollout

    def active(self, model: str) -> Rollout | None:
        """The one that is running; a model has one at most."""
        with self._database.read() as connection:
            query = select(rollouts).where(rollouts.c.model == model, rollouts.c.state == "running")
            row = connection.execute(query).first()
        return None if row is None else rows.rollout_of(row)

    def list(self, model: str | None = None, *, limit: int | None = None) -> Sequence[Rollout]:
        """Newest first."""
        query = select(rollouts).order_by(rollouts.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            found = connection.execute(query if model is None else query.where(rollouts.c.model == model)).all()
        return [rows.rollout_of(row) for row in found]

    def merge(self, number: int, observed: Observed) -> Rollout:
        """Add what a worker saw, decide, and act: the rollout as it is then.

        One transaction. What comes after the end is ignored. A telling that has a worker's name and number counts
        once, however often it comes. Raises RolloutError where there is no such rollout, RegistryError where the
        database cannot be reached: then nothing was counted, or, where the connection broke during the commit, it may
        have been; with a name and a number it is safe to tell it again."""
        with self._guard:
            return once_decided(
                lambda alone: self._database.transact(
                    lambda connection: self._merge(connection, number, observed, alone),
                    alone=alone,
                    repeatable=bool(observed.worker),
                )
            )

    def forget(self, number: int) -> None:
        """Keep nothing more of a rollout in memory: it has ended, whoever ended it."""
        with self._guard:
            self._filters.forget(number)

    def _start(self, connection: Connection, reference: Reference, spec: Spec, why: str) -> Rollout:
        model = reference.model
        newest_number(connection, model)
        named = aliases_of(connection, model)
        champion = named.get(CHAMPION)
        if champion is None:
            remedy = "make one first: shipworthy promote"
            raise RolloutError(f"{model}@{CHAMPION}", "names no version, so there is nothing to compare with", remedy)
        running = rows.lock_running(connection, model)
        if running is not None:
            reason = f"rollout {running.id} is running, of {model}:{running.challenger}"
            raise RolloutError(model, reason, f"wait, or stop it: shipworthy rollout stop {model}")
        challenger = find(connection, reference)
        self._check(connection, challenger, champion, spec)
        now = self._clock(connection)
        rollout = Rollout(
            id=rows.next_id(connection),
            model=model,
            champion=champion,
            challenger=challenger.number,
            spec=spec,
            state="running",
            verdict=None,
            reason="",
            stage=0,
            share=spec.shares[0],
            stage_seen=0,
            stage_began=now,
            started=now,
            ended=None,
            who=self._who,
            why=why,
            evidence_json=Evidence(spec.mode, spec.delta).to_json(),
            tally_json=Tally().to_json(),
            revision=0,
        )
        judgement = rollout.judgement()
        rollout = replace(rollout, reason=judgement.reason)
        rows.add(connection, rollout)
        details = {**details_of(rollout, judgement), "spec": spec.to_json()}
        before, tried = named.get(CHALLENGER), {"rollout": rollout.id}
        moving.move(
            connection, model, CHALLENGER, challenger.number, previous=before, who=self._who, why=why, details=tried
        )
        log.append(
            connection, model, "rollout-started", version=challenger.number, who=self._who, why=why, details=details,
            adds=True,
        )  # fmt: skip
        return rollout

    def _check(self, connection: Connection, challenger: Version, champion: int, spec: Spec) -> None:
        if challenger.number == champion:
            raise RolloutError(challenger.name, "is the champion itself", "give another version")
        if challenger.deleted is not None:
            raise RolloutError(challenger.name, "is deleted", "give another version")
        ours = self._questions.of(connection, challenger.model, champion)
        theirs = self._questions.of(connection, challenger.model, challenger.number)
        if ours is None or theirs is None or (ours.kind, ours.labels) != (theirs.kind, theirs.labels):
            reason = f"has another task or other classes than the champion, {challenger.model}:{champion}"
            raise RolloutError(challenger.name, reason, "their answers cannot be compared: promote it by hand")
        _check_judged(ours, spec)

    def _stop(self, connection: Connection, model: str, why: str) -> Rollout:
        running = rows.lock_running(connection, model)
        if running is None:
            newest_number(connection, model)
            raise RolloutError(model, "has no running rollout", f"see: shipworthy rollout list {model}")
        return self._end(connection, running, "stopped", why or f"Stopped by {self._who}. {running.reason}")

    def _fail(self, connection: Connection, number: int, why: str) -> Rollout:
        rollout = rows.lock(connection, number)
        if rollout is None:
            raise _unknown(number)
        return self._end(connection, rollout, "rollback", why) if rollout.running else rollout

    def _note_death(self, connection: Connection, number: int, why: str) -> Rollout:
        rollout = rows.lock(connection, number)
        if rollout is None:
            raise _unknown(number)
        if not rollout.running:
            return rollout
        tally = rollout.tally
        tally.deaths += 1
        rollout = replace(rollout, tally_json=tally.to_json(), revision=rollout.revision + 1)
        rows.write(connection, rollout)
        kind, tried, details = "worker-died", rollout.challenger, {"rollout": number}
        log.append(connection, rollout.model, kind, version=tried, who=self._who, why=why, details=details)
        if tally.deaths < MOST:
            return rollout
        reason = f"{tally.deaths} processes died while they tried the challenger; the last one: {why}"
        return self._end(connection, rollout, "rollback", reason)

    def _alarmed(self, connection: Connection, number: int, why: str, told: Mapping[str, Any]) -> Rollout | None:
        rollout = rows.lock(connection, number)
        if rollout is None or not rollout.running:
            return rollout
        champion = aliases_of(connection, rollout.model).get(CHAMPION)
        decision = decide_alarm(rollout, why, told, champion=champion, now=self._clock(connection))
        return carry_out(connection, decision, who=self._who) if decision.notes else rollout

    def _end(self, connection: Connection, rollout: Rollout, state: Ended, reason: str) -> Rollout:
        """Without a verdict of the evidence, which is kept as it is."""
        now = self._clock(connection)
        ended = replace(rollout, state=state, reason=reason, ended=now, revision=rollout.revision + 1)
        ended = end(connection, ended, who=self._who)
        details = details_of(ended, ended.judgement())
        kind, version, said = "rollout-ended", ended.challenger, f"{state}: {reason}"
        log.append(connection, ended.model, kind, version=version, who=self._who, why=said, details=details)
        rows.write(connection, ended)
        return ended

    def _merge(self, connection: Connection, number: int, observed: Observed, alone: bool) -> Rollout:
        rollout = rows.lock(connection, number)
        if rollout is None:
            raise _unknown(number)
        if not rollout.running:
            self._filters.forget(number)
            return rollout
        evidence, tally = rollout.evidence, rollout.tally
        filters = self._filters.catch_up(connection, number)
        now = self._clock(connection)
        if not rows.is_told_again(connection, number, observed):
            keys = KeyLog(connection, number, filters, tally)
            waiting = absorb(observed, rollout.spec, evidence, tally, keys)
            if waiting:
                waiting = settle_early(connection, rollout, waiting, evidence, tally, self._questions)
                pairs.keep(connection, number, waiting, tally, most=rollout.spec.max_pairs, now=now)
            seen = rollout.stage_seen + requests_at(rollout.share, observed.assigned)
            rollout = replace(rollout, stage_seen=seen)
        after = conclude(connection, rollout, evidence, tally, now=now, who=self._who, alone=alone)
        if not after.running:
            self._filters.forget(number)
        return after


def _check_judged(question: Question, spec: Spec) -> None:
    """Raises RolloutError where nothing that could come would ever judge the answers."""
    if question.kind == "regression" and spec.error_scale is None:
        reason, remedy = "is needed to compare numbers", "give the absolute error that counts as a whole loss"
        raise RolloutError("rollout.error_scale", reason, f"{remedy}: --error-scale")
    if spec.mode != "shadow":
        return
    remedy = "choose --mode canary, and send a loss for each answer"
    if question.kind not in COMPARED:
        reason = f"cannot judge a model of the task {question.kind}: its answers are not compared with labels"
        raise RolloutError("a shadow", reason, remedy)
    if question.kind == "multilabel" and question.labels is not None and len(question.labels) > MAX_CLASSES:
        reason = f"compares sets of at most {MAX_CLASSES} classes, and this model has {len(question.labels)}"
        raise RolloutError("a shadow", reason, remedy)


def once_decided(attempt: Callable[[bool], Rollout]) -> Rollout:
    """`attempt(False)`; where it would write history, nothing of it is kept, and `attempt(True)` does it alone."""
    try:
        return attempt(False)
    except MustBeAlone:
        return attempt(True)


def _unknown(number: int) -> RolloutError:
    return RolloutError(f"rollout {number}", "is not known", "see: shipworthy rollout list")
