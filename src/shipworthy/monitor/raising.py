"""Alarms from what the detectors have found: what has moved, by how much, since when, and in which rows it shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np

from ..contract import Array
from ..signals.signal import Signal
from .alarms import alarm_id
from .drift import Drift
from .evidence.effects import (
    NUMBERS,
    Effect,
    class_names,
    class_number,
    classes_moved,
    count_classes,
    distance_of,
    effect,
    severity,
    total_variation,
)
from .evidence.windows import WindowResult
from .unusual import BOTH
from .view import Alarm, Detector, Moved, Severity

if TYPE_CHECKING:
    from .compared import Compared
    from .monitor import Monitor

MOST_MOVED = 8
FEWEST_ROWS = 30
"""Rows that an effect is told from, at least: fewer say little of how large it is."""
_WORTH = 1e-3
"""Evidence, over the threshold, from which a signal is named beside the one that raised the alarm."""
_SHIFT = 0.25
"""Deviations; what moves by less has moved to both sides."""
_CLASSES = 0.05
"""Share of the answers that must have moved for classes to be named."""


def of_bets(monitor: Monitor, highest: float, at: Array, crossed: int) -> Alarm:
    """The alarm of the sequential detector, raised by this row of the block that came last. `highest` is the largest
    evidence in it, `at` [n] the times of its rows."""
    drift = _drift(monitor)
    evidence = drift.by_signal
    leading = int(evidence.argmax())
    evidence[leading] = max(evidence[leading], highest)
    order = np.argsort(-evidence, kind="stable")
    columns = [int(column) for place, column in enumerate(order) if not place or evidence[column] >= _WORTH]
    ago = max(drift.began, 1)
    raised = float(at[crossed])
    began = min(monitor.timeline.time_of(ago, float(at[-1])), raised)
    scored = monitor.scored - (len(at) - 1 - crossed)
    found = columns[:MOST_MOVED], evidence, max(ago, FEWEST_ROWS)
    return _alarm(monitor, "sequential", raised, began, scored, *found)


def of_window(monitor: Monitor, window: WindowResult, at: float) -> Alarm:
    """The alarm of a window that ended at this time."""
    order = np.argsort(window.corrected, kind="stable")
    columns = [int(column) for column in order if window.rejected[column]]
    began = monitor.timeline.time_of(window.rows, at)
    return _alarm(monitor, "window", at, began, monitor.scored, columns[:MOST_MOVED], window.corrected, window.rows)


def towards(monitor: Monitor, columns: Sequence[int], rows: int) -> Array:
    """In which direction these signals have moved with the last rows: [signals], of -1, 0, 1 and `BOTH`."""
    compared = monitor.compared
    assert compared is not None
    found = np.zeros(len(compared.reference.signals), np.int64)
    if not len(compared.drift.latest(rows)):
        return found
    before = np.sort(compared.unusual.deviations(compared.reference.scores), axis=0)
    now = compared.unusual.deviations(compared.drift.latest(rows))
    for column in columns:
        if compared.reference.signals[column].kind == "class":
            found[column] = 1  # towards classes that are rare
            continue
        shift = np.median(now[:, column]) - before[len(before) // 2, column]
        found[column] = np.sign(shift) if abs(shift) >= _SHIFT else BOTH
    return found


def aim(monitor: Monitor) -> None:
    """Find the direction again in which the signals of an alarm that stands have moved."""
    names = {moved.signal for alarm in monitor.alarms.drifted for moved in alarm.moved}
    if monitor.compared is not None and monitor.options.keep:
        signals = monitor.compared.reference.signals
        columns = [column for column, signal in enumerate(signals) if signal.name in names]
        monitor.towards = towards(monitor, columns, monitor.options.window)


def _alarm(
    monitor: Monitor,
    detector: Detector,
    at: float,
    began: float,
    scored: int,
    columns: list[int],
    evidence: Array,
    rows: int,
) -> Alarm:
    """`columns` have moved, most first, as the last `rows` show."""
    compared = monitor.compared
    assert compared is not None
    signals, scores = compared.reference.signals, compared.reference.scores
    live = compared.drift.latest(rows)
    # Where nothing is kept, a number of few requests is not told either: it may be that of one.
    told = bool(monitor.options.keep) or len(live) >= FEWEST_ROWS
    effects = {
        column: effect(signals[column], scores[:, column], live[:, column]) if told else _untold(compared, column)
        for column in columns
    }
    moved = tuple(
        Moved(signals[column].name, signals[column].title, found.words, found.distance, float(evidence[column]))
        for column, found in effects.items()
    )
    if monitor.options.keep:
        monitor.towards = towards(monitor, columns, rows)
    samples = monitor.samples.point_out(compared.unusual, monitor.towards, began) if monitor.options.keep else ()
    return Alarm(
        id=alarm_id(monitor.model, monitor.version, monitor.node, detector, scored, at),
        model=monitor.model,
        version=monitor.version,
        node=monitor.node,
        detector=detector,
        raised=at,
        began=began,
        scored=scored,
        severity=_worst(effects.values()),
        summary=_summary(monitor, detector, moved, scored, rows),
        moved=moved,
        classes=_classes(monitor, live) if told else (),
        samples=samples,
    )


def _untold(compared: Compared, column: int) -> Effect:
    """By the counts of the last windows."""
    signal, scales = compared.reference.signals[column], compared.scales
    before, now = (scales.part(counts, column) for counts in (scales.reference, compared.recent.total().counts))
    distance = distance_of(signal.kind, before, now)
    return Effect(distance, severity(distance, NUMBERS), f"{signal.title} has moved")


def _worst(effects: Iterable[Effect]) -> Severity:
    return max((each.severity for each in effects), key=get_args(Severity).index, default="slight")


def _summary(monitor: Monitor, detector: Detector, moved: tuple[Moved, ...], scored: int, rows: int) -> str:
    scored_ones = {signal.name for signal in _signals(monitor) if signal.scored}
    # What is bet on says more to a person than what follows from it, such as the probability of one class.
    first = next((one for one in moved if one.signal in scored_ones), moved[0])
    by = "bets on each scored request" if detector == "sequential" else f"a window of {rows:,}"
    name = f"{monitor.model}:{monitor.version}" if monitor.version else monitor.model
    more = f" and {len(moved) - 1} more {'signal' if len(moved) == 2 else 'signals'}" if len(moved) > 1 else ""
    return f"{name} drifts: {first.words}{more}; seen by {by}, after {scored:,} scored requests"


def _classes(monitor: Monitor, live: Array) -> tuple[str, ...]:
    compared = monitor.compared
    assert compared is not None
    for column, signal in enumerate(compared.reference.signals):
        if signal.kind != "class":
            continue
        reference = compared.reference.scores[:, column]
        size = class_number(signal, reference)
        before, now = count_classes(reference, size), count_classes(live[:, column], size)
        if total_variation(before, now) >= _CLASSES:
            return classes_moved(class_names(signal, len(before)), before, now)
    return ()


def _signals(monitor: Monitor) -> tuple[Signal, ...]:
    assert monitor.compared is not None
    return monitor.compared.reference.signals


def _drift(monitor: Monitor) -> Drift:
    assert monitor.compared is not None
    return monitor.compared.drift
