"""The labels that a registry remembers: each once, by a digest of its prediction's id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, TypeAlias

from sqlalchemy import Connection, select

from ..predict.ids import Prediction
from ..registry.losses import add, cell_of, upsert
from ..registry.rollout_tables import label_counts, labels
from .losses import Loss, Question, Truth, truth_to_json
from .pairs import parts_of

Outcome: TypeAlias = Literal["accepted", "duplicate", "contradictory", "late", "forged", "unknown-model", "unusable"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one label.

    accepted: remembered, with its evidence. duplicate: the same was taken before. contradictory: another one was, and
    stays. late: remembered, but its rollout has ended or the prediction is too old to give evidence. forged: the id is
    none of this registry's. unknown-model: the registry has no such model, or the id is of another one. unusable: no
    label of this model."""

    outcome: Outcome
    reason: str = ""
    """For all but accepted ones."""


@dataclass(slots=True)
class Item:
    """A label that means something, of a prediction of this registry."""

    place: int
    digest: bytes
    prediction: Prediction
    truth: Truth | Loss
    question: Question
    late: str = ""
    """Why it gives no evidence; empty where it may."""

    @property
    def label(self) -> str:
        return truth_to_json(self.truth)

    @property
    def predicted(self) -> float | None:
        """The class or the number; None for a set of classes, and where the id does not say."""
        prediction = self.prediction
        return prediction.value if prediction.kind in ("class", "scalar") else None

    @property
    def loss(self) -> float | None:
        return self.question.loss(self.truth, self.prediction.kind, self.prediction.value)

    @property
    def cell(self) -> int:
        """That of its loss by the version's own scale, which is the same in every rollout and without one."""
        question = replace(self.question, error_scale=self.question.own_scale)
        return cell_of(question.loss(self.truth, self.prediction.kind, self.prediction.value))


def remember(
    connection: Connection, model: str, items: Sequence[Item], now: datetime, taken: dict[int, Taken]
) -> list[Item]:
    """Writes the labels that are new, with their losses, and gives them; `taken` gets what became of all."""
    first: dict[bytes, Item] = {}
    for item in items:
        first.setdefault(item.digest, item)
    written = _insert(connection, model, first, now)
    known = {digest: item.label for digest, item in first.items()}
    for part in parts_of(first.keys() - written):
        for row in connection.execute(select(labels.c.digest, labels.c.label).where(labels.c.digest.in_(part))):
            known[row.digest] = row.label
    new = []
    for item in items:
        if item.digest in written and first[item.digest] is item:
            new.append(item)
            taken[item.place] = Taken("late", item.late) if item.late else Taken("accepted")
        elif item.label == known[item.digest]:
            taken[item.place] = Taken("duplicate", "the same label was taken before")
        else:
            taken[item.place] = Taken("contradictory", f"the label {known[item.digest]} was taken before, and stays")
    add(connection, model, ((item.prediction.version, item.prediction.at, item.cell) for item in new), now)
    return new


def _insert(connection: Connection, model: str, items: Mapping[bytes, Item], now: datetime) -> set[bytes]:
    """Digests of those that were not there. In one order for all, so that no two callers wait for each other."""
    values = [
        {
            "digest": digest,
            "model": model,
            "version": items[digest].prediction.version,
            "rollout": items[digest].prediction.rollout or None,
            "label": items[digest].label,
            "predicted": items[digest].predicted,
            "loss": items[digest].loss,
            "received": now,
        }
        for digest in sorted(items)
    ]
    if not values:
        return set()
    statement = upsert(connection, labels).on_conflict_do_nothing().returning(labels.c.digest)
    return set(connection.execute(statement, values).scalars())


def count(connection: Connection, model: str, outcomes: Mapping[Outcome, int]) -> None:
    """Add so many labels of each outcome to those of the model."""
    for outcome, number in sorted(outcomes.items()):
        statement = upsert(connection, label_counts).values(model=model, outcome=outcome, number=number)
        more = label_counts.c.number + statement.excluded.number
        connection.execute(statement.on_conflict_do_update(index_elements=["model", "outcome"], set_={"number": more}))
