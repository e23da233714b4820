"""What a batch costs: as the package states it, and as it was measured here."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlp
import numpy as np
import pytest

from shipworthy.contract import Array, Arrays
from shipworthy.errors import EngineError
from shipworthy.evidence import LatencyPoint
from shipworthy.predict import calibrate, costs, load
from shipworthy.predict.costs import measured_costs, stated_costs
from shipworthy.predict.loading import warm
from shipworthy.predict.streams import Streams
from shipworthy.runtime.protocol import OperatingPoint

pytest.importorskip("onnxruntime")


def stated(latency: dict[int, float], *points: int) -> dict[int, float]:
    rows = tuple(LatencyPoint(batch=batch, p50_ms=ms, p99_ms=ms, runs=9) for batch, ms in latency.items())
    return stated_costs(
        mlp.variant("onnxruntime", latency=rows, points=tuple(OperatingPoint(batch=batch) for batch in points))
    )


def test_what_the_package_states() -> None:
    assert stated({8: 4.0, 1: 1.0}, 1) == pytest.approx({1: 1e-3, 8: 4e-3})
    assert list(stated({8: 4.0, 1: 1.0}, 4)) == [1, 4, 8]


def test_sizes_between_and_beyond_the_measured_ones() -> None:
    assert stated({4: 2.0, 8: 4.0}, 2, 6, 16) == pytest.approx({2: 2e-3, 4: 2e-3, 6: 3e-3, 8: 4e-3, 16: 8e-3})


def test_a_package_that_states_nothing() -> None:
    assert stated({}, 4, 1) == {1: costs.UNKNOWN_S, 4: 4 * costs.UNKNOWN_S}
    assert stated({2: 0.0}) == {2: 2 * costs.UNKNOWN_S}


def sleepy(seconds_per_row: float, stated: dict[int, float], streams: int = 1) -> tuple[dict[int, float], list[int]]:
    """The measured costs of an engine that only waits, and the sizes that it ran."""
    ran: list[int] = []

    def run(feeds: Arrays) -> dict[str, Array]:
        rows = len(feeds["x"])
        ran.append(rows)
        time.sleep(rows * seconds_per_row)
        return {}

    batches = {size: {"x": np.zeros((size, 1))} for size in stated}
    with Streams(run, streams) as pool:
        predictor: Any = SimpleNamespace(stated_costs=stated)
        return measured_costs(predictor, pool, batches), ran


def test_every_size_is_measured_where_time_suffices() -> None:
    found, ran = sleepy(0.0005, {1: 1.0, 2: 2.0, 4: 4.0})
    assert list(found) == [1, 2, 4] and set(ran) == {1, 2, 4}
    assert all(cost >= size * 0.0005 for size, cost in found.items())


def test_sizes_that_do_not_fit_have_what_was_stated_corrected() -> None:
    found, ran = sleepy(0.1, {1: 0.05, 8: 0.2, 64: 1.6})
    assert set(ran) == {1}
    assert found[1] >= 0.1
    assert found[8] == pytest.approx(found[1] * 4) and found[64] == pytest.approx(found[1] * 32)


def test_the_smallest_is_measured_on_every_stream_in_any_case() -> None:
    found, ran = sleepy(0.4, {1: 0.001, 2: 0.002}, streams=2)
    assert ran == [1, 1] and found[2] == pytest.approx(2 * found[1])


def test_all_streams_are_busy_at_once() -> None:
    both = threading.Barrier(2, timeout=10)
    with Streams(lambda feeds: {"thread": np.array(both.wait())}, 2) as streams:
        assert len(streams.each({})) == 2
        assert len(streams.timed({}, runs=3, within_s=10)) == 4, "the first run of each stream is left out"
        assert len(streams.timed({}, runs=9, within_s=0, least=4, least_s=10)) == 6
        assert len(streams.timed({}, runs=9, within_s=0)) == 2, "one in any case"


def test_an_error_of_the_engine_is_raised() -> None:
    def fail(feeds: Arrays) -> dict[str, Array]:
        raise EngineError("engine", "fails")

    for count in (1, 2):
        with Streams(fail, count) as streams, pytest.raises(EngineError):
            streams.each({})


def test_a_predictor_knows_its_costs_once_it_is_calibrated(stored: Path) -> None:
    with load(stored) as predictor:
        assert predictor.stated_costs == pytest.approx({1: 1e-4, 4: 1e-4, 8: 1e-4}) and predictor.costs is None
        found = calibrate(predictor)
        assert predictor.costs == found
        assert tuple(found) == predictor.batch_sizes == (1, 4, 8) and all(cost > 0 for cost in found.values())


def test_every_stream_is_warmed_with_every_size(stored: Path) -> None:
    with load(stored, point=OperatingPoint(streams=2, threads=2, batch=4)) as predictor:
        seen: list[tuple[int, int]] = []
        run = predictor.run

        def watched(feeds: Arrays) -> dict[str, Array]:
            seen.append((len(feeds["features"]), threading.get_ident()))
            return run(feeds)

        predictor.run = watched  # type: ignore[method-assign]
        warm(predictor)
        assert sorted(size for size, _ in seen) == [1, 1, 4, 4, 8, 8]
        assert all(len({thread for found, thread in seen if found == size}) == 2 for size in (1, 4, 8))


def test_the_bucket_of_some_rows(stored: Path) -> None:
    with load(stored) as predictor:
        assert [predictor.bucket(rows) for rows in (1, 2, 4, 5, 8, 9, 100)] == [1, 4, 4, 8, 8, 8, 8]
