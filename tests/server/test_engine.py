"""A batch on the engine: rows of many parts in one run, each part's own rows back, and faults that stay alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine_cases import arrays, batch, numbers, prices, values
from server_cases import DIGITS, PRICES, digits_run, predictor

from shipworthy.contract import Arrays
from shipworthy.errors import EngineError, InputError
from shipworthy.server.engine import Engine, Ran, Work


def test_rows_of_all_parts_run_once_in_the_bucket() -> None:
    seen: list[np.ndarray] = []
    outcome = prices(seen).run(batch(8, numbers(1, 2), arrays([3, 4], [5, 6]), numbers(7, 8)))
    assert [values(result) for result in outcome.results] == [[3.0], [7.0, 11.0], [15.0]]
    assert [len(rows) for rows in seen] == [8]
    assert outcome.seconds is not None and outcome.seconds > 0


def test_padding_repeats_a_valid_row_and_reaches_no_answer() -> None:
    for works in ([numbers(1, 2), numbers(3, 4), numbers(5, 6)], [arrays([1, 2], [3, 4]), arrays([5, 6])]):
        seen: list[np.ndarray] = []
        outcome = prices(seen).run(batch(4, *works))
        assert seen[0].tolist() == [[1, 2], [3, 4], [5, 6], [5, 6]]
        assert [value for result in outcome.results for value in values(result)] == [3.0, 7.0, 11.0]
        answers = [row for result in outcome.results if isinstance(result, Ran) for row in result.answers]
        assert answers == [{"value": 3.0}, {"value": 7.0}, {"value": 11.0}]


def test_instance_that_does_not_fit_fails_alone() -> None:
    outcome = prices().run(batch(4, numbers(1, 2), numbers(1, True), numbers(3, 4)))
    assert values(outcome.results[0]) == [3.0]
    assert isinstance(outcome.results[1], InputError)
    assert "row" in str(outcome.results[1])
    assert values(outcome.results[2]) == [7.0]


def test_batch_of_faults_is_not_run() -> None:
    seen: list[np.ndarray] = []
    outcome = prices(seen).run(batch(2, numbers("a", 2), numbers(1, None)))
    assert all(isinstance(result, InputError) for result in outcome.results)
    assert outcome.seconds is None
    assert seen == []


def test_part_that_breaks_the_engine_fails_alone() -> None:
    seen: list[np.ndarray] = []
    outcome = prices(seen).run(batch(4, numbers(1, 2), arrays([666, 1]), numbers(3, 4)))
    assert values(outcome.results[0]) == [3.0]
    assert isinstance(outcome.results[1], EngineError)
    assert values(outcome.results[2]) == [7.0]
    assert [len(rows) for rows in seen] == [4, 1, 2, 1, 1], "all, the first alone, the others, and each of those"
    assert outcome.seconds is None


@pytest.mark.parametrize("works", [[numbers(1, 2), numbers(3, 4)], [arrays([1, 2]), arrays([3, 4])]])
def test_want_of_memory_is_told_to_all_and_ends_no_thread(works: list[Work], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = prices()

    def fails(*given: object) -> None:
        raise MemoryError

    monkeypatch.setattr(engine, "_joined", fails)
    monkeypatch.setattr(engine, "_converted", fails)
    outcome = engine.run(batch(4, *works))
    assert [type(result) for result in outcome.results] == [MemoryError, MemoryError]
    assert outcome.seconds is None


def test_output_without_rows_keeps_batches_apart() -> None:
    outputs = {"price": {"dtype": "float32", "shape": ("batch", 1)}, "total": {"dtype": "float32", "shape": (1,)}}
    seen: list[np.ndarray] = []

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        seen.append(feeds["row"])
        price = feeds["row"].sum(axis=1, keepdims=True)
        return {"price": price, "total": price.sum(axis=0)}

    engine = Engine(predictor({**PRICES, "outputs": outputs, "task": {"kind": "tensors"}}, run))
    outcome = engine.run(batch(4, arrays([1, 2], [3, 4], [5, 6])))
    (result,) = outcome.results
    assert isinstance(result, Ran)
    assert [len(rows) for rows in seen] == [3], "padding would be in the total"
    assert result.outputs["total"].tolist() == [21.0]
    assert len(result.answers) == 3


def test_times_are_of_the_run() -> None:
    (result,) = Engine(predictor(DIGITS, digits_run)).run(batch(1, image())).results
    assert isinstance(result, Ran)
    assert result.compute_s > 0
    assert result.queue_s > 0, "it was queued at 0 of the clock"
    assert result.values == 10


def image() -> Work:
    return Work(None, feeds={"image": np.zeros((1, 1, 8, 8), np.float32)})  # type: ignore[arg-type]


PADDED: dict[str, Any] = {
    "name": "words",
    "inputs": {name: {"dtype": "int64", "shape": ("batch", "tokens:1..16"), "pad": 0} for name in ("ids", "mask")},
    "outputs": {
        "total": {"dtype": "int64", "shape": ("batch",)},
        "each": {"dtype": "int64", "shape": ("batch", "tokens:1..16")},
    },
    "task": {"kind": "tensors"},
}


def test_rows_of_different_lengths_share_a_batch_where_padding_is_harmless() -> None:
    seen: list[tuple[int, ...]] = []

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        seen.append(feeds["ids"].shape)
        kept = feeds["ids"] * feeds["mask"]
        return {"total": kept.sum(axis=1), "each": kept + 1}

    def words(length: int) -> Work:
        ids = np.arange(1, length + 1)[None]
        return Work(None, feeds={"ids": ids, "mask": np.ones_like(ids)})  # type: ignore[arg-type]

    outcome = Engine(predictor(PADDED, run)).run(batch(4, words(7), words(8), words(7)))
    assert seen == [(4, 8)]
    shapes = [result.outputs["each"].shape for result in outcome.results if isinstance(result, Ran)]
    assert shapes == [(1, 7), (1, 8), (1, 7)]
    totals = [int(result.outputs["total"][0]) for result in outcome.results if isinstance(result, Ran)]
    assert totals == [28, 36, 28]
    first = outcome.results[0]
    assert isinstance(first, Ran)
    assert first.answers == [{"outputs": {"total": 28, "each": [2, 3, 4, 5, 6, 7, 8]}}]
