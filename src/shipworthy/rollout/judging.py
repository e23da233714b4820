"""Labels, put into the evidence of the rollout that their predictions were part of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Connection, select

from ..predict.ids import CHALLENGER, Prediction
from ..registry.rollout_tables import labels
from . import pairs
from .counting import KeyLog
from .evidence import Evidence
from .losses import Loss, Question, Truth, kind_of, truth_from_json, value_of
from .pairs import Pair
from .questions import Questions
from .record import Rollout
from .tally import Tally


@dataclass(frozen=True, slots=True)
class Labelled:
    """A prediction of a rollout whose label has come for the first time."""

    digest: bytes
    prediction: Prediction
    truth: Truth | Loss
    question: Question


def add_labels(
    connection: Connection, rollout: Rollout, given: Sequence[Labelled], evidence: Evidence, tally: Tally, keys: KeyLog
) -> None:
    """Adds what they say, in their order. The rollout's row is locked."""
    if rollout.mode == "shadow":
        _settle(connection, rollout, given, evidence, tally)
    else:
        _compare(rollout, given, evidence, tally, keys)


def settle_early(
    connection: Connection,
    rollout: Rollout,
    waiting: Sequence[Pair],
    evidence: Evidence,
    tally: Tally,
    questions: Questions,
) -> list[Pair]:
    """Settles the pairs whose label has come before them; gives the others."""
    truths: dict[bytes, Truth | Loss] = {}
    for part in pairs.parts_of([pair.digest for pair in waiting]):
        found = select(labels.c.digest, labels.c.label).where(labels.c.digest.in_(part), labels.c.rollout == rollout.id)
        truths.update((row.digest, truth_from_json(row.label)) for row in connection.execute(found))
    if not truths:
        return list(waiting)
    question = questions.of(connection, rollout.model, rollout.champion)
    assert question is not None, "the package of a running rollout is not freed"
    question = replace(question, error_scale=rollout.spec.error_scale)
    settled = _put_in(
        [(pair, question, truths[pair.digest]) for pair in waiting if pair.digest in truths], evidence, tally
    )
    return [pair for pair in waiting if pair.digest not in settled]


def difference(question: Question, pair: Pair, truth: Truth | Loss) -> float | None:
    """Loss of the challenger - loss of the champion. None where the label does not say: somebody else's judgement of
    the answer that went out is silent about the one that did not."""
    if isinstance(truth, Loss):
        return None
    kind = kind_of(question.kind)
    new = question.loss(truth, kind, value_of(kind, pair.challenger))
    old = question.loss(truth, kind, value_of(kind, pair.champion))
    return None if new is None or old is None else new - old


def _settle(
    connection: Connection, rollout: Rollout, given: Sequence[Labelled], evidence: Evidence, tally: Tally
) -> None:
    """The truth takes the place of the worst case. A label without a pair has nothing to say: both answers were the
    same, or the pair comes with a later telling and finds the label, or it gave way and stays the worst case."""
    found = pairs.find(connection, rollout.id, [one.digest for one in given])
    known = [(found[one.digest], one.question, one.truth) for one in given if one.digest in found]
    pairs.remove(connection, rollout.id, _put_in(known, evidence, tally), tally)


def _put_in(known: Sequence[tuple[Pair, Question, Truth | Loss]], evidence: Evidence, tally: Tally) -> set[bytes]:
    """Digests of the pairs that were settled."""
    judged = [(pair, z) for pair, question, truth in known if (z := difference(question, pair, truth)) is not None]
    tally.unjudged += len(known) - len(judged)
    tally.labels += len(judged)
    if judged:
        evidence.paired.settle(np.array([pair.worst for pair, _ in judged]), np.array([z for _, z in judged]))
    return {pair.digest for pair, _ in judged}


def _compare(rollout: Rollout, given: Sequence[Labelled], evidence: Evidence, tally: Tally, keys: KeyLog) -> None:
    """Losses of both arms, the first of each key."""
    losses = [one.question.loss(one.truth, one.prediction.kind, one.prediction.value) for one in given]
    judged = [(one.prediction, loss) for one, loss in zip(given, losses, strict=True) if loss is not None]
    tally.unjudged += len(given) - len(judged)
    if not judged:
        return
    counts = keys.count("labelled", np.array([one.key_digest for one, _ in judged], np.uint64))
    new = np.array([one.arm == CHALLENGER for one, _ in judged])[counts]
    shares = np.array([one.share for one, _ in judged])[counts]
    tally.labels += len(new)
    if "ratio" in rollout.spec.guardrails:
        evidence.labelled.observe(new, shares)
    evidence.unpaired.observe(new, shares, np.array([loss for _, loss in judged])[counts])
