"""The views of several nodes, or of one node at several times, as one.

What adds is added: counts, so that it equals one monitor that saw all. What does not is taken from the node that has
most of it: the evidence of each keeps the promise by itself, and together they do because the threshold of each was
raised by their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .alarms import united
from .evidence.effects import distance_of
from .latency import quantiles_ms
from .timeline import together
from .view import Estimate, Promise, Quality, SignalView, View
from .viewing import promise_words, psi_of, rules_of

SILENT_S = 300.0
"""A node that has said nothing for so long is not running; what it saw last is no evidence of what is now."""


def merged(views: Sequence[View], now: float | None = None) -> View:
    """Of one version, at least one. Without `now` all count as of the same time.

    A node that is silent, whose reference is another one, or that still collects it, adds its requests, alarms and
    points, and is named in the notes; its signals and evidence count only where there is no other."""
    assert views, "there is at least one"
    if len(views) == 1 and now is None:
        return views[0]
    latest = max(views, key=lambda view: view.updated)
    at = latest.updated if now is None else now
    live = [view for view in views if at - view.updated <= SILENT_S] or [latest]
    main = max(live, key=lambda view: (view.promise is not None, view.updated))
    alike = [view for view in live if _same_reference(view, main)]
    signals = tuple(_signal([view.signals[place] for view in alike]) for place in range(len(main.signals)))
    latency = _latency_counts(alike)
    return replace(
        main,
        nodes=tuple(dict.fromkeys(node for view in views for node in view.nodes)),
        since=min(view.since for view in views),
        updated=latest.updated,
        requests=sum(view.requests for view in views),
        scored=sum(view.scored for view in views),
        unscored=sum(view.unscored for view in views),
        promise=_promise(alike),
        signals=signals,
        alarms=united(alarm for view in views for alarm in view.alarms),
        rules=rules_of(signals),
        quality=_labelled(live),
        estimate=_estimate(alike),
        latency_ms=quantiles_ms(latency) | {key: main.latency_ms[key] for key in ("target",) if key in main.latency_ms},
        timeline=together([view.timeline for view in views if _same_signals(view, main)], at),
        notes=(*dict.fromkeys(note for view in alike for note in view.notes), *_apart(views, alike, at)),
        latency_counts=latency,
    )


def _same_signals(view: View, main: View) -> bool:
    return [signal.name for signal in view.signals] == [signal.name for signal in main.signals]


def _same_reference(view: View, main: View) -> bool:
    return view.variant == main.variant and [
        (signal.name, signal.edges, signal.reference) for signal in view.signals
    ] == [(signal.name, signal.edges, signal.reference) for signal in main.signals]


def _signal(each: Sequence[SignalView]) -> SignalView:
    first = each[0]
    live = np.array([signal.live for signal in each]).sum(0)
    reference = np.array(first.reference)
    present = np.array([sum(signal.live[:-1]) for signal in each], float)
    means = np.array([signal.live_mean for signal in each])
    known = ~np.isnan(means) & (present > 0)
    weight = float(present[known].sum())
    p_values = [signal.p_value for signal in each if signal.p_value is not None]
    numbers = first.kind == "number"
    return replace(
        first,
        live=tuple(live.tolist()),
        live_mean=float((means[known] * present[known]).sum() / weight) if weight else float("nan"),
        distance=distance_of(first.kind, reference, live),
        psi=psi_of(reference, live, numbers=numbers),
        evidence=max(signal.evidence for signal in each),
        p_value=min(p_values) if p_values else None,
    )


def _promise(views: Sequence[View]) -> Promise | None:
    promises = [view.promise for view in views if view.promise is not None]
    if not promises:
        return None
    first = promises[0]
    nodes = len({node for view in views for node in view.nodes})
    if nodes <= min(promise.nodes for promise in promises):
        return first
    # More nodes than their thresholds allow for: what is kept is what they keep by themselves, added up.
    counted = max(nodes, 1)
    run_length = min(promise.run_length * promise.nodes for promise in promises) / counted
    words = promise_words(run_length, first.window, first.window_rate, counted, first.reference)
    return replace(first, run_length=run_length, nodes=counted, words=words)


def _labelled(views: Sequence[View]) -> Quality | None:
    found = [view.quality for view in views if view.quality is not None]
    # Labels are of all nodes, wherever they are counted: the node that has most has looked last.
    return max(found, key=lambda quality: quality.labels) if found else None


def _estimate(views: Sequence[View]) -> Estimate | None:
    found = [view.estimate for view in views if view.estimate is not None]
    scored = sum(each.scored for each in found)
    if not scored:
        return None
    sure = sum(round(each.value * each.scored) for each in found)
    return replace(found[0], value=sure / scored, scored=scored)


def _latency_counts(views: Sequence[View]) -> tuple[int, ...]:
    counts = [view.latency_counts for view in views if view.latency_counts]
    return tuple(np.array(counts).sum(0).tolist()) if counts else ()


def _apart(views: Sequence[View], alike: Sequence[View], at: float) -> list[str]:
    """What is said of nodes whose evidence does not count."""
    notes = []
    for view in views:
        name = ", ".join(view.nodes) or "a node"
        age = at - view.updated
        if age > SILENT_S:
            notes.append(f"{name} was seen last {_long(age)} ago")
        elif not any(view is other for other in alike):
            notes.append(f"{name} compares with another reference (variant {view.variant}): it is not added to these")
    return notes


def _long(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
