"""How good the answers are, from labels that have come, and the alarm where that is proven to be too little.

**The alarm.** Evidence that quality is below the accepted level is an e-process of the labels' losses (see
`evidence.quality`). One that began with the first label would have to win back what it lost while all was well: after a
good month, a drop would go unseen for as long. So there is one for each hour at which quality may have dropped, made of
the labels of predictions since then, and their evidence is averaged: half of the weight has the one of all labels, the
other half is spread over hours since the version was registered, 1/(j + 1)(j + 2) for the hour j. An average of
e-processes with fixed weights is one too; hours that are no longer kept apart are left out, which only lowers it; and
Ville's inequality gives P(an alarm ever) <= `ALARM` where each label's expected loss is at most 1 - level. To which
hour a label belongs is known before what it says, so it does no harm that labels come late and in any order.

What is proven is that it was below for some time, which a bad night is too where days are good.

After an acknowledgement there are only those of the hours after it, and no other weight: the promise begins anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..contract import Array
from .alarms import Acknowledgement, alarm_id, answered, united
from .evidence.quality import ALARM, CELLS, CONFIDENCE, interval, logs_below, mean
from .view import Alarm, Quality, Severity, View

if TYPE_CHECKING:
    from ..registry import Losses
    from ..signals import Accepted

LossSource: TypeAlias = "Callable[[str, str], Losses | None]"
"""What labels have said of a model's version, by their names; None where it is none of the registry. Raises
RegistryError where the registry cannot be reached. May take milliseconds."""
HOUR_S = 3600
_ERRORS = {"neg_mae": "mean absolute error", "neg_rmse": "root mean squared error"}
_SEVERE: tuple[tuple[float, Severity], ...] = ((0.1, "large"), (0.02, "moderate"), (0.0, "slight"))
"""By how much the quality is below its level."""


@dataclass(frozen=True, slots=True)
class Below:
    """How sure it is that the quality is below its level."""

    log_e: float
    place: int
    """Of the span with which the drop began most likely."""


def with_quality(
    view: View,
    losses: Losses | None,
    accepted: Accepted | None,
    now: float | None = None,
    *,
    elsewhere: Sequence[Alarm] = (),
    said: Sequence[Acknowledgement] = (),
) -> View:
    """A view with what labels say: quality, notes, and an alarm as its first one where there is a new one.

    All nodes know the same labels, so an alarm of the quality that is known `elsewhere` is one of this node too: a new
    node must not raise what was seen to long ago. `said`: what was acknowledged. `now` is in seconds since 1970. A
    later view of the same version has to have the alarms of this one."""
    if losses is None:
        return view
    others = [one for one in elsewhere if one.detector == "quality"]
    view = replace(view, alarms=answered(united([*view.alarms, *others]), said))
    alarm = alarm_of(view, losses, accepted, time.time() if now is None else now)
    alarms = view.alarms if alarm is None else answered((alarm, *view.alarms), said)
    # What is proven has an alarm now, so it need not be computed again.
    quality = _told(losses, accepted, below=_standing(alarms))
    return replace(view, alarms=alarms, quality=quality, notes=(*view.notes, *notes_of(losses, accepted)))


def quality_of(losses: Losses, accepted: Accepted | None, alarms: Sequence[Alarm] = ()) -> Quality | None:
    """Quality by all labels; None before the first. `below` stays true while an alarm of the quality stands."""
    level = level_of(losses, accepted)
    proven = level is not None and _is_proven(below(losses, level, _answered(alarms)))
    return _told(losses, accepted, below=proven or _standing(alarms))


def alarm_of(view: View, losses: Losses, accepted: Accepted | None, now: float) -> Alarm | None:
    """A new alarm; None where nothing is proven, and while one stands."""
    level = level_of(losses, accepted)
    if level is None or _standing(view.alarms):
        return None
    after = _answered(view.alarms)
    found = below(losses, level, after)
    if found is None or not _is_proven(found):
        return None
    since = losses.counts[found.place :].sum(0)
    value, labels = _quality(since), int(since.sum())
    began = float(losses.begins[found.place]) or losses.since
    at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(began))
    name = f"{view.model}:{view.version}"
    return Alarm(
        # Whichever node tells it, and after each acknowledgement another one.
        id=alarm_id(view.model, view.version, "quality", int(after)),
        model=view.model,
        version=view.version,
        node="",
        detector="quality",
        raised=now,
        began=began,
        scored=view.scored,
        severity=next(severity for least, severity in _SEVERE if level - value >= least or not least),
        summary=(
            f"{_metric(losses)} of {name} is proven to be below the {level:.4g} that it was accepted at: {value:.4g} "
            f"by {labels:,} labels of answers since {at}"
        ),
    )


def notes_of(losses: Losses, accepted: Accepted | None) -> tuple[str, ...]:
    """What an operator has to know of these figures."""
    notes = []
    if losses.unknown:
        notes.append(f"{losses.unknown:,} labels say nothing of the quality: {_why_unknown(losses)}")
    if not losses.counts.any():
        return tuple(notes)
    if losses.kind == "multilabel":
        notes.append("1 - loss is the share of answers that name exactly the true classes")
    if losses.error_scale is not None:
        notes.append(f"an absolute error of {losses.error_scale:.4g} or more counts as a loss of 1")
    if accepted is None:
        notes.append("the quality has no level to keep: the version was accepted without a metric on labelled data")
    elif level_of(losses, accepted) is None:
        notes.append(f"the quality cannot be compared with the {accepted.metric} that the version was accepted at")
    elif losses.error_scale is not None:
        words = _ERRORS[accepted.metric]
        notes.append(f"the level of 1 - loss is that of a mean absolute error of {-accepted.level:.4g}, the {words}")
    return tuple(notes)


def level_of(losses: Losses, accepted: Accepted | None) -> float | None:
    """What the mean of 1 - loss has to be at least; None where the metric is no mean of these losses, nor bounds it.

    An accuracy of 1 on n held-out answers is told from n/(n + 1) by nothing: a single wrong answer is no proof of much.
    Of a regression, mean(min(1, |error| / scale)) above error / scale proves that the mean absolute error is above that
    error, and so is the root mean squared one, which is never less."""
    if accepted is None:
        return None
    if losses.kind == "classification" and accepted.metric == "accuracy":
        return min(accepted.level, accepted.samples / (accepted.samples + 1))
    if losses.error_scale is not None and accepted.metric in _ERRORS:
        level = 1 + accepted.level / losses.error_scale
        return level if 0 < level < 1 else None
    return None


def _told(losses: Losses, accepted: Accepted | None, *, below: bool) -> Quality | None:
    counts = losses.counts.sum(0)
    labels = int(counts.sum())
    if not labels:
        return None
    least, most = interval(counts)
    return Quality(
        metric=_metric(losses),
        labels=labels,
        value=_quality(counts),
        lower=1 - most,
        upper=1 - least,
        confidence=CONFIDENCE,
        level=level_of(losses, accepted),
        below=below,
        by_hour=tuple(
            (float(begin), int(these.sum()), _quality(these))
            for begin, these in zip(losses.begins.tolist(), losses.counts, strict=True)
        ),
    )


def below(losses: Losses, level: float, after: float = 0.0) -> Below | None:
    """The evidence that the quality is below `level`, since the first label or since some later hour; of answers after
    a time only, where one is given. None where there are no labels of such answers."""
    first = int(np.searchsorted(losses.begins, after))
    begins = losses.begins[first:]
    if not len(begins):
        return None
    tails = losses.counts[first:][::-1].cumsum(0)[::-1]
    logs = logs_below(tails, level)
    weighted = logs + _log_weights(begins, max(after, losses.since))
    every = weighted if after else np.append(weighted, logs[0] - np.log(2))
    return Below(float(np.logaddexp.reduce(every)), first + int(weighted.argmax()))


def _log_weights(begins: Array, since: float) -> Array:
    """log of 1/2 · 1/(j + 1)(j + 2), of spans that begin j hours after a time; of those before it, as a clock may say,
    only the first has any."""
    hours = np.maximum(np.floor((begins - since) / HOUR_S), 0)
    logs: Array = -np.log(2 * (hours + 1) * (hours + 2))
    logs[1:][np.diff(hours) == 0] = -np.inf
    return logs


def _is_proven(found: Below | None) -> bool:
    return found is not None and found.log_e >= -np.log(ALARM)


def _standing(alarms: Sequence[Alarm]) -> bool:
    return any(one.detector == "quality" and one.acknowledged is None for one in alarms)


def _answered(alarms: Sequence[Alarm]) -> float:
    """When the last alarm of the quality was acknowledged; 0 where none was."""
    return max((one.acknowledged or 0.0 for one in alarms if one.detector == "quality"), default=0.0)


def _metric(losses: Losses) -> str:
    """Accuracy is a mean of losses of 0 and 1."""
    whole = not losses.counts[:, 1 : CELLS - 1].any()
    return "accuracy" if losses.kind == "classification" and whole else "1 - loss"


def _quality(counts: Array) -> float:
    """Mean of 1 - loss."""
    loss = mean(counts)
    assert loss is not None, "there is no span without a label"
    return 1 - loss


def _why_unknown(losses: Losses) -> str:
    if losses.kind == "regression" and losses.error_scale is None:
        return (
            "nothing says how large an error is a whole one; let the contract's metric be neg_mae or neg_rmse, or send "
            "losses from 0 to 1"
        )
    return "the ids of their predictions do not say what was predicted"
