"""A predictor over real engines: one, many, concurrent, in chunks, and what it refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlp
import numpy as np
import pytest

from shipworthy.contract import Array, Arrays, Contract, InputSpec, OutputSpec, Signature, TaskSpec
from shipworthy.errors import EngineError, InputError
from shipworthy.package import Package, read_package
from shipworthy.predict import Predictor, load
from shipworthy.runtime.protocol import Kernel, OperatingPoint

FLOWER = dict(zip(mlp.FIELDS, (5.1, 3.5, 1.4, 0.2), strict=True))


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def predictor(request: pytest.FixtureRequest, stored: Path) -> Iterator[Predictor]:
    pytest.importorskip(request.param)
    with load(stored, variant=f"{request.param}-fp32") as loaded:
        yield loaded


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in ("prediction_id", "sample_index")}


def test_one_instance(predictor: Predictor) -> None:
    answer = predictor.predict({"features": [5.1, 3.5, 1.4, 0.2]})
    logits = mlp.eager(np.float32([[5.1, 3.5, 1.4, 0.2]]))[0]
    assert answer["predicted_class"] == logits.argmax()
    assert answer["label"] == mlp.LABELS[answer["predicted_class"]]
    assert answer["probabilities"] == pytest.approx((np.exp(logits) / np.exp(logits).sum()).tolist(), abs=1e-4)
    assert (answer["model"], answer["variant"]) == ("iris", predictor.variant.id)
    assert answer["version"] == predictor.package.digest[:12]
    json.dumps(answer, allow_nan=False)


def test_every_form_of_one_instance_has_one_answer(predictor: Predictor) -> None:
    values = [5.1, 3.5, 1.4, 0.2]
    forms = [{"features": values}, {"flower": FLOWER}, values, np.float32(values), {"features": np.float32(values)}]
    answers = [predictor.predict(form) for form in forms]
    assert all(plain(answer) == plain(answers[0]) for answer in answers)
    assert len({answer["prediction_id"] for answer in answers}) == len(forms)


def test_many_instances(predictor: Predictor) -> None:
    rows = mlp.features(3)
    forms: list[object] = [
        {"instances": [{"features": row.tolist()} for row in rows]},
        [{"features": row.tolist()} for row in rows],
        rows.tolist(),
        rows,
    ]
    for form in forms:
        predictions = predictor.predict(form)["predictions"]
        assert [answer["sample_index"] for answer in predictions] == [0, 1, 2]
        assert next(iter(predictions[0])) == "sample_index"
        assert [answer["predicted_class"] for answer in predictions] == mlp.eager(rows).argmax(-1).tolist()
        assert len({answer["prediction_id"] for answer in predictions}) == 3


def test_no_instances(predictor: Predictor) -> None:
    for value in ({"instances": []}, [], (), np.zeros((0, 4), np.float32)):
        with pytest.raises(InputError, match="there is none") as caught:
            predictor.predict(value)
        assert caught.value.problems[0].field == "instances"


def test_rounding(predictor: Predictor) -> None:
    answer = predictor.predict([5.1, 3.5, 1.4, 0.2], round=2)
    assert all(value == round(value, 2) for value in answer["probabilities"])
    for digits in (-1, 18, 2.0, True, "2"):
        with pytest.raises(InputError, match="round"):
            predictor.predict([5.1, 3.5, 1.4, 0.2], round=digits)  # type: ignore[arg-type]


def test_every_fault_of_every_instance_is_named(predictor: Predictor) -> None:
    good = {"features": [1, 2, 3, 4]}
    with pytest.raises(InputError) as caught:
        predictor.predict([good, {"features": [1, 2]}, good, {"other": 1}])
    assert {problem.sample_index for problem in caught.value.problems} == {1, 3}


def test_an_answer_that_is_not_finite_is_a_problem_of_its_sample(predictor: Predictor) -> None:
    good, huge = [1.0, 2, 3, 4], [3e38, 3e38, 3e38, 3e38]
    with pytest.raises(InputError, match="not finite") as caught:
        predictor.predict([good, good, huge])
    assert [problem.sample_index for problem in caught.value.problems] == [2]


def test_an_image_where_none_is_taken(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="takes no image"):
        predictor.predict_image(b"\x89PNG")


@pytest.mark.parametrize("rows", [1, 4, 7, 8, 9, 16, 100])
def test_run_answers_any_batch(predictor: Predictor, rows: int) -> None:
    given = mlp.features(rows, seed=rows)
    outputs = predictor.run({"features": given})
    assert outputs["logits"].shape == (rows, 3) and outputs["logits"].dtype == np.float32
    np.testing.assert_allclose(outputs["logits"], mlp.eager(given), atol=1e-4)


def test_a_large_batch_is_that_of_its_chunks(predictor: Predictor) -> None:
    assert predictor.batch_sizes == (1, 4, 8)
    given = mlp.features(20)
    whole = predictor.run({"features": given})["logits"]
    parts = [predictor.run({"features": given[start : start + 8]})["logits"] for start in (0, 8, 16)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"features": np.zeros(4, np.float32)},
        {"features": np.zeros((20, 5), np.float32)},
        {"features": [[1.0, 2.0]]},
        {"features": None},
        {"features": [[1.0] * 4] * 20},
        {1: np.zeros((2, 4), np.float32)},
        [1],
        None,
        "features",
        np.zeros((2, 4), np.float32),
    ],
)
def test_run_refuses_what_does_not_fit(predictor: Predictor, feeds: Arrays) -> None:
    with pytest.raises(InputError):
        predictor.run(feeds)


@pytest.mark.long
def test_answers_are_bit_identical_alone_and_beside_others(predictor: Predictor, effort: float) -> None:
    sizes = (1, 2, 3, 4, 8, 20)
    batches = [mlp.features(sizes[seed % len(sizes)], seed) for seed in range(int(2000 * effort))]
    alone = [predictor.run({"features": rows})["logits"] for rows in batches]
    predicted = [plain(predictor.predict(rows[0])) for rows in batches]
    with ThreadPoolExecutor(8) as pool:
        beside = list(pool.map(lambda rows: predictor.run({"features": rows})["logits"], batches))
        predicted_beside = list(pool.map(lambda rows: plain(predictor.predict(rows[0])), batches))
    for one, other in zip(alone, beside, strict=True):
        assert one.tobytes() == other.tobytes()
    assert predicted == predicted_beside


def test_rows_of_a_batch_are_within_the_golden_tolerance_of_rows_alone(predictor: Predictor) -> None:
    rows = mlp.features(8, seed=4)
    together = predictor.run({"features": rows})["logits"]
    alone = np.concatenate([predictor.run({"features": row[None]})["logits"] for row in rows])
    assert np.abs(together - alone).max() <= predictor.variant.tolerance["logits"]


def test_closing_twice_and_then_asking(stored_ship: Path) -> None:
    predictor = load(stored_ship)
    root = predictor.package.root
    assert root.is_dir()
    predictor.close()
    predictor.close()
    assert not root.exists()
    with pytest.raises(EngineError, match="closed"):
        predictor.predict([1.0, 2, 3, 4])


class Echo:
    """A runner that returns the length of each row, the sum over it, and which batch sizes it saw."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.seen: list[int] = []
        self._lock = threading.Lock()

    def run(self, feeds: Arrays) -> dict[str, Array]:
        tokens = feeds["tokens"]
        with self._lock:
            self.seen.append(len(tokens))
        lengths = np.full(len(tokens), tokens.shape[1], np.int64)
        return {"length": lengths, "total": tokens.sum(axis=1), "constant": np.arange(3)}

    def kernels(self) -> tuple[Kernel, ...]:
        return ()

    def close(self) -> None:
        pass


@pytest.fixture
def echo(stored: Path) -> Callable[..., tuple[Predictor, Echo]]:
    def made(**outputs: OutputSpec) -> tuple[Predictor, Echo]:
        contract: Contract = mlp.contract(
            inputs={"tokens": InputSpec(dtype="int64", shape=("batch", "tokens:1..9"))},
            encode={},
            outputs=outputs,
            task=TaskSpec(kind="tensors"),
        )
        with read_package(stored) as package:
            manifest = package.manifest.model_copy(update={"contract": contract, "signature": contract.signature})
            changed: Package = replace(package, manifest=manifest)
        runner = Echo(contract.signature)
        return Predictor(changed, manifest.variants[0], runner, point=OperatingPoint(), version="7"), runner

    return made


LENGTH = OutputSpec(dtype="int64", shape=("batch",))


def test_instances_of_different_sizes_are_grouped_and_answered_in_order(
    echo: Callable[..., tuple[Predictor, Echo]],
) -> None:
    predictor, runner = echo(length=LENGTH, total=LENGTH)
    sizes = [3, 1, 3, 2, 1, 3]
    answers = predictor.predict([{"tokens": [index] * size} for index, size in enumerate(sizes)])["predictions"]
    assert [answer["outputs"]["length"] for answer in answers] == sizes
    assert [answer["outputs"]["total"] for answer in answers] == [i * size for i, size in enumerate(sizes)]
    assert [answer["sample_index"] for answer in answers] == list(range(6))
    assert runner.seen == [3, 2, 1]
    assert answers[0]["version"] == "7"


def test_chunks_of_the_largest_measured_batch(echo: Callable[..., tuple[Predictor, Echo]]) -> None:
    predictor, runner = echo(length=LENGTH, total=LENGTH)
    tokens = np.arange(42).reshape(21, 2)
    assert predictor.run({"tokens": tokens})["total"].tolist() == tokens.sum(axis=1).tolist()
    assert runner.seen == [8, 8, 5]


def test_an_output_of_the_whole_batch_is_never_cut(echo: Callable[..., tuple[Predictor, Echo]]) -> None:
    predictor, runner = echo(length=LENGTH, total=LENGTH, constant=OutputSpec(dtype="int64", shape=(3,)))
    outputs = predictor.run({"tokens": np.ones((21, 2), np.int64)})
    assert runner.seen == [21] and outputs["constant"].tolist() == [0, 1, 2]
    answer = predictor.predict({"tokens": [4, 5]})
    assert answer["outputs"] == {"length": 2, "total": 9, "constant": [0, 1, 2]}
