"""A monitor as a view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..contract import Array
from ..signals.reference import ENOUGH, FEWEST, Reference
from ..signals.signal import Signal
from .compared import Compared
from .evidence.effects import distance_of, psi
from .evidence.estimate import atc
from .evidence.rules import class_share, largest_psi, mean_confidence
from .latency import quantiles_ms
from .options import MonitorOptions
from .pace import pace_notes
from .recent import Seen
from .view import Estimate, Promise, Rule, SignalView, View

if TYPE_CHECKING:
    from .monitor import Monitor

_GROUPS = 10
"""Bins that PSI is read from, as those do who have thresholds for it."""


def view_of(monitor: Monitor, now: float) -> View:
    """All that there is to see; labels are not asked for."""
    compared = monitor.compared
    seen = None if compared is None else compared.recent.total()
    fewest = 1 if monitor.options.keep else FEWEST
    signals = () if compared is None or seen is None else signal_views(compared, seen, fewest)
    collecting = monitor.collecting
    timeline = () if compared is None else monitor.timeline.points(now, fewest)
    notes = notes_of(monitor.options, None if compared is None else compared.reference, monitor.unscored)
    if monitor.clock == "time":
        notes += tuple(pace_notes(timeline, monitor.options, now))
    return View(
        model=monitor.model,
        version=monitor.version,
        variant=monitor.variant,
        nodes=(monitor.node,) if monitor.node else (),
        since=now if monitor.since is None else monitor.since,
        updated=now,
        requests=max(monitor.requests, monitor.seen),
        scored=monitor.scored,
        unscored=monitor.unscored,
        promise=None if compared is None else promise_of(monitor.options, compared.reference.samples),
        collecting=None if collecting is None else (collecting.collected, collecting.wanted),
        signals=signals,
        alarms=monitor.alarms.newest_first,
        rules=rules_of(signals),
        estimate=None if compared is None or seen is None else _estimate(compared, seen),
        latency_ms=latency_of(() if seen is None else seen.latency.tolist(), monitor.contract.limits.p99_ms),
        timeline=timeline,
        notes=notes,
        latency_counts=() if seen is None else tuple(seen.latency.tolist()),
        clock=monitor.clock,
    )


def signal_views(compared: Compared, seen: Seen, fewest: int) -> tuple[SignalView, ...]:
    """`fewest`: the mean of fewer values is not told."""
    scales, drift = compared.scales, compared.drift
    evidence = drift.by_signal
    live_mean = np.where(seen.present >= fewest, seen.sums / np.maximum(seen.present, 1), np.nan)
    found = []
    for column, signal in enumerate(compared.reference.signals):
        scale = scales.each[column]
        reference, live = scales.part(scales.reference, column), scales.part(seen.counts, column)
        found.append(
            SignalView(
                name=signal.name,
                kind=signal.kind,
                about=signal.about,
                title=signal.title,
                unit=signal.unit,
                edges=tuple(scale.edges.tolist()),
                classes=scale.classes,
                reference=tuple(reference.tolist()),
                live=tuple(live.tolist()),
                reference_mean=float(scales.mean[column]),
                live_mean=float(live_mean[column]) if seen.present[column] else float("nan"),
                distance=distance_of(signal.kind, reference, live),
                psi=psi_of(reference, live, numbers=signal.kind == "number"),
                evidence=float(evidence[column]),
                p_value=None if drift.last is None else float(drift.last.p[column]),
            )
        )
    return tuple(found)


def psi_of(reference: Array, live: Array, *, numbers: bool) -> float:
    """Of numbers in tenths of the reference, with missing values apart; 0 where nothing has come."""
    if not live.sum():
        return 0.0
    if numbers:
        known = reference[:-1]
        middle = (np.cumsum(known) - known / 2) / max(1, known.sum())
        group = np.append(np.minimum(middle * _GROUPS, _GROUPS - 1).astype(np.int64), _GROUPS)
        reference, live = np.bincount(group, reference), np.bincount(group, live)
    return psi(reference, live)


def rules_of(signals: tuple[SignalView, ...]) -> tuple[Rule, ...]:
    """Rules of thumb, where anything has come."""
    if not any(sum(signal.live) for signal in signals):
        return ()
    by_name = {signal.name: signal for signal in signals}
    found: list[Rule | None] = []
    confidence = by_name.get("confidence")
    if confidence is not None and not np.isnan(confidence.live_mean):
        found.append(mean_confidence(confidence.reference_mean, confidence.live_mean))
    found.append(largest_psi({signal.title: signal.psi for signal in signals}))
    classes = next((signal for signal in signals if signal.kind == "class"), None)
    if classes is not None:
        found.append(class_share((*classes.classes, "missing"), classes.reference, classes.live))
    return tuple(rule for rule in found if rule is not None)


def promise_of(options: MonitorOptions, reference: int) -> Promise:
    return Promise(
        run_length=options.run_length,
        window=options.window,
        window_rate=options.window_rate,
        nodes=options.nodes,
        reference=reference,
        words=promise_words(options.run_length, options.window, options.window_rate, options.nodes, reference),
    )


def promise_words(run_length: float, window: int, window_rate: float, nodes: int, reference: int) -> str:
    together = "" if nodes == 1 else f" All {nodes} nodes together keep it, with N counted on one of them."
    return (
        f"If scored requests are exchangeable with the reference ({reference:,} samples): the sequential detector "
        f"raises a false alarm within N scored requests with a probability of at most N/{run_length:,.0f}, so once in "
        f"{run_length:,.0f} scored requests on average, or less often.{together} The windowed test raises one in at "
        f"most {100 * window_rate:g} % of the windows of {window} scored requests, on average over references. "
        "Requests that are not scored do not count."
    )


def latency_of(counts: Sequence[int], target_ms: float | None) -> dict[str, float]:
    return quantiles_ms(counts) | ({} if target_ms is None else {"target": target_ms})


def notes_of(options: MonitorOptions, reference: Reference | None, unscored: int) -> tuple[str, ...]:
    notes = []
    if reference is not None:
        if reference.samples < ENOUGH:
            notes.append(
                f"the reference has {reference.samples} samples: an alarm takes about twice as long as with 1000"
            )
        if reference.origin == "production":
            notes.append(
                f"the reference is {reference.samples:,} requests of {reference.created}: what was wrong by then is "
                "taken as right"
            )
        notes += [f"{signal.title} is missing in the whole reference" for signal in _missing(reference)]
    if not options.keep:
        notes.append("nothing of what is asked is kept: alarms name no samples")
    if unscored:
        notes.append(f"{unscored:,} rows were chosen and lost: the monitor was too slow for them")
    return tuple(notes)


def _missing(reference: Reference) -> list[Signal]:
    known = (~np.isnan(reference.scores)).sum(0).tolist()
    return [signal for signal, count in zip(reference.signals, known, strict=True) if not count]


def _estimate(compared: Compared, seen: Seen) -> Estimate | None:
    if compared.reference.sure is None or compared.confidence is None or not seen.rows:
        return None
    reference = atc(compared.reference.scores[:, compared.confidence], compared.reference.sure)
    return None if reference is None else Estimate(seen.sure / seen.rows, reference, seen.rows)
