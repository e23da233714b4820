"""Parts that break the engine: they are found by halves, fail alone, and what was run for that is known."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import numpy as np
import pytest
from engine_cases import arrays, batch, numbers, prices, values
from hypothesis import given
from hypothesis import strategies as st
from server_cases import PRICES, client, predictor

from shipworthy.contract import Arrays
from shipworthy.errors import EngineError, InputError
from shipworthy.server.engine import Engine, Ran, Work

BAD = 666
SLEEP_S = 2e-3


def work(kind: str, *values: float) -> Work:
    """A part with one row for each value; as numbers where it has one, and `kind` says so."""
    if kind == "numbers" and len(values) == 1:
        return numbers(values[0], 0)
    return arrays(*([value, 0] for value in values))


def bucket(rows: int) -> int:
    return 1 << (rows - 1).bit_length()


def most(parts: int, bad: int) -> int:
    """Runs, at most: one for all, and two more for each bad part and each halving."""
    return 1 + 2 * bad * math.ceil(math.log2(parts))


@pytest.mark.parametrize("kind", ["numbers", "arrays"])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 21, 64])
def test_one_bad_row_is_found_by_halves(kind: str, count: int) -> None:
    for place in range(count):
        seen: list[np.ndarray] = []
        works = [work(kind, BAD if at == place else at) for at in range(count)]
        outcome = prices(seen, batch=64).run(batch(bucket(count), *works))
        assert isinstance(outcome.results[place], EngineError)
        assert [values(one) for at, one in enumerate(outcome.results) if at != place] == [
            [float(at)] for at in range(count) if at != place
        ]
        assert len(seen) == len(outcome.runs) <= most(count, 1)
        if count.bit_count() == 1:
            assert len(seen) == 2 * math.log2(count) + 1
        else:
            assert len(seen) >= 2 * math.floor(math.log2(count)) + 1


@given(
    parts=st.lists(
        st.tuples(st.sampled_from(["numbers", "arrays"]), st.integers(1, 3), st.booleans(), st.integers(0, 2)),
        min_size=1,
        max_size=21,
    )
)
def test_any_set_of_bad_parts_fails_exactly_those(parts: list[tuple[str, int, bool, int]]) -> None:
    """Of parts with 1 to 3 rows, the bad ones have one that breaks the engine."""
    rows: list[list[float]] = []
    for place, (_, count, bad, where) in enumerate(parts):
        rows.append([float(10 * place + row) for row in range(count)])
        if bad:
            rows[-1][where % count] = BAD
    works = [work(kind, *own) for (kind, *_), own in zip(parts, rows, strict=True)]
    total = sum(map(len, rows))
    seen: list[np.ndarray] = []
    outcome = prices(seen, batch=64).run(batch(bucket(total), *works))
    for (_, _, bad, _), own, result in zip(parts, rows, outcome.results, strict=True):
        if bad:
            assert isinstance(result, EngineError)
        else:
            assert values(result) == own
    failing = sum(bad for _, _, bad, _ in parts)
    assert len(seen) <= min(most(len(parts), failing), 2 * len(parts) - 1)
    assert [len(one) for one in seen] == [run.bucket for run in outcome.runs]
    assert all(run.bucket == bucket(run.rows) for run in outcome.runs)
    assert [run.failed for run in outcome.runs] == [bool((one == BAD).any()) for one in seen]
    answered = [run for run in outcome.runs if not run.failed]
    assert sum(run.rows for run in answered) == sum(len(own) for own in rows if BAD not in own)
    assert sum(len(run.waited) for run in answered) == len(parts) - failing
    assert (outcome.seconds is None) == bool(failing)


def test_batch_that_is_too_large_for_the_engine_is_answered_in_pieces() -> None:
    """Want of memory, say: no part is to blame."""
    sizes: list[int] = []

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        sizes.append(len(feeds["row"]))
        if sizes[-1] > 2:
            raise MemoryError
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}

    outcome = Engine(predictor(PRICES, run)).run(batch(8, *(numbers(at, at) for at in range(8))))
    assert [values(result) for result in outcome.results] == [[2.0 * at] for at in range(8)]
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


def test_rows_that_do_not_fit_are_in_no_run() -> None:
    outcome = prices().run(batch(4, numbers(1, 2), numbers(1, "two"), numbers(BAD, 4), numbers(5, 6)))
    assert [values(outcome.results[place]) for place in (0, 3)] == [[3.0], [11.0]]
    assert isinstance(outcome.results[1], InputError)
    assert isinstance(outcome.results[2], EngineError)
    assert [(run.rows, run.bucket, run.failed) for run in outcome.runs] == [
        (3, 4, True),
        (1, 1, False),
        (2, 2, True),
        (1, 1, True),
        (1, 1, False),
    ]


def test_what_failed_is_spent_and_teaches_nothing() -> None:
    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        time.sleep(SLEEP_S)
        if (feeds["row"] == BAD).any():
            raise EngineError("numpy", f"cannot run on {BAD}")
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}

    engine = Engine(predictor(PRICES, run))
    whole = engine.run(batch(4, *(numbers(at, 1) for at in range(4))))
    assert whole.seconds is not None and whole.seconds >= SLEEP_S
    assert whole.spent == whole.seconds
    broken = engine.run(batch(4, *(numbers(at or BAD, 1) for at in range(4))))
    assert broken.seconds is None
    assert len(broken.runs) == 5
    assert broken.spent >= 5 * SLEEP_S
    last = broken.results[-1]
    assert isinstance(last, Ran)
    assert last.compute_s >= SLEEP_S, "its own run"
    assert last.batch == 2
    alone = engine.run(batch(1, numbers(BAD, 1)))
    assert alone.seconds is None
    assert alone.spent >= SLEEP_S
    nothing = engine.run(batch(1, numbers("a", 1)))
    assert (nothing.seconds, nothing.spent, nothing.runs) == (None, 0.0, [])


def test_time_of_a_half_is_not_taken_for_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked = prices(), []
    joined = engine._joined

    def too_large(parts: Any, sizes: Any, bucket: int) -> Arrays:
        asked.append(bucket)
        if len(asked) <= 2:
            raise MemoryError
        return joined(parts, sizes, bucket)

    monkeypatch.setattr(engine, "_joined", too_large)
    outcome = engine.run(batch(4, arrays([1, 1], [2, 2]), arrays([3, 3], [4, 4])))
    assert asked == [4, 2, 2]
    assert isinstance(outcome.results[0], MemoryError)
    assert values(outcome.results[1]) == [6, 8]
    assert [run.bucket for run in outcome.runs] == [2]
    assert outcome.seconds is None and outcome.spent > 0


def test_error_of_a_part_holds_no_rows_of_others() -> None:
    outcome = prices().run(batch(4, *(arrays([at or BAD, 1]) for at in range(4))))
    error = outcome.results[0]
    assert isinstance(error, EngineError)
    assert error.__context__ is None and error.__cause__ is None


@pytest.mark.anyio
async def test_parts_that_were_run_by_halves_are_counted_by_their_own_runs() -> None:
    seen: list[int] = []

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        time.sleep(SLEEP_S)
        if (feeds["row"] == BAD).any():
            raise EngineError("numpy", f"cannot run on {BAD}")
        seen.append(len(feeds["row"]))
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}

    async with client(predictor(PRICES, run)) as http:
        asked = [http.post("/predict", json={"row": [at or BAD, 1]}) for at in range(8)]
        statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
        stats = (await http.get("/v2/models/prices/stats")).json()["model_stats"][0]
    assert statuses == [500, *[200] * 7]
    assert len(seen) >= 2, "whoever was with the bad one ran again"
    assert (stats["inference_count"], stats["execution_count"]) == (7, len(seen))
    assert stats["inference_stats"]["compute_infer"]["count"] == len(seen)
    assert stats["inference_stats"]["compute_infer"]["ns"] >= len(seen) * SLEEP_S * 1e9
