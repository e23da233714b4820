"""What there is to see of one watched version: plain values, which become JSON, metrics, a page and a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Severity: TypeAlias = Literal["slight", "moderate", "large"]
Detector: TypeAlias = Literal["sequential", "window", "quality"]
"""What raised an alarm: bets on each scored request; the test of a window of 500; labels."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A signal that has moved, and by how much."""

    signal: str
    title: str
    words: str
    """The effect in a unit that people understand: `brightness of image: median 4.9 → 6.2 (+1.1 deviations)`."""
    distance: float
    """KS distance between reference and live, in [0, 1]; for classes the share that has moved (total variation)."""
    evidence: float
    """Sequential: the e-detector's value over its threshold. Windowed: the p-value."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Latched until somebody acknowledges it."""

    id: str
    """The same on every node and for every telling: webhooks are deduplicated by it."""
    model: str
    version: str
    node: str
    detector: Detector
    raised: float
    """Seconds since 1970."""
    began: float
    """When the change is estimated to have begun, seconds since 1970."""
    scored: int
    """Scored requests of this node until then."""
    severity: Severity
    summary: str
    """One sentence."""
    moved: tuple[Moved, ...] = ()
    """Most first."""
    classes: tuple[str, ...] = ()
    """Classes whose share has changed most, in words: `3: 10 % → 24 %`."""
    samples: tuple[str, ...] = ()
    """Ids of kept samples that show it most."""
    acknowledged: float | None = None
    """When, seconds since 1970; None while it stands."""
    who: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class SignalView:
    """A signal, then and now."""

    name: str
    kind: Literal["number", "class", "share"]
    about: Literal["answers", "inputs"]
    title: str
    unit: str
    edges: tuple[float, ...]
    """Rising, between the bins that reference and live are counted in: the first bin is below the first edge, the last
    but one from the last edge up, so that there are `len(edges) + 2` counts. Empty for a class, which has a bin for
    each of `classes`, and for a share, whose `classes` are `no` and `yes`."""
    classes: tuple[str, ...]
    reference: tuple[int, ...]
    """Counts of the reference in the bins; the last one is of missing values."""
    live: tuple[int, ...]
    """Of the last windows, which add over nodes; in the same bins."""
    reference_mean: float
    live_mean: float
    distance: float
    psi: float
    evidence: float
    """The e-detector's value over its threshold, of the node with most; 1 raises an alarm."""
    p_value: float | None
    """Of the last window; None before the first one is full."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of thumb, for those who expect it. It keeps no rate of false alarms: uncalibrated."""

    name: Literal["mean-confidence", "psi", "class-share"]
    value: float
    threshold: float
    fires: bool
    words: str


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the answers are, from labels that have come."""

    metric: str
    """`accuracy`, or `1 - loss`."""
    labels: int
    value: float | None
    lower: float
    upper: float
    """A confidence sequence: it holds at all times at once."""
    confidence: float
    level: float | None
    """What the version was accepted at."""
    below: bool
    """Whether it is proven to be below that."""
    by_hour: tuple[tuple[float, int, float], ...] = ()
    """Hour (seconds since 1970), labels, mean."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Accuracy without labels. An estimate, which assumes that confidence means what it meant on held-out data; nothing
    is promoted by it."""

    value: float
    reference: float
    """The same estimate on the reference, which is the accuracy there."""
    scored: int
    method: str = "average thresholded confidence"


@dataclass(frozen=True, slots=True)
class Point:
    """What was seen in one span of time, for pictures."""

    at: float
    """Seconds since 1970, its beginning."""
    scored: int
    means: tuple[float, ...]
    """Of each signal, in the order of `View.signals`."""
    evidence: float
    """The largest of the e-detector over its threshold."""
    log_p: float | None
    """-log10 of the smallest corrected p-value of windows that ended in it."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What the alarms promise, if scored requests are exchangeable with the reference. Counted in scored requests."""

    run_length: float
    """Average number of scored requests until a false alarm of the sequential detector is at least this."""
    window: int
    window_rate: float
    """Probability of a false alarm for each window, on average over references."""
    nodes: int
    reference: int
    """Samples of the reference."""
    words: str


@dataclass(frozen=True, slots=True)
class View:
    """Merged over workers and nodes."""

    model: str
    version: str
    variant: str
    nodes: tuple[str, ...]
    since: float
    updated: float
    requests: int
    """Rows that were answered while it was watched."""
    scored: int
    unscored: int
    """Rows that were chosen and lost: the monitor was too slow for them."""
    promise: Promise | None
    """None while a reference is still being collected."""
    collecting: tuple[int, int] | None = None
    """Samples so far and wanted, of a reference that is taken from production."""
    signals: tuple[SignalView, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    """Those that stand, and the last that do not, newest first."""
    rules: tuple[Rule, ...] = ()
    quality: Quality | None = None
    estimate: Estimate | None = None
    latency_ms: dict[str, float] = field(default_factory=dict)
    """`p50`, `p95`, `p99` of waiting and computing, of scored requests, and `target`."""
    timeline: tuple[Point, ...] = ()
    notes: tuple[str, ...] = ()
    """Findings: a small reference, signals that cannot be computed, nothing is kept."""
    latency_counts: tuple[int, ...] = ()
    """In the bins of `latency.EDGES_S`, which add over nodes; `latency_ms` is read from them."""
    clock: Literal["time", "rows"] = "time"
    """What `at`, `raised`, `began`, `since` and `updated` count: seconds since 1970, or the rows of a file."""

    def __str__(self) -> str:
        from .telling import told

        return told(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What a notebook shows."""
        printer.text(str(self))
