"""What is given as labels, and what is known of it before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, select

from ..errors import FeedbackError
from ..predict.ids import Prediction, read_id, tag_of
from ..registry.rollout_tables import rollouts
from ..registry.tables import models
from .losses import Question
from .pairs import digest_of_id, parts_of
from .questions import Questions
from .remembering import Item, Taken
from .spec import Spec


class Given:
    """That of one call."""

    def __init__(self, model: str, given: Sequence[tuple[str, object]]) -> None:
        self.taken: dict[int, Taken] = {}
        """By the place of the label."""
        self._model, self._given = model, given
        self._predictions: list[tuple[int, Prediction]] = []
        """With the place of each."""
        self._questions: dict[tuple[int, int], Question] = {}
        """By version and rollout."""

    def read(self, key: bytes) -> None:
        """What the ids say; `taken` gets those that say nothing."""
        tag = tag_of(self._model)
        for place, (text, _) in enumerate(self._given):
            try:
                prediction = read_id(key, text)
            except FeedbackError as error:
                self.taken[place] = Taken("forged", error.reason)
                continue
            if prediction.model_tag == tag:
                self._predictions.append((place, prediction))
            else:
                self.taken[place] = Taken("unknown-model", f"the id is of another model than {self._model!r}")

    def ask(self, connection: Connection, questions: Questions) -> bool:
        """Whether there is such a model; and what it was asked, if so."""
        if connection.execute(select(models.c.name).where(models.c.name == self._model)).first() is None:
            return False
        parts = {(prediction.version, prediction.rollout) for _, prediction in self._predictions}
        scales: dict[int, float | None] = {}
        for some in parts_of({rollout for _, rollout in parts} - {0}):
            these = select(rollouts.c.id, rollouts.c.spec).where(rollouts.c.id.in_(some))
            for row in connection.execute(these.where(rollouts.c.model == self._model)):
                # What was asked of a rollout never changes.
                scales[row.id] = Spec.from_json(row.spec).error_scale
        for version, rollout in parts:
            question = questions.of(connection, self._model, version)
            if question is not None:
                self._questions[version, rollout] = replace(question, error_scale=scales.get(rollout))
        return True

    def items(self) -> list[Item]:
        """Those whose label means something; `taken` gets the others."""
        items = []
        for place, prediction in self._predictions:
            question = self._questions.get((prediction.version, prediction.rollout))
            if question is None:
                gone = f"the package of {self._model}:{prediction.version} is gone"
                self.taken[place] = Taken("unusable", gone)
                continue
            try:
                truth = question.truth(self._given[place][1])
            except FeedbackError as error:
                self.taken[place] = Taken("unusable", error.reason)
                continue
            items.append(Item(place, digest_of_id(prediction.unique), prediction, truth, question))
        return items
