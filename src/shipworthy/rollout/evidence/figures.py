"""Every process of a rollout as a figure: its e-value, and the bar that it has to reach."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .bets import bar
from .ratio import Ratio
from .state import Evidence, SampleRatio

Guardrail: TypeAlias = Literal["errors", "latency"]
Process: TypeAlias = Literal["promote", "rollback", Guardrail, SampleRatio]
GUARDRAILS: tuple[Guardrail, ...] = ("errors", "latency")
SAMPLE_RATIOS: tuple[SampleRatio, ...] = ("assigned", "completed", "labelled")


@dataclass(frozen=True, slots=True)
class Alphas:
    """How often each may err over a whole rollout, however often one looks."""

    verdict: float = 0.05
    """Of each: promotion of a version that is worse by delta or more; rollback, for quality, of one that is not."""
    guardrail: float = 0.01
    """Of each: errors, latency."""
    mismatch: float = 0.001
    """Of the three sample ratios together; each is held to a third of it."""

    def __post_init__(self) -> None:
        assert all(0 < alpha < 1 for alpha in (self.verdict, self.guardrail, self.mismatch))


@dataclass(frozen=True, slots=True)
class Figure:
    """One process as it stands."""

    process: Process
    log_e: float
    alpha: float
    """Its own: it has passed where e is at least 1/alpha."""
    requests: tuple[int, int] | None = None
    """Of the old and of the new version; None for quality."""
    events: tuple[int, int] | None = None
    """Among them."""

    @property
    def e(self) -> float:
        return math.exp(min(self.log_e, 700.0))

    @property
    def needed(self) -> float:
        """The e that it has to reach."""
        return 1 / self.alpha

    @property
    def passed(self) -> bool:
        return self.log_e >= bar(self.alpha)


Figures: TypeAlias = dict[Process, Figure]


def measure(evidence: Evidence, alphas: Alphas) -> Figures:
    """All processes, quality first."""
    quality = evidence.quality
    figures: Figures = {
        "promote": Figure("promote", quality.log_promote, alphas.verdict),
        "rollback": Figure("rollback", quality.log_rollback, alphas.verdict),
        "errors": _ratio("errors", evidence.errors, alphas.guardrail),
        "latency": _ratio("latency", evidence.latency, alphas.guardrail),
    }
    each = alphas.mismatch / len(SAMPLE_RATIOS)
    return figures | {name: _ratio(name, evidence.sample_ratio(name), each) for name in SAMPLE_RATIOS}


def _ratio(process: Process, ratio: Ratio, alpha: float) -> Figure:
    requests, events = ratio.requests.tolist(), ratio.events.tolist()
    return Figure(process, ratio.log_e, alpha, (requests[0], requests[1]), (events[0], events[1]))
