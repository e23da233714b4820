"""Labels of predictions: taken once, remembered, and turned into the evidence that they give.

The id of a prediction says all that is to be known of it, so there is no table of predictions. What a label says is
written in the same transaction as the evidence that follows from it. Labels are one kind of what is written into a
registry, and leave the others their turn: what is to be found out without writing is found out before, they come in
small transactions, and after each there is a rest."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import Connection, delete, select

from ..errors import RegistryError
from ..predict.ids import Prediction
from ..registry.losses import fold
from ..registry.rollout_tables import label_counts, labels
from . import rows
from .acting import MustBeAlone, conclude
from .counting import KeyFilters, KeyLog
from .given import Given
from .judging import Labelled, add_labels
from .questions import Questions
from .record import Rollout
from .remembering import Item, Outcome, Taken, count, remember
from .seen import Bloom
from .turns import Turns

if TYPE_CHECKING:
    from ..registry import Registry

Clock: TypeAlias = Callable[[Connection], datetime]

MAX_AGE = timedelta(days=30)
"""A label that comes later after its prediction gives no evidence; nor are labels remembered for longer."""
AT_ONCE = 500
"""Labels of one transaction."""
FORGOTTEN_AT_ONCE = 5000
"""Of one transaction too."""
COUNT_S = 1.0
"""What is refused is counted with what is taken; where nothing is, once in so many seconds."""


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
        self._turns = Turns()
        self._uncounted: defaultdict[str, Counter[Outcome]] = defaultdict(Counter)
        """By model, of what was refused. It changes in a turn."""
        self._reading = threading.Lock()

    def take(self, model: str, items: Sequence[tuple[str, object]], now: datetime | None = None) -> list[Taken]:
        """Take labels: each the id of a prediction with a class (name or index), a list of classes, a number, or a
        `Loss`. What becomes of each is in the order of the items.

        `AT_ONCE` in a transaction, and none where no id is of this registry. Raises RegistryError where the database
        cannot be reached; then the same may be sent again: what was taken before is a duplicate."""
        given = Given(model, items)
        given.read(self._key)
        with self._reading:
            if not self._database.ask(lambda connection: given.ask(connection, self._questions)):
                return [Taken("unknown-model", f"the registry has no model {model!r}")] * len(items)
        found = given.items()
        refused = Counter(taken.outcome for taken in given.taken.values())
        for start in range(0, len(found), AT_ONCE):
            given.taken.update(self._take_part(model, found[start : start + AT_ONCE], refused, now))
            refused.clear()
        if refused:
            self._turns.take(lambda: self._note(model, refused))
        return [given.taken[place] for place in range(len(items))]

    def settle(self) -> None:
        """Count what was refused since that was done last, if anything was. Raises RegistryError as `take`; then it
        is still to be counted."""
        if any([*self._uncounted.values()]):
            self._turns.take(self._count)

    def counts(self, model: str) -> dict[str, int]:
        """How many labels of a model had each outcome, since the registry was made. Of those that were refused, other
        processes may have some that they have not told yet: they do so once in a second, and when they end. One that
        dies tells of its last second no more."""
        query = select(label_counts.c.outcome, label_counts.c.number).where(label_counts.c.model == model)
        with self._database.read() as connection:
            told = Counter({row.outcome: row.number for row in connection.execute(query)})
        return dict(sorted((told + self._uncounted.get(model, Counter())).items()))

    def prune(self, older_than: timedelta | None = None) -> int:
        """Forget labels that came so long ago, by default as long as a prediction may wait for its label. What they
        said of the quality stays, as counts of losses, of which old hours are put together.

        At most `FORGOTTEN_AT_ONCE` in a call, so that labels which come meanwhile have their turn; gives their number.
        Raises RegistryError for less: a label that is sent again would then count twice."""
        span = self._max_age if older_than is None else older_than
        if span < self._max_age:
            reason = f"would forget labels of the last {self._max_age.days} days, which could then count twice"
            raise RegistryError("labels", reason, f"keep at least {self._max_age.days} days")

        def work(connection: Connection) -> int:
            now = self._clock(connection)
            fold(connection, now)
            before = now - span
            old = select(labels.c.digest).where(labels.c.received < before).limit(FORGOTTEN_AT_ONCE)
            return connection.execute(delete(labels).where(labels.c.digest.in_(old.scalar_subquery()))).rowcount

        return self._turns.take(lambda: self._database.transact(work, alone=False))

    def _take_part(
        self, model: str, items: Sequence[Item], refused: Counter[Outcome], now: datetime | None
    ) -> Mapping[int, Taken]:
        """What becomes of some of them, in a transaction that also counts what was refused."""

        def turn() -> Mapping[int, Taken]:
            before = self._uncounted[model] + refused

            def work(connection: Connection, alone: bool) -> Mapping[int, Taken]:
                return self._take(connection, model, items, before, now, alone)

            try:
                taken = self._database.transact(lambda connection: work(connection, False), alone=False)
            except MustBeAlone:
                taken = self._database.transact(lambda connection: work(connection, True))
            self._uncounted.pop(model, None)
            return taken

        return self._turns.take(turn)

    def _take(
        self,
        connection: Connection,
        model: str,
        items: Sequence[Item],
        refused: Counter[Outcome],
        now: datetime | None,
        alone: bool,
    ) -> Mapping[int, Taken]:
        now = self._clock(connection) if now is None else now
        locked = _lock(connection, model, items)
        self._filters.keep_running(connection, beside=locked)
        filters = {number: self._catch_up(connection, one) for number, one in locked.items()}
        oldest = (now - self._max_age).timestamp()
        items = [replace(item, late=self._late(item.prediction, locked, oldest)) for item in items]
        taken: dict[int, Taken] = {}
        new = remember(connection, model, items, now, taken)
        for number, labelled in _by_rollout(new).items():
            rollout = locked[number]
            evidence, tally = rollout.evidence, rollout.tally
            add_labels(
                connection, rollout, labelled, evidence, tally, KeyLog(connection, number, filters[number], tally)
            )
            conclude(connection, rollout, evidence, tally, now=now, who=self._who, alone=alone)
        count(connection, model, refused + Counter(one.outcome for one in taken.values()))
        return taken

    def _catch_up(self, connection: Connection, rollout: Rollout) -> Mapping[str, Bloom]:
        if rollout.running:
            return self._filters.catch_up(connection, rollout.id)
        self._filters.forget(rollout.id)
        return {}

    def _late(self, prediction: Prediction, locked: Mapping[int, Rollout], oldest: float) -> str:
        if prediction.at < oldest:
            return f"the prediction is older than {self._max_age.days} days"
        rollout = locked.get(prediction.rollout)
        ended = prediction.rollout and (rollout is None or not rollout.running)
        return f"rollout {prediction.rollout} has ended" if ended else ""

    def _note(self, model: str, refused: Counter[Outcome]) -> None:
        """Count them with others, unless that was done just now."""
        before = self._uncounted[model]
        self._uncounted[model] = before + refused
        if self._turns.rested(COUNT_S):
            try:
                self._count()
            except RegistryError:
                # They come again, as whoever sent them is told.
                self._uncounted[model] = before
                raise

    def _count(self) -> None:
        told = sorted((model, found) for model, found in self._uncounted.items() if found)

        def work(connection: Connection) -> None:
            for model, found in told:
                count(connection, model, found)

        if told:
            self._database.transact(work, alone=False)
        self._uncounted.clear()
        self._turns.wrote()


def _lock(connection: Connection, model: str, items: Sequence[Item]) -> dict[int, Rollout]:
    """The rollouts of the model that predictions were part of; some of them have ended. In one order for all callers,
    so that no two wait for each other."""
    found = {}
    for number in sorted({item.prediction.rollout for item in items} - {0}):
        rollout = rows.lock(connection, number)
        if rollout is not None and rollout.model == model:
            found[number] = rollout
    return found


def _by_rollout(items: Sequence[Item]) -> dict[int, list[Labelled]]:
    """Those that give evidence."""
    found: dict[int, list[Labelled]] = defaultdict(list)
    for item in items:
        if item.prediction.rollout and not item.late:
            found[item.prediction.rollout].append(Labelled(item.digest, item.prediction, item.truth, item.question))
    return found
