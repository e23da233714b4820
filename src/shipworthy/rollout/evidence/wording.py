"""A verdict in a sentence or two, with the numbers behind it."""

from __future__ import annotations

from .figures import Figure, Figures
from .paired import Paired
from .state import Evidence
from .unpaired import Unpaired

_EVENTS = {"errors": "fails", "latency": "is slow"}
_STREAMS = {"assigned": "assigned requests", "completed": "completed requests", "labelled": "labels"}


def good(figure: Figure, evidence: Evidence) -> str:
    return (
        f"The new version's mean loss is less than {evidence.delta:g} above the old one's: {_passed(figure)}. "
        f"{_seen(evidence.quality)}"
    )


def untimed(figure: Figure, evidence: Evidence, timed: int) -> str:
    seen = int(evidence.latency.requests[1])
    return (
        f"{good(figure, evidence)} The promotion waits for its latency: {seen:,} of {timed:,} answers of the new "
        "version were timed."
    )


def worse(figure: Figure, evidence: Evidence) -> str:
    return (
        f"The new version's mean loss is more than {evidence.delta:g} above the old one's: {_passed(figure)}. "
        f"{_seen(evidence.quality)}"
    )


def guarded(figure: Figure, evidence: Evidence) -> str:
    rho = evidence.errors.rho if figure.process == "errors" else evidence.latency.rho
    assert figure.requests and figure.events
    (old, new), (old_events, new_events) = figure.requests, figure.events
    return (
        f"The new version {_EVENTS[figure.process]} more than {rho:g} times as often as the old one: "
        f"{_passed(figure)}. New: {new_events:,} of {new:,} requests; old: {old_events:,} of {old:,}."
    )


def mismatched(figure: Figure) -> str:
    assert figure.events
    old, new = figure.events
    now = _passed(figure) if figure.passed else f"it was past its bar; now e = {_e(figure)}"
    return (
        f"The versions do not get the share of {_STREAMS[figure.process]} that they were given: {now}. "
        f"New: {new:,}; old: {old:,}. What was compared is not alike, so there is no verdict on quality; "
        f"{_REMEDIES[figure.process]}."
    )


_REMEDIES = {
    "assigned": "look for routes around the router, or a share that is not the one logged",
    "completed": "look for answers that one version loses, or whose outcome is not recorded",
    "labelled": "look for labels that come sooner or more often for one version",
}


def undecided(figures: Figures, evidence: Evidence, share: float) -> str:
    promote, rollback = figures["promote"], figures["rollback"]
    return (
        f"Undecided: promotion has e = {_e(promote)} of {promote.needed:g}, "
        f"rollback {_e(rollback)} of {rollback.needed:g}. {_seen(evidence.quality)} {_still(promote, evidence, share)}"
    )


def _still(promote: Figure, evidence: Evidence, share: float) -> str:
    quality = evidence.quality
    if isinstance(quality, Paired):
        return f"Promotion takes {_count(quality.needed(promote.alpha))} more pairs where all of them agree."
    needed = quality.needed(promote.alpha, share)
    if needed is None:
        return "At this share nothing is compared."
    return f"Promotion takes about {needed:,} more requests at a share of {share:.4g} where both are equally good."


def _count(number: int | None) -> str:
    return "very many" if number is None else f"{number:,}"


def _seen(quality: Paired | Unpaired) -> str:
    if isinstance(quality, Unpaired):
        (old, new), (old_loss, new_loss) = quality.counts.tolist(), quality.losses.tolist()
        return f"New: mean loss {_mean(new_loss, new)} of {new:,} requests; old: {_mean(old_loss, old)} of {old:,}."
    known = f"the new one was better in {quality.better:,} and worse in {quality.worse:,}"
    waiting = f", {quality.open:,} have no label yet and count as the worst case" if quality.open else ""
    return f"{quality.pairs:,} pairs, {quality.disagreeing:,} disagree: {known}{waiting}."


def _mean(total: float, count: int) -> str:
    return f"{total / count:.4g}" if count else "none"


def _passed(figure: Figure) -> str:
    return f"e = {_e(figure)}, at least {figure.needed:g} (alpha {figure.alpha:.2g})"


def _e(figure: Figure) -> str:
    return f"{figure.e:.3g}" if figure.log_e < 700 else "over 1e+300"
