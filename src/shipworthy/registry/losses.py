"""How wrong answers were: counts of losses, which labels add to, and which stay when labels are forgotten.

A row says how many labels of a version had one loss in one span of time. Rows add up, so whoever writes them, and in
whichever order, what all wrote is what one would have written who saw every label.

A loss is kept as one of 101 cells: 0 and 1 have one each, and cell k of the 99 between holds ((k - 1)/99, k/99]. So
right and wrong are kept as they are, and of everything else both a lower and an upper bound is known."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import RegistryError
from .records import Losses
from .rollout_tables import losses
from .tables import packages, versions

if TYPE_CHECKING:
    from .registry import Registry

CELLS = 101
_LAST = CELLS - 1
"""That of a loss of 1."""
UNKNOWN = -1
"""Stands for a loss that cannot be said."""
DAY_H = 24
HOURLY_H = 7 * DAY_H
"""For so long hours are kept apart, and then days."""
DAILY_H = 90 * DAY_H
"""For so long days are, and then nothing: a version has less than 300 spans, however long it serves."""
HOUR_S = 3600
ERRORS = 5.0
"""A whole loss is an error of so many mean ones: few are larger, and the others fill most of the cells."""
_METRICS = ("metric.neg_mae", "metric.neg_rmse")


def cell_of(loss: float | None) -> int:
    """The cell of a loss in [0, 1]; `UNKNOWN` of none."""
    if loss is None:
        return UNKNOWN
    if loss in (0, 1):
        return _LAST if loss else 0
    cell = min(max(math.ceil(loss * (_LAST - 1)), 1), _LAST - 1)
    # A product is rounded, and must not take a loss over the edge of its cell.
    return min(cell + (cell / (_LAST - 1) < loss), _LAST - 1)


def error_scale(figures: Mapping[str, float]) -> float | None:
    """Regression: the absolute error that is a whole loss of a version with these figures: as many times its error on
    held-out data as `ERRORS` says. None where its metric is no error, as R² is none, or there was no error at all."""
    found = next((abs(figures[name]) for name in _METRICS if name in figures), 0.0)
    return ERRORS * found if found > 0 and math.isfinite(found) else None


def span_of(hour: int, now: int) -> int:
    """The hour that a span begins with, in hours since 1970 both."""
    if hour > now - HOURLY_H:
        # A clock that was ahead must not make times that are still to come.
        return min(hour, now)
    day = hour - hour % DAY_H
    return day if day > now - DAILY_H else 0


def add(connection: Connection, model: str, found: Iterable[tuple[int, int, int]], now: datetime) -> None:
    """Add labels, each with its version, when its prediction was made in seconds since 1970, and its cell.

    Rows are written in one order by all, so that no two wait for each other."""
    hour = hour_of(now)
    counted = Counter((version, span_of(at // HOUR_S, hour), loss) for version, at, loss in found)
    _put(connection, {(model, *key): number for key, number in counted.items()})


def fold(connection: Connection, now: datetime) -> int:
    """Put hours together that are kept apart no longer; gives the number of rows that are gone.

    What is added is what the deletion gives back, so that of two who do it at the same time each adds its own rows."""
    hour = hour_of(now)
    over = (losses.c.hour <= hour - HOURLY_H) & (losses.c.hour % DAY_H != 0)
    older = (losses.c.hour <= hour - DAILY_H) & (losses.c.hour != 0)
    gone = connection.execute(delete(losses).where(over | older).returning(*losses.c)).all()
    sums: Counter[tuple[str, int, int, int]] = Counter()
    for row in gone:
        sums[row.model, row.version, span_of(row.hour, hour), row.loss] += row.number
    _put(connection, sums)
    return len(gone)


def losses_of(registry: Registry, model: str, version: int) -> Losses:
    """What labels have said of a version. Raises RegistryError where there is none, or the database is out of reach."""
    return registry.database.ask(lambda connection: _read(connection, model, version))


def hour_of(moment: datetime) -> int:
    return int(moment.timestamp()) // HOUR_S


def upsert(connection: Connection, into: Any) -> Any:
    """An insert that can say what to do with rows that are there; each database has its own."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(into)


def _put(connection: Connection, numbers: Mapping[tuple[str, int, int, int], int]) -> None:
    if not numbers:
        return
    statement = upsert(connection, losses)
    more = losses.c.number + statement.excluded.number
    keys = list(losses.primary_key.columns)
    names = [column.name for column in losses.c]
    values = [dict(zip(names, (*key, number), strict=True)) for key, number in sorted(numbers.items())]
    # With something to give back, all rows go in one statement.
    statement = statement.on_conflict_do_update(index_elements=keys, set_={"number": more}).returning(losses.c.hour)
    connection.execute(statement, values)


def _read(connection: Connection, model: str, version: int) -> Losses:
    this = (versions.c.model == model) & (versions.c.number == version)
    columns = (versions.c.created, versions.c.metrics, packages.c.manifest)
    joined = versions.outerjoin(packages, versions.c.digest == packages.c.digest)
    row = connection.execute(select(*columns).select_from(joined).where(this)).first()
    if row is None:
        raise RegistryError(f"{model}:{version}", "is not known", f"see: shipworthy list {model}")
    # The package of a deleted version may be freed.
    task = json.loads(row.manifest)["contract"].get("task", {}) if row.manifest else {}
    kind = task.get("kind", "tensors")
    mine = (losses.c.model == model) & (losses.c.version == version)
    found = connection.execute(select(losses.c.hour, losses.c.loss, losses.c.number).where(mine)).all()
    known = [one for one in found if one.loss != UNKNOWN]
    hours, places = np.unique([one.hour for one in known], return_inverse=True)
    counts = np.zeros((len(hours), CELLS), np.int64)
    for place, one in zip(places.tolist(), known, strict=True):
        counts[place, one.loss] = one.number
    return Losses(
        kind=kind,
        error_scale=error_scale(row.metrics) if kind == "regression" else None,
        since=row.created.astimezone(UTC).timestamp(),
        begins=hours.astype(np.int64) * HOUR_S,
        counts=counts,
        unknown=sum(one.number for one in found if one.loss == UNKNOWN),
    )
