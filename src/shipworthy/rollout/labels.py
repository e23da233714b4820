"""Labels of predictions: taken once, remembered, and turned into the evidence that they give.

The id of a prediction says all that is to be known of it, so there is no table of predictions. What a label says is
written in the same transaction as the evidence that follows from it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection, delete, select

from ..errors import FeedbackError, RegistryError
from ..predict.ids import Prediction, read_id, tag_of
from ..registry.rollout_tables import label_counts, labels
from ..registry.tables import models
from . import rows
from .acting import MustBeAlone, conclude
from .counting import KeyFilters, KeyLog
from .judging import Labelled, add_labels
from .pairs import digest_of_id
from .questions import Questions
from .record import Rollout
from .remembering import Item, Taken, count, remember

if TYPE_CHECKING:
    from ..registry import Registry

Clock: TypeAlias = Callable[[Connection], datetime]

MAX_AGE = timedelta(days=30)
"""A label that comes later after its prediction gives no evidence; nor are labels remembered for longer."""


class Labels:
    """May be used by any thread."""

    def __init__(
        self, registry: Registry, key: bytes, *, max_age: timedelta = MAX_AGE, clock: Clock = rows.now_of
    ) -> None:
        """`key` seals the ids of this registry's predictions: see `keys.prediction_key`."""
        self._database = registry.database
        self._who = registry.who
        self._key = key
        self._max_age = max_age
        self._clock = clock
        self._filters = KeyFilters("labelled")
        self._questions = Questions()
        self._guard = threading.Lock()

    def take(self, model: str, items: Sequence[tuple[str, object]], now: datetime | None = None) -> list[Taken]:
        """Take labels: each the id of a prediction with a class (name or index), a list of classes, a number, or a
        `Loss`. What becomes of each is in the order of the items.

        One transaction. Raises RegistryError where the database cannot be reached; then the same may be sent again."""
        with self._guard:
            try:
                return self._database.transact(
                    lambda connection: self._take(connection, model, items, now), alone=False
                )
            except MustBeAlone:
                return self._database.transact(lambda connection: self._take(connection, model, items, now, alone=True))

    def counts(self, model: str) -> dict[str, int]:
        """How many labels of a model had each outcome, since the registry was made."""
        query = select(label_counts.c.outcome, label_counts.c.number).where(label_counts.c.model == model)
        with self._database.read() as connection:
            return {row.outcome: row.number for row in connection.execute(query.order_by(label_counts.c.outcome))}

    def prune(self, older_than: timedelta | None = None) -> int:
        """Forget labels that came so long ago, by default as long as a prediction may wait for its label; gives their
        number. Raises RegistryError for less: a label that is sent again would then count twice."""
        span = self._max_age if older_than is None else older_than
        if span < self._max_age:
            reason = f"would forget labels of the last {self._max_age.days} days, which could then count twice"
            raise RegistryError("labels", reason, f"keep at least {self._max_age.days} days")

        def work(connection: Connection) -> int:
            before = self._clock(connection) - span
            return connection.execute(delete(labels).where(labels.c.received < before)).rowcount

        return self._database.transact(work, alone=False)

    def _take(
        self,
        connection: Connection,
        model: str,
        given: Sequence[tuple[str, object]],
        now: datetime | None,
        *,
        alone: bool = False,
    ) -> list[Taken]:
        if connection.execute(select(models.c.name).where(models.c.name == model)).first() is None:
            return [Taken("unknown-model", f"the registry has no model {model!r}")] * len(given)
        now = self._clock(connection) if now is None else now
        taken: dict[int, Taken] = {}
        predictions = self._predictions(model, given, taken)
        locked = {number: rows.lock(connection, number) for number in sorted({p.rollout for _, p in predictions} - {0})}
        running = {
            number: one for number, one in locked.items() if one is not None and one.model == model and one.running
        }
        filters = {number: self._filters.catch_up(connection, number) for number in running}
        items = self._items(connection, model, given, predictions, running, now, taken)
        new = remember(connection, model, items, now, taken)
        self._give_evidence(connection, new, running, filters, now, alone)
        count(connection, model, taken)
        return [taken[place] for place in range(len(given))]

    def _predictions(
        self, model: str, given: Sequence[tuple[str, object]], taken: dict[int, Taken]
    ) -> list[tuple[int, Prediction]]:
        """What the ids say, with the place of each; `taken` gets those that say nothing."""
        found = []
        tag = tag_of(model)
        for place, (text, _) in enumerate(given):
            try:
                prediction = read_id(self._key, text)
            except FeedbackError as error:
                taken[place] = Taken("forged", error.reason)
                continue
            if prediction.model_tag == tag:
                found.append((place, prediction))
            else:
                taken[place] = Taken("unknown-model", f"the id is of another model than {model!r}")
        return found

    def _items(
        self,
        connection: Connection,
        model: str,
        given: Sequence[tuple[str, object]],
        predictions: Sequence[tuple[int, Prediction]],
        running: Mapping[int, Rollout],
        now: datetime,
        taken: dict[int, Taken],
    ) -> list[Item]:
        """Those whose label means something; `taken` gets the others."""
        items = []
        oldest = (now - self._max_age).timestamp()
        for place, prediction in predictions:
            question = self._questions.of(connection, model, prediction.version)
            if question is None:
                taken[place] = Taken("unusable", f"the package of {model}:{prediction.version} is gone")
                continue
            rollout = running.get(prediction.rollout)
            if rollout is not None:
                question = replace(question, error_scale=rollout.spec.error_scale)
            try:
                truth = question.truth(given[place][1])
            except FeedbackError as error:
                taken[place] = Taken("unusable", error.reason)
                continue
            late = f"rollout {prediction.rollout} has ended" if prediction.rollout and rollout is None else ""
            if prediction.at < oldest:
                late = f"the prediction is older than {self._max_age.days} days"
            items.append(Item(place, digest_of_id(prediction.unique), prediction, truth, question, late))
        return items

    def _give_evidence(
        self,
        connection: Connection,
        items: Sequence[Item],
        running: Mapping[int, Rollout],
        filters: Mapping[int, Mapping[str, Any]],
        now: datetime,
        alone: bool,
    ) -> None:
        by_rollout: dict[int, list[Labelled]] = defaultdict(list)
        for item in items:
            if item.prediction.rollout and not item.late:
                labelled = Labelled(item.digest, item.prediction, item.truth, item.question)
                by_rollout[item.prediction.rollout].append(labelled)
        for number, given in by_rollout.items():
            rollout = running[number]
            evidence, tally = rollout.evidence, rollout.tally
            keys = KeyLog(connection, number, filters[number], tally)
            add_labels(connection, rollout, given, evidence, tally, keys)
            after = conclude(connection, rollout, evidence, tally, now=now, who=self._who, alone=alone)
            if not after.running:
                self._filters.forget(number)
