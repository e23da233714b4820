"""The iris example, as its README runs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from examples_project import Example

import shipworthy
from shipworthy.errors import InputError
from shipworthy.model import load_model, run_eager
from shipworthy.package import read_package
from shipworthy.predict import Predictor
from shipworthy.server import Server

pytestmark = pytest.mark.full

ROW = [5.1, 3.5, 1.4, 0.2]
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@pytest.fixture(scope="module")
def iris(example: Callable[[str], Example]) -> Example:
    return example("iris")


@pytest.fixture(scope="module")
def package(iris: Example, effort: float) -> Path:
    return iris.build(["onnxruntime", "torchscript"], full=effort == 1.0)


@pytest.fixture(scope="module")
def predictor(package: Path) -> Iterator[Predictor]:
    with shipworthy.load(package) as opened:
        yield opened


def test_training_says_how_good_it_is(iris: Example) -> None:
    right, of = (int(word) for word in iris.said.split() if word.isdigit())
    assert of == 60
    assert right >= 54


def test_check_has_nothing_against_it(iris: Example) -> None:
    (command,) = iris.commands_of("check")
    checked = iris.run(f"{command} --json")
    assert checked.returncode == 0, checked.stdout
    assert all(finding["severity"] == "note" for finding in json.loads(checked.stdout)["findings"])


def test_build_keeps_the_metric(package: Path) -> None:
    with read_package(package) as opened:
        row = next(row for row in opened.record.results if row.verdict == "chosen")
    assert {metric.split for metric in row.evidence.metrics} == {"validation", "holdout"}
    assert all(metric.drop <= 0.02 for metric in row.evidence.metrics)


def test_every_command_that_asks_answers_setosa(iris: Example, package: Path) -> None:
    commands = iris.commands_of("predict")
    assert len(commands) == 2
    answers = []
    for command in commands:
        asked = iris.run(command)
        assert asked.returncode == 0, asked.stderr
        answers.append(json.loads(asked.stdout))
    assert [answer["label"] for answer in answers] == ["setosa", "setosa"]
    assert answers[0]["probabilities"] == answers[1]["probabilities"]


@pytest.mark.parametrize("value", [ROW, {"features": ROW}, {"flower": FLOWER}])
def test_a_flower_in_every_form(value: object, predictor: Predictor) -> None:
    answer = predictor.predict(value)
    assert answer["label"] == "setosa"
    assert answer["confidence"] > 0.9


def test_many_flowers_agree_with_eager(iris: Example, predictor: Predictor) -> None:
    contract = predictor.contract
    with np.load(iris.folder / "validation.npz") as data:
        features = data["features"]
    eager = run_eager(load_model(iris.contract), contract.signature, {"features": features})
    np.testing.assert_allclose(predictor.run({"features": features})["logits"], eager["logits"], rtol=1e-3, atol=1e-4)
    answers = predictor.predict({"instances": [{"features": row} for row in features.tolist()]})["predictions"]
    assert [answer["predicted_class"] for answer in answers] == eager["logits"].argmax(1).tolist()


def test_a_field_that_is_missing_is_named(predictor: Predictor) -> None:
    with pytest.raises(InputError) as caught:
        predictor.predict({"flower": {**FLOWER, "petal_width": None}})
    assert [problem.field for problem in caught.value.problems] == ["flower.petal_width"]
    with pytest.raises(InputError, match=r"sample 0, flower\.petal_width: missing"):
        predictor.predict({"flower": {name: FLOWER[name] for name in list(FLOWER)[:3]}})


def test_over_http(iris: Example, package: Path, predictor: Predictor) -> None:
    assert iris.commands_of("serve") == [f"shipworthy serve {package.name}"]
    with Server(package, port=0) as server:
        headers = {"content-type": "application/json"}
        response = httpx.post(f"{server.url}/predict", content=iris.curl_body(), headers=headers)
    assert response.status_code == 200
    answers = response.json()["predictions"]
    assert [answer["label"] for answer in answers] == ["setosa", "versicolor"]
    expected = predictor.predict(json.loads(iris.curl_body()))["predictions"]
    assert [answer["probabilities"] for answer in answers] == [answer["probabilities"] for answer in expected]
