"""Losses are kept in cells that bound them, and old hours are put together without losing a label."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from rollout_world import BEGIN, MODEL, make_registry
from shipworthy.errors import RegistryError
from shipworthy.monitor.evidence.quality import LOWER, UPPER, count
from shipworthy.registry import Registry, losses_of
from shipworthy.registry.losses import (
    DAILY_H,
    DAY_H,
    HOUR_S,
    HOURLY_H,
    UNKNOWN,
    add,
    cell_of,
    error_scale,
    fold,
    hour_of,
    span_of,
)
from shipworthy.registry.rollout_tables import losses as table

NOW = BEGIN + timedelta(days=200, hours=13)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with make_registry(tmp_path / "registry") as made:
        yield made


def put(registry: Registry, found: list[tuple[int, int, int]], now: datetime = NOW, model: str = MODEL) -> None:
    registry.database.transact(lambda connection: add(connection, model, found, now), alone=False)


def folded(registry: Registry, now: datetime) -> int:
    return registry.database.transact(lambda connection: fold(connection, now), alone=False)


@given(st.floats(0, 1))
def test_a_cell_bounds_its_loss_from_both_sides(loss: float) -> None:
    cell = cell_of(loss)
    assert count([loss])[cell] == 1, "as the evidence counts it"
    assert LOWER[cell] <= loss <= UPPER[cell]
    assert UPPER[cell] - LOWER[cell] <= 1 / 98
    assert (cell in (0, 100)) == (loss in (0, 1))


def test_an_unknown_loss_has_a_place_of_its_own() -> None:
    assert cell_of(None) == UNKNOWN


@pytest.mark.parametrize(
    ("figures", "scale"),
    [
        ({"metric.neg_mae": -0.5, "p50_ms": 1.0}, 2.5),
        ({"metric.neg_rmse": -2.0}, 10.0),
        ({"metric.r2": 0.9}, None),
        ({"metric.neg_mae": 0.0}, None),
        ({"metric.neg_mae": float("inf")}, None),
        ({}, None),
    ],
)
def test_the_scale_of_errors_is_that_of_held_out_ones(figures: dict[str, float], scale: float | None) -> None:
    assert error_scale(figures) == scale


@given(st.integers(-50, 3000), st.integers(400_000, 600_000), st.integers(0, 3000))
def test_a_span_becomes_coarser_and_never_finer(ago: int, now: int, later: int) -> None:
    hour = now - ago
    first = span_of(hour, now)
    assert first <= now and (first == 0 or first == min(hour, now) or (first % DAY_H == 0 and hour - first < DAY_H))
    assert span_of(first, now + later) == span_of(min(hour, now), now + later), "whether it was put together on the way"


def test_losses_add_up_by_hour(registry: Registry) -> None:
    hour = hour_of(NOW)
    at = hour * HOUR_S + 17
    put(registry, [(1, at, 0), (1, at, 0), (1, at, 100), (1, at - HOUR_S, 37), (2, at, 0), (1, at, UNKNOWN)])
    put(registry, [(1, at, 0), (1, at + 7 * HOUR_S, 100)])
    put(registry, [])
    found = losses_of(registry, MODEL, 1)
    assert found.begins.tolist() == [(hour - 1) * HOUR_S, hour * HOUR_S], "no hour is still to come"
    assert found.counts.shape == (2, 101)
    assert found.counts[0].nonzero()[0].tolist() == [37] and found.counts[1, [0, 100]].tolist() == [3, 2]
    assert (found.unknown, found.kind, found.error_scale) == (1, "classification", None)
    assert found.since == BEGIN.timestamp()
    assert losses_of(registry, MODEL, 2).counts.sum() == 1
    assert losses_of(registry, MODEL, 3).counts.shape == (0, 101)
    with pytest.raises(RegistryError, match=r"digits:9: is not known"):
        losses_of(registry, MODEL, 9)


def test_old_hours_are_put_together_and_nothing_is_lost(registry: Registry) -> None:
    """A label an hour for 120 days: hours, then days, then one row."""
    draw = np.random.default_rng(5)
    hour = hour_of(NOW)
    made = [(1, (hour - ago) * HOUR_S, int(draw.integers(0, 2)) * 100) for ago in range(120 * DAY_H)]
    for start in range(0, len(made), 500):
        put(registry, made[start : start + 500], NOW - timedelta(days=120))
    with registry.database.write() as connection:  # as if each had come in its hour
        connection.execute(table.delete())
        rows: dict[tuple[int, int], int] = {}
        for _, at, loss in made:
            rows[at // HOUR_S, loss] = rows.get((at // HOUR_S, loss), 0) + 1
        values = [
            {"model": MODEL, "version": 1, "hour": one, "loss": loss, "number": number}
            for (one, loss), number in rows.items()
        ]
        connection.execute(table.insert(), values)
    assert folded(registry, NOW) > 100 * DAY_H
    found = losses_of(registry, MODEL, 1)
    assert found.counts[:, [0, 100]].sum(0).tolist() == [
        sum(loss == 0 for *_, loss in made), sum(loss == 100 for *_, loss in made),
    ]  # fmt: skip
    spans = len(found.begins)
    assert HOURLY_H + (DAILY_H - HOURLY_H) // DAY_H <= spans <= 300
    assert found.begins[0] == 0 and (np.diff(found.begins) > 0).all()
    assert folded(registry, NOW) == 0
    # As if they had been put together when they came.
    with registry.database.write() as connection:
        connection.execute(table.delete())
    for start in range(0, len(made), 500):
        put(registry, made[start : start + 500])
    again = losses_of(registry, MODEL, 1)
    assert again.begins.tolist() == found.begins.tolist() and (again.counts == found.counts).all()


def test_folding_keeps_models_and_versions_apart(registry: Registry) -> None:
    at = (hour_of(NOW) - 50) * HOUR_S
    put(registry, [(1, at, 0), (2, at, 0), (2, at, 100)])
    put(registry, [(1, at, 100)], model="letters")
    later = NOW + timedelta(days=365)
    assert folded(registry, later) == 4
    with registry.database.read() as connection:
        rows: list[Any] = connection.execute(select(table).order_by(*table.primary_key.columns)).all()
    assert [tuple(row) for row in rows] == [
        (MODEL, 1, 0, 0, 1), (MODEL, 2, 0, 0, 1), (MODEL, 2, 0, 100, 1), ("letters", 1, 0, 100, 1),
    ]  # fmt: skip


def test_a_clock_that_is_mended_leaves_losses_as_they_are(registry: Registry) -> None:
    now = datetime.now(UTC)
    put(registry, [(1, int(now.timestamp()) + day * 86_400, 0) for day in (1, 2, 3)], now + timedelta(days=9))
    registry.mend_times(after=registry.newest_event(), at=datetime.now(UTC))
    with registry.database.read() as connection:
        assert connection.execute(select(func.sum(table.c.number))).scalar_one() == 3
