"""Outputs to answers: every task, exact numbers, and what has no answer."""

from __future__ import annotations

import json
import math
from typing import Any

import mlp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shipworthy.contract import Array, Contract, OutputSpec, TaskSpec
from shipworthy.errors import ContractError, InputError, Problem
from shipworthy.predict.answers import Answers
from shipworthy.signals.probabilities import class_probabilities, predicted_classes, sigmoid, softmax

STAMP = {"model": "iris", "version": "v", "variant": "e"}
FINITE = st.floats(-(2.0**127), 2.0**127, width=32)


def contract(task: str, kind: str = "logits", shape: tuple[Any, ...] = ("batch", 3), **more: Any) -> Contract:
    outputs = {"logits": OutputSpec(dtype="float32", shape=shape, kind=kind), **more.pop("outputs", {})}  # type: ignore[arg-type]
    return mlp.contract(task=TaskSpec(kind=task, **more), outputs=outputs)  # type: ignore[arg-type]


def answers(made_for: Contract, rounding: int | None = None, **outputs: Any) -> list[dict[str, Any]]:
    given = {name: np.asarray(values, np.float32) for name, values in outputs.items()}
    maker = Answers(made_for, version="v", variant="e")
    found = maker.of(maker.rows(given), round=rounding)
    json.dumps(found, allow_nan=False)
    assert len({answer.pop("prediction_id") for answer in found}) == len(found)
    return [{key: value for key, value in answer.items() if key not in STAMP} for answer in found]


def test_classification() -> None:
    made_for = contract("classification", labels=mlp.LABELS)
    maker = Answers(made_for, version="v", variant="e")
    (answer,) = maker.of(maker.rows({"logits": np.float32([[1, 3, 2]])}))
    expected = [math.exp(x - 3) / (math.exp(-2) + 1 + math.exp(-1)) for x in (1, 3, 2)]
    assert list(answer) == [
        "predicted_class", "label", "confidence", "probabilities", "prediction_id", "model", "version", "variant",
    ]  # fmt: skip
    assert answer["predicted_class"] == 1 and type(answer["predicted_class"]) is int
    assert answer["label"] == "versicolor"
    assert answer["probabilities"] == pytest.approx(expected, rel=1e-15)
    assert answer["confidence"] == answer["probabilities"][1]
    assert {key: answer[key] for key in STAMP} == STAMP
    assert len(answer["prediction_id"]) == 32 and int(answer["prediction_id"], 16) > 0


def test_classification_by_probabilities_keeps_float32_values() -> None:
    row = np.float32([0.1, 0.7, 0.2])
    (answer,) = answers(contract("classification", "probabilities"), logits=[row])
    assert answer["probabilities"] == [float(value) for value in row]
    assert np.float32(answer["confidence"]) == row[1] and answer["label"] == "1"


def test_classification_by_other_values_has_no_probabilities() -> None:
    (answer,) = answers(contract("classification", "values"), logits=[[-5, -3, -4]])
    assert answer == {"predicted_class": 1, "label": "1", "confidence": None, "probabilities": None}


@pytest.mark.parametrize("shape", [("batch",), ("batch", 1)])
def test_one_score_is_that_of_the_second_class(shape: tuple[Any, ...]) -> None:
    made_for = contract("classification", shape=shape, labels=("no", "yes"))
    scores = np.float32([-2, 0, 2]).reshape(-1, *shape[1:])
    no, even, yes = answers(made_for, logits=scores)
    assert [answer["label"] for answer in (no, even, yes)] == ["no", "no", "yes"]
    assert yes["probabilities"] == pytest.approx([1 / (1 + math.exp(2)), 1 / (1 + math.exp(-2))], rel=1e-15)
    assert no["probabilities"] == yes["probabilities"][::-1]
    assert yes["confidence"] == yes["probabilities"][1]


def test_one_probability_is_that_of_the_second_class() -> None:
    high, low = answers(contract("classification", "probabilities", ("batch", 1)), logits=[[0.75], [0.25]])
    assert high["predicted_class"] == 1 and high["probabilities"] == [0.25, 0.75]
    assert low["predicted_class"] == 0 and low["confidence"] == 0.75


def test_masked_classes_are_impossible() -> None:
    (answer,) = answers(contract("classification"), logits=[[-math.inf, 1, 1]])
    assert answer["probabilities"] == [0.0, 0.5, 0.5] and answer["predicted_class"] == 1


@pytest.mark.parametrize("row", [[math.nan, 1, 2], [math.inf, 1, 2], [-math.inf] * 3])
def test_scores_that_are_not_finite_are_refused_by_sample(row: list[float]) -> None:
    with pytest.raises(InputError, match="not finite") as caught:
        answers(contract("classification"), logits=[[1, 2, 3], row, [1, 2, 3], row])
    assert [(problem.sample_index, problem.field) for problem in caught.value.problems] == [
        (1, "logits"),
        (3, "logits"),
    ]


def test_multilabel() -> None:
    made_for = contract("multilabel", labels=("a", "b", "c"))
    some, none = answers(made_for, logits=[[2, -2, 0], [-1, -1, -1]])
    assert some["predicted_classes"] == [0, 2] and some["labels"] == ["a", "c"]
    assert some["probabilities"] == pytest.approx([1 / (1 + math.exp(-x)) for x in (2, -2, 0)], rel=1e-15)
    assert none["labels"] == [] and len(none["probabilities"]) == 3


def test_multilabel_by_probabilities_and_by_other_values() -> None:
    (answer,) = answers(contract("multilabel", "probabilities"), logits=[[0.5, 0.4999, 1]])
    assert answer["labels"] == ["0", "2"] and answer["probabilities"][2] == 1.0
    (answer,) = answers(contract("multilabel", "values"), logits=[[0.1, -3, 0]])
    assert answer == {"predicted_classes": [0], "labels": ["0"], "probabilities": None}


@pytest.mark.parametrize(("shape", "value"), [(("batch",), 0.1), (("batch", 1), 0.1), (("batch", 2), [0.1, 0.1])])
def test_regression(shape: tuple[Any, ...], value: Any) -> None:
    outputs = np.full((3, *shape[1:]), 0.1, np.float32)
    found = answers(contract("regression", "values", shape), logits=outputs)
    exact = float(np.float32(0.1))
    assert found == [{"value": exact if isinstance(value, float) else [exact, exact]}] * 3


def test_regression_that_is_not_finite() -> None:
    with pytest.raises(InputError) as caught:
        answers(contract("regression", "values", ("batch",)), logits=[1, math.nan])
    assert caught.value.problems[0].sample_index == 1


def test_embedding() -> None:
    (answer,) = answers(contract("embedding", "values"), logits=[[1, 2, 3]])
    assert answer == {"outputs": {"logits": [1.0, 2.0, 3.0]}}
    with pytest.raises(InputError):
        answers(contract("embedding", "values"), logits=[[1, math.inf, 3]])


def test_tensors_of_every_dtype() -> None:
    made_for = contract(
        "tensors",
        "values",
        outputs={
            "count": OutputSpec(dtype="int64", shape=("batch",)),
            "flag": OutputSpec(dtype="bool", shape=("batch", 1)),
            "whole": OutputSpec(dtype="float64", shape=(2,)),
        },
    )
    maker = Answers(made_for, version="v", variant="e")
    found = maker.rows(
        {
            "logits": np.float32([[1, math.nan, -math.inf], [0.1, 5, 6]]),
            "count": np.array([2**62 + 1, -1]),
            "flag": np.array([[True], [False]]),
            "whole": np.array([0.5, math.pi]),
        }
    )
    json.dumps(found, allow_nan=False)
    assert found[0]["outputs"] == {
        "logits": [1.0, None, None], "count": 2**62 + 1, "flag": [True], "whole": [0.5, math.pi],
    }  # fmt: skip
    assert found[1]["outputs"]["logits"] == [float(np.float32(0.1)), 5.0, 6.0]


def test_rounding_reaches_every_float_and_nothing_else() -> None:
    (answer,) = answers(contract("classification", labels=mlp.LABELS), rounding=2, logits=[[1, 3, 2]])
    assert answer == {
        "predicted_class": 1, "label": "versicolor", "confidence": 0.67, "probabilities": [0.09, 0.67, 0.24],
    }  # fmt: skip
    (answer,) = answers(contract("tensors", "values"), rounding=1, logits=[[1.26, math.nan, 3]])
    assert answer == {"outputs": {"logits": [1.3, None, 3.0]}}


def test_no_row_no_answer() -> None:
    for task in ("classification", "multilabel", "regression", "embedding", "tensors"):
        assert answers(contract(task), logits=np.zeros((0, 3))) == []


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_scores_of_other_rank_are_refused_at_once(task: str) -> None:
    with pytest.raises(ContractError, match=r"takes scores \[batch, classes\], not float32 \[batch, 3, 7\]"):
        Answers(contract(task, shape=("batch", 3, 7)), version="v", variant="e")


@pytest.mark.parametrize("task", ["classification", "regression", "tensors"])
def test_outputs_without_a_batch_are_refused_at_once(task: str) -> None:
    with pytest.raises(ContractError, match="first dimension is batch"):
        Answers(contract(task, shape=(3,)), version="v", variant="e")


@given(arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(2, 20)), elements=FINITE))
def test_softmax_is_a_distribution_and_the_same_for_a_row_alone(logits: Array) -> None:
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-14)
    for row, expected in zip(logits, probabilities, strict=True):
        np.testing.assert_array_equal(softmax(row[None])[0], expected)
        shifted = softmax(np.asarray(row[None], np.float64, order="F"))
        np.testing.assert_array_equal(shifted[0], expected)


@given(arrays(np.float32, st.integers(1, 40), elements=FINITE))
def test_sigmoid_does_not_overflow(logits: Array) -> None:
    with np.errstate(all="raise", under="ignore"):
        probabilities = sigmoid(logits)
    expected = [1 / (1 + math.exp(-x)) if x > -700 else 0.0 for x in logits.astype(np.float64)]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-14, atol=1e-300)


def test_scipy_agrees() -> None:
    special = pytest.importorskip("scipy.special")
    logits = np.random.default_rng(5).normal(scale=20, size=(200, 17)).astype(np.float32)
    np.testing.assert_allclose(softmax(logits), special.softmax(logits.astype(np.float64), axis=-1), rtol=1e-12)
    np.testing.assert_allclose(sigmoid(logits), special.expit(logits.astype(np.float64)), rtol=1e-14)


def test_class_is_read_from_scores_that_round_to_one_probability() -> None:
    scores = np.float32([[700.00006, 700.0, -700.0], [0, 1e-30, 0]])
    assert predicted_classes(scores, "logits").tolist() == [0, 1]
    probabilities = class_probabilities(scores, "logits")
    assert probabilities is not None and probabilities[1, 0] == probabilities[1, 1]


EVERY_TASK = [
    (contract("classification", labels=("a", "ü", '"c"')), (3,)),
    (contract("classification", "probabilities"), (3,)),
    (contract("classification", "values"), (3,)),
    (contract("classification", shape=("batch",), labels=("no", "yes")), ()),
    (contract("multilabel", labels=("a", "b", "c")), (3,)),
    (contract("multilabel", "values", ("batch",)), ()),
    (contract("regression", "values", ("batch",)), ()),
    (contract("regression", "values", ("batch", 2, 2)), (2, 2)),
    (contract("embedding", "values"), (3,)),
    (contract("tensors", "values"), (3,)),
]
IDS = [f"{made.task.kind}-{made.outputs['logits'].kind}-{len(shape)}" for made, shape in EVERY_TASK]


def outputs(shape: tuple[int, ...], rows: int = 5) -> dict[str, Array]:
    return {"logits": np.random.default_rng(3).normal(size=(rows, *shape)).astype(np.float32)}


@pytest.mark.parametrize(("made_for", "shape"), EVERY_TASK, ids=IDS)
@pytest.mark.parametrize("rounding", [None, 0, 3])
def test_json_says_what_the_answers_say(made_for: Contract, shape: tuple[int, ...], rounding: int | None) -> None:
    maker = Answers(made_for, version="v", variant="e")
    rows = maker.rows(outputs(shape))
    expected = maker.of(rows, round=rounding)
    one = json.loads(maker.encode(rows[:1], many=False, round=rounding))
    many = json.loads(maker.encode(rows, many=True, round=rounding))["predictions"]
    assert list(one) == list(expected[0]) and list(many[0]) == ["sample_index", *expected[0]]
    assert [answer.pop("sample_index") for answer in many] == list(range(5))
    given = [answer.pop("prediction_id") for answer in [one, *many, *expected]]
    assert len(set(given)) == len(given) == 11 and all(len(name) == 32 for name in given)
    assert one == expected[0] and many == expected
    assert all(answer.items() >= {"model": "iris", "version": "v", "variant": "e"}.items() for answer in many)


@pytest.mark.parametrize(("made_for", "shape"), EVERY_TASK, ids=IDS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.filterwarnings("error")
def test_a_bad_row_leaves_the_others_as_they_are(made_for: Contract, shape: tuple[int, ...], bad: float) -> None:
    maker = Answers(made_for, version="v", variant="e")
    good = maker.rows(outputs(shape))
    spoilt = outputs(shape)
    spoilt["logits"][2] = bad
    rows = maker.rows(spoilt)
    assert [row for place, row in enumerate(rows) if place != 2] == [
        row for place, row in enumerate(good) if place != 2
    ]
    if made_for.task.kind == "tensors":
        assert rows[2] == {"outputs": {"logits": [None] * 3}}
        return
    assert isinstance(rows[2], Problem) and rows[2].sample_index == 2 and "not finite" in rows[2].reason
    for ask in (maker.of, lambda rows: maker.encode(rows, many=True)):
        with pytest.raises(InputError) as caught:
            ask(rows[1:])
        assert [(problem.sample_index, problem.field) for problem in caught.value.problems] == [(1, "logits")]
    assert len(maker.of(rows[:2])) == 2


@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(width=32)))
def test_rows_alone_and_in_a_batch_have_the_same_answers(logits: Array) -> None:
    maker = Answers(contract("classification"), version="v", variant="e")
    alone = [maker.rows({"logits": row[None]})[0] for row in logits]
    for place, (row, other) in enumerate(zip(maker.rows({"logits": logits}), alone, strict=True)):
        if isinstance(row, Problem):
            assert isinstance(other, Problem) and (row.sample_index, other.sample_index) == (place, 0)
        else:
            assert row == other


def test_what_is_asked_for_as_one_is_one() -> None:
    maker = Answers(contract("regression", "values", ("batch",)), version="v", variant="e")
    with pytest.raises(ValueError, match="unpack"):
        maker.encode(maker.rows(outputs(())), many=False)
    assert maker.encode([], many=True) == b'{"predictions":[]}'
