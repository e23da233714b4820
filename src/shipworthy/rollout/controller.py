"""What is to be done now: pure decisions about one rollout, from its row, its evidence and the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias

from .evidence import Evidence, Judgement, judge
from .record import Ended, Rollout

EventKind: TypeAlias = Literal["rollout-stage", "rollout-verdict", "rollout-ended"]

_SEVERITY = {None: 0, "promote": 1, "hold": 2, "rollback": 3}
"""Of a verdict that nobody acts on: it gives way only to a graver one, so that a recommendation is not taken back
because somebody let the rollout go on."""


@dataclass(frozen=True, slots=True)
class Note:
    """An event that the history gets."""

    kind: EventKind
    why: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """The rollout as it is from now on, and what is to be noted, in order.

    Where its `state` has become `promote`, the alias champion moves to the challenger."""

    rollout: Rollout
    notes: tuple[Note, ...] = ()


def decide(rollout: Rollout, evidence: Evidence, *, champion: int | None, now: datetime) -> Decision:
    """What follows from the evidence of a running rollout; writes a mismatch into it, as `judge` does.

    `champion` is what the alias names now: where somebody moved it, the rollout compares with a version that is no
    longer served, and holds."""
    judgement = judge(evidence, share=rollout.share or 0.5, timed=rollout.spec.timed)
    rollout = replace(rollout, reason=judgement.reason)
    if champion != rollout.champion:
        return _end(rollout, "hold", _moved(rollout, champion), judgement, now)
    if judgement.verdict is not None and rollout.spec.auto:
        told = replace(rollout, verdict=judgement.verdict)
        ended = _end(told, judgement.verdict, judgement.reason, judgement, now)
        return Decision(ended.rollout, (_verdict(told, judgement), *ended.notes))
    notes: tuple[Note, ...] = ()
    if _SEVERITY[judgement.verdict] > _SEVERITY[rollout.verdict]:
        rollout = replace(rollout, verdict=judgement.verdict)
        notes = (_verdict(rollout, judgement),)
    if (now - rollout.started).total_seconds() >= rollout.spec.timeout_s:
        ended = _end(rollout, "hold", _timed_out(rollout), judgement, now)
        return Decision(ended.rollout, (*notes, *ended.notes))
    if _stage_is_over(rollout, now):
        rollout = next_stage(rollout, now)
        why = f"share {rollout.share:.4g}, stage {rollout.stage + 1} of {len(rollout.spec.shares)}"
        notes = (*notes, Note("rollout-stage", why, details_of(rollout, judgement)))
    return Decision(rollout, notes)


def decide_alarm(
    rollout: Rollout, why: str, told: Mapping[str, Any], *, champion: int | None, now: datetime
) -> Decision:
    """What follows where a monitor's alarm stands for the challenger and none for the champion: a rollback, which is
    acted on or recommended as any other. `told` goes into the history with it.

    Nothing follows without the guardrail, where the same was recommended before, or where the champion is another one
    meanwhile: then it is not the one that has no alarm, and the next telling ends the rollout."""
    recommended = _SEVERITY[rollout.verdict] >= _SEVERITY["rollback"]
    if "drift" not in rollout.spec.guardrails or recommended or champion != rollout.champion:
        return Decision(rollout)
    judgement = replace(rollout.judgement(), verdict="rollback", by="drift", reason=why)
    alarmed = replace(rollout, verdict="rollback", reason=why)
    verdict = _verdict(alarmed, judgement)
    notes = (replace(verdict, details={**verdict.details, **told}),)
    if not rollout.spec.auto:
        return Decision(alarmed, notes)
    ended = _end(alarmed, "rollback", why, judgement, now)
    return Decision(ended.rollout, (*notes, *ended.notes))


def next_stage(rollout: Rollout, now: datetime) -> Rollout:
    stage = rollout.stage + 1
    return replace(rollout, stage=stage, share=rollout.spec.shares[stage], stage_seen=0, stage_began=now)


def details_of(rollout: Rollout, judgement: Judgement) -> dict[str, Any]:
    """The whole judgement, as the history keeps it."""
    return {
        "rollout": rollout.id,
        "mode": rollout.mode,
        "champion": rollout.champion,
        "challenger": rollout.challenger,
        "state": rollout.state,
        "stage": rollout.stage,
        "share": rollout.share,
        "verdict": judgement.verdict,
        "by": judgement.by,
        "reason": judgement.reason,
        "figures": [asdict(figure) for figure in judgement.figures],
    }


def _stage_is_over(rollout: Rollout, now: datetime) -> bool:
    """Enough was seen for long enough, there is a next one, and nothing speaks against the challenger."""
    spec = rollout.spec
    return (
        rollout.stage + 1 < len(spec.shares)
        and rollout.verdict in (None, "promote")
        and rollout.stage_seen >= spec.stage_requests
        and (now - rollout.stage_began).total_seconds() >= spec.stage_seconds
    )


def _end(rollout: Rollout, state: Ended, why: str, judgement: Judgement, now: datetime) -> Decision:
    ended = replace(rollout, state=state, reason=why, ended=now)
    return Decision(ended, (Note("rollout-ended", f"{state}: {why}", details_of(ended, judgement)),))


def _verdict(rollout: Rollout, judgement: Judgement) -> Note:
    return Note("rollout-verdict", f"{judgement.verdict}: {judgement.reason}", details_of(rollout, judgement))


def _moved(rollout: Rollout, champion: int | None) -> str:
    now = "names no version" if champion is None else f"was moved to {rollout.model}:{champion}"
    return f"The alias champion {now} meanwhile; this rollout compared with {rollout.model}:{rollout.champion}."


def _timed_out(rollout: Rollout) -> str:
    hours = rollout.spec.timeout_s / 3600
    span = f"{hours:.3g} h" if hours >= 1 else f"{rollout.spec.timeout_s:.0f} s"
    said = f"The verdict {rollout.verdict} was not acted on" if rollout.verdict else "There is no verdict"
    return f"{said} after {span}, so the champion stays. {rollout.reason}"
