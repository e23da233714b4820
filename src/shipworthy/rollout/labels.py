"""Labels of predictions: taken once, remembered, and turned into the evidence that they give.

The id of a prediction says all that is to be known of it, so there is no table of predictions. What a label says is
written in the same transaction as the evidence that follows from it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

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
from .seen import Bloom

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
        call = _Call(connection, model, now, given)
        predictions = call.read(self._key)
        call.lock({prediction.rollout for _, prediction in predictions} - {0})
        filters = {number: self._catch_up(connection, one) for number, one in call.rollouts.items()}
        new = remember(connection, model, call.items(predictions, self._questions, self._max_age), now, call.taken)
        for number, labelled in _by_rollout(new).items():
            rollout = call.rollouts[number]
            evidence, tally = rollout.evidence, rollout.tally
            add_labels(
                connection, rollout, labelled, evidence, tally, KeyLog(connection, number, filters[number], tally)
            )
            conclude(connection, rollout, evidence, tally, now=now, who=self._who, alone=alone)
        count(connection, model, call.taken)
        return [call.taken[place] for place in range(len(given))]

    def _catch_up(self, connection: Connection, rollout: Rollout) -> Mapping[str, Bloom]:
        if rollout.running:
            return self._filters.catch_up(connection, rollout.id)
        self._filters.forget(rollout.id)
        return {}


class _Call:
    """What is given in one call, and what becomes of it, within its transaction."""

    def __init__(self, connection: Connection, model: str, now: datetime, given: Sequence[tuple[str, object]]) -> None:
        self.taken: dict[int, Taken] = {}
        """By the place of the label."""
        self.rollouts: dict[int, Rollout] = {}
        """Those of the model that predictions were part of; locked, and some of them have ended."""
        self._connection, self._model, self._now, self._given = connection, model, now, given

    def read(self, key: bytes) -> list[tuple[int, Prediction]]:
        """What the ids say, with the place of each; `taken` gets those that say nothing."""
        found = []
        tag = tag_of(self._model)
        for place, (text, _) in enumerate(self._given):
            try:
                prediction = read_id(key, text)
            except FeedbackError as error:
                self.taken[place] = Taken("forged", error.reason)
                continue
            if prediction.model_tag == tag:
                found.append((place, prediction))
            else:
                self.taken[place] = Taken("unknown-model", f"the id is of another model than {self._model!r}")
        return found

    def lock(self, numbers: Collection[int]) -> None:
        """In one order for all callers, so that no two wait for each other."""
        for number in sorted(numbers):
            rollout = rows.lock(self._connection, number)
            if rollout is not None and rollout.model == self._model:
                self.rollouts[number] = rollout

    def items(
        self, predictions: Sequence[tuple[int, Prediction]], questions: Questions, max_age: timedelta
    ) -> list[Item]:
        """Those whose label means something; `taken` gets the others."""
        items = []
        for place, prediction in predictions:
            question = questions.of(self._connection, self._model, prediction.version)
            if question is None:
                gone = f"the package of {self._model}:{prediction.version} is gone"
                self.taken[place] = Taken("unusable", gone)
                continue
            rollout = self.rollouts.get(prediction.rollout)
            if rollout is not None:
                question = replace(question, error_scale=rollout.spec.error_scale)
            try:
                truth = question.truth(self._given[place][1])
            except FeedbackError as error:
                self.taken[place] = Taken("unusable", error.reason)
                continue
            late = self._late(prediction, rollout, max_age)
            items.append(Item(place, digest_of_id(prediction.unique), prediction, truth, question, late))
        return items

    def _late(self, prediction: Prediction, rollout: Rollout | None, max_age: timedelta) -> str:
        if prediction.at < (self._now - max_age).timestamp():
            return f"the prediction is older than {max_age.days} days"
        ended = prediction.rollout and (rollout is None or not rollout.running)
        return f"rollout {prediction.rollout} has ended" if ended else ""


def _by_rollout(items: Sequence[Item]) -> dict[int, list[Labelled]]:
    """Those that give evidence."""
    found: dict[int, list[Labelled]] = defaultdict(list)
    for item in items:
        if item.prediction.rollout and not item.late:
            found[item.prediction.rollout].append(Labelled(item.digest, item.prediction, item.truth, item.question))
    return found
