"""A rollout as its row has it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from .evidence import Evidence, Judgement, judge
from .spec import Mode, Spec
from .tally import Tally

Ended: TypeAlias = Literal["promote", "rollback", "hold", "stopped"]
State: TypeAlias = Literal["running", "promote", "rollback", "hold", "stopped"]
Verdict: TypeAlias = Literal["promote", "rollback", "hold"]


@dataclass(frozen=True, slots=True)
class Rollout:
    """One trial of a challenger beside a champion, as it was when it was read."""

    id: int
    """1, 2, 3 ... over all models."""
    model: str
    champion: int
    """Number of the version that the alias named at the start."""
    challenger: int
    spec: Spec
    state: State
    """running; else how it ended: promote (the challenger is the champion now), rollback, hold, stopped by hand."""
    verdict: Verdict | None
    """What the evidence said first; of several that nobody acted on, the gravest."""
    reason: str
    """Of the end, of the verdict, or of there being none."""
    stage: int
    """Place in `spec.shares`, from 0."""
    share: float
    """The challenger's share of the answers now; 0 for a shadow."""
    stage_seen: int
    """Requests that were assigned with this share, of both arms together."""
    stage_began: datetime
    started: datetime
    ended: datetime | None
    who: str
    why: str
    evidence_json: str
    tally_json: str
    revision: int
    """Grows with every merge."""

    @property
    def mode(self) -> Mode:
        return self.spec.mode

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def evidence(self) -> Evidence:
        """Read anew at each use: what one does to it changes nothing here."""
        return Evidence.from_json(self.evidence_json)

    @property
    def tally(self) -> Tally:
        return Tally.from_json(self.tally_json)

    def judgement(self) -> Judgement:
        """What the evidence says, with all its figures."""
        return judge(self.evidence, share=self.share or 0.5, timed=self.spec.timed)
