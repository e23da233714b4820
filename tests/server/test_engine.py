"""A batch on the engine: rows of many parts in one run, each part's own rows back, and faults that stay alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine_cases import arrays, batch, numbers, prices, values
from routing_cases import Seeing
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


def shown(watch: Seeing, name: str) -> list[list[float]]:
    return [feeds[name].tolist() for feeds, _ in watch.rows]


def test_a_watch_is_shown_the_rows_it_wants_and_no_padding() -> None:
    """Whether they came as numbers or as arrays, each with its own outputs and its own time."""
    asked: list[int] = []

    def last_and_first(rows: int) -> list[int]:
        asked.append(rows)
        return [0, rows - 1]

    for works in ([numbers(1, 2), numbers(3, 4), numbers(5, 6)], [arrays([1, 2], [3, 4]), arrays([5, 6])]):
        watch = Seeing(last_and_first)
        model = predictor(PRICES, lambda feeds: {"price": feeds["row"].sum(axis=1, keepdims=True)})
        Engine(model, watch).run(batch(4, *works))
        assert shown(watch, "row") == [[1, 2], [5, 6]]
        assert [outputs["price"].tolist() for _, outputs in watch.rows] == [[3], [11]]
        assert all(seconds > 0 for seconds in watch.seconds)
    assert asked == [3, 3]


def test_a_watch_that_wants_nothing_is_shown_nothing() -> None:
    watch = Seeing(lambda rows: None)
    model = predictor(PRICES, lambda feeds: {"price": feeds["row"].sum(axis=1, keepdims=True)})
    Engine(model, watch).run(batch(2, numbers(1, 2)))
    assert watch.rows == []


def test_a_watch_sees_rows_of_several_lengths_without_what_padded_them() -> None:
    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        return {"total": (feeds["ids"] * feeds["mask"]).sum(axis=1), "each": feeds["ids"] + 1}

    def words(*lengths: int) -> Work:
        ids = np.tile(np.arange(1, lengths[0] + 1), (len(lengths), 1))
        return Work(None, feeds={"ids": ids, "mask": np.ones_like(ids)})  # type: ignore[arg-type]

    watch = Seeing()
    Engine(predictor(PADDED, run), watch).run(batch(8, words(7), words(8, 8), words(7)))
    assert [len(ids) for ids in shown(watch, "ids")] == [7, 8, 8, 7]
    assert [outputs["each"].tolist() for _, outputs in watch.rows] == [
        list(range(2, length + 2)) for length in (7, 8, 8, 7)
    ]


def test_a_watch_counts_only_what_was_answered() -> None:
    asked: list[int] = []

    def none(rows: int) -> None:
        asked.append(rows)

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        if (feeds["row"] == 666).any():
            raise EngineError("numpy", "cannot run on 666")
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}

    Engine(predictor(PRICES, run), Seeing(none)).run(batch(4, numbers(1, 2), arrays([666, 1]), numbers(3, 4)))
    assert sum(asked) == 2


def test_a_watch_that_fails_takes_no_answer_back(caplog: pytest.LogCaptureFixture) -> None:
    watch = Seeing()
    watch.take = lambda *_: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    runs: list[int] = []

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        runs.append(len(feeds["row"]))
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}

    engine = Engine(predictor(PRICES, run), watch)
    for _ in range(2):
        outcome = engine.run(batch(2, numbers(1, 2), numbers(3, 4)))
        assert [values(result) for result in outcome.results] == [[3.0], [7.0]]
    assert runs == [2, 2] and len(caplog.records) == 1
