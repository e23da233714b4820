"""Another reference for a monitor, from requests: taken at once, collected, and kept in its state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..contract import Array
from ..errors import PackageError
from ..signals import Signals, watch
from ..signals.reference import FEWEST, MOST, Reference
from ..signals.signal import Signal
from .alarms import Acknowledgement
from .collecting import FITTED, Collecting
from .compared import reference_from
from .groups import Rows
from .options import check_baseline
from .state_parts import WHERE, Reader, damaged

if TYPE_CHECKING:
    from .monitor import Monitor


def take(monitor: Monitor, rows: Rows) -> None:
    """See `Monitor.set_baseline`."""
    signals, constants = monitor.signals, monitor.constants
    if signals is None:  # nothing is fitted yet: a part of the rows does that
        collecting = Collecting(monitor.contract, None, len(rows))
        fitted = collecting.take(rows.between(0, min(len(rows) // 2, FITTED)))
        signals, constants = collecting.finish()
        rows = rows.between(fitted, len(rows))
    _follow(monitor, rows.values(signals), signals, constants)
    _settle(monitor, "set_baseline", "a new baseline was taken")


def collect(monitor: Monitor, samples: int) -> None:
    """See `Monitor.collect_baseline`."""
    check_baseline(samples)
    monitor.collecting = Collecting(monitor.contract, monitor.own, samples, monitor.seed)
    monitor.compared = None
    _settle(monitor, "collect_baseline", "a new baseline is taken")


def renew(monitor: Monitor, said: Iterable[Acknowledgement]) -> bool:
    """See `Monitor.renew`."""
    wanted = [one for one in said if one.new_baseline and one.alarm not in monitor.renewed]
    if wanted:
        collect(monitor, max(wanted, key=lambda one: one.at).new_baseline)
        monitor.renewed |= {one.alarm for one in wanted}
    return bool(wanted)


def collected(monitor: Monitor, rows: Rows) -> int:
    """How many of these rows have gone into the reference that is collected, from the first on; it is followed as soon
    as it is complete."""
    collecting = monitor.collecting
    assert collecting is not None
    taken = collecting.take(rows)
    if collecting.collected >= collecting.wanted:
        _follow(monitor, collecting.values, *collecting.finish())
    return taken


def _follow(monitor: Monitor, values: Array, signals: Signals, constants: dict[str, Array]) -> None:
    reference = reference_from(values, signals.signals, constants, monitor.own, monitor.seed)
    monitor.follow(reference, monitor.compared_with(reference))


def _settle(monitor: Monitor, who: str, why: str) -> None:
    """Alarms that stand were of the reference before."""
    for alarm in monitor.alarms.drifted:
        monitor.alarms.acknowledge(alarm.id, monitor.now(), who, why)


def reference_of(monitor: Monitor, created: str, reader: Reader) -> Reference:
    """One that was taken from requests, as a state has it."""
    constants = dict(reader.under("constants/"))
    signals = signals_of(monitor, constants)
    scores = reader.take("reference/scores", "f", (None, len(signals)), missing=True)
    if not FEWEST <= len(scores) <= MOST:
        raise damaged(f"its reference has {len(scores)} samples")
    own = monitor.own
    return Reference(
        signals=signals,
        scores=np.sort(scores, axis=0),
        constants=constants,
        accepted=None if own is None else own.accepted,
        sure=None if own is None else own.sure,
        origin="production",
        created=created,
    )


def signals_of(monitor: Monitor, constants: dict[str, Array]) -> tuple[Signal, ...]:
    """What is computed with these constants, which have the sizes that the contract's tensors have."""
    own = monitor.own
    try:
        signals = Signals(monitor.contract, constants).signals if own is None else own.signals
        watch(monitor.contract, Reference(signals, np.empty((0, len(signals))), constants), WHERE)
    except (PackageError, ValueError, IndexError, TypeError, KeyError):
        raise damaged("its constants do not fit the contract") from None
    return signals


def constant_arrays(constants: dict[str, Array]) -> dict[str, Array]:
    """As `Reader.under("constants/")` gives them back."""
    return {f"constants/{name}": array for name, array in constants.items()}
