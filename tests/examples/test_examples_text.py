"""The text example, as its README runs it: any length, in any batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from examples_project import Example

import shipworthy
from shipworthy.contract import Array, Arrays
from shipworthy.model import LoadedModel, load_model, run_eager
from shipworthy.package import read_package
from shipworthy.predict import Predictor
from shipworthy.server import Server

pytestmark = pytest.mark.full
"""Two minutes of building; CI runs it beside the quick tests."""

SHORT = "Apply dropout to the input."
LONG = (
    "Fit the estimator on the training data, and return the labels that it predicts for each of the samples, "
    "where the number of clusters is a hyperparameter that cross-validation finds best."
)


@pytest.fixture(scope="module")
def text(example: Callable[[str], Example]) -> Example:
    return example("text")


@pytest.fixture(scope="module")
def package(text: Example, effort: float) -> Path:
    return text.build(["onnxruntime", "torchscript"], full=effort == 1.0)


@pytest.fixture(scope="module")
def predictor(package: Path) -> Iterator[Predictor]:
    with shipworthy.load(package) as opened:
        yield opened


@pytest.fixture(scope="module")
def eager(text: Example) -> LoadedModel:
    return load_model(text.contract)


@pytest.fixture(scope="module")
def tokenizer(text: Example) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(text.folder / "tokenizer.json"))


def one(ids: list[int]) -> dict[str, Array]:
    """A batch of one text."""
    return {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}


def logits(eager: LoadedModel, predictor: Predictor, feeds: Arrays) -> Array:
    return run_eager(eager, predictor.contract.signature, feeds)["logits"]


def assert_like_eager(answer: dict[str, Any], scores: Array) -> None:
    """Probabilities are the softmax of eager's scores [labels]."""
    powers = np.exp(scores - scores.max())
    np.testing.assert_allclose(answer["probabilities"], powers / powers.sum(), rtol=1e-3, atol=1e-4)


def test_training_says_how_good_it_is(text: Example) -> None:
    assert float(text.said.split("%")[0]) > 65, "four classes of equal shares: by chance it would be 25"


def test_check_has_nothing_against_it(text: Example) -> None:
    (command,) = text.commands_of("check")
    checked = text.run(f"{command} --json")
    assert checked.returncode == 0, checked.stdout
    assert all(finding["severity"] == "note" for finding in json.loads(checked.stdout)["findings"])


def test_package_brings_its_tokenizer_and_the_proof(package: Path) -> None:
    with read_package(package) as opened:
        assert (opened.root / opened.contract.encode["text"].tokenizer).is_file()
        row = next(row for row in opened.record.results if row.verdict == "chosen")
        cases = {case.inputs["input_ids"].shape for case in opened.golden.cases}
    proof = next(metric for metric in row.evidence.metrics if metric.split == "holdout")
    assert proof.samples == 450
    assert proof.drop_upper is not None
    assert proof.drop_upper <= 0.02
    assert {length for _, length in cases} >= {1, 128}
    assert len({batch for batch, _ in cases}) >= 3


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 7), (5, 7), (3, 40), (2, 128)])
def test_any_batch_of_any_length_agrees_with_eager(
    batch: int, length: int, predictor: Predictor, eager: LoadedModel
) -> None:
    random = np.random.default_rng(length)
    mask = (np.arange(length) < random.integers(1, length + 1, (batch, 1))).astype(np.int64)
    feeds = {"input_ids": random.integers(0, 4000, (batch, length)) * mask, "attention_mask": mask}
    np.testing.assert_allclose(predictor.run(feeds)["logits"], logits(eager, predictor, feeds), rtol=1e-3, atol=1e-4)


def test_padding_changes_nothing(predictor: Predictor, tokenizer: Any) -> None:
    ids = tokenizer.encode(SHORT).ids
    alone = one(ids)
    room = 128 - len(ids)
    # What stands behind the mask must not matter, even if it is no padding token.
    padded = {"input_ids": np.array([[*ids, *[7] * room]]), "attention_mask": np.array([[1] * len(ids) + [0] * room])}
    np.testing.assert_allclose(predictor.run(padded)["logits"], predictor.run(alone)["logits"], rtol=1e-3, atol=1e-4)


def test_texts_of_different_length_in_one_request(predictor: Predictor, eager: LoadedModel, tokenizer: Any) -> None:
    texts = [LONG, SHORT, LONG.upper(), "", "Ünïcödé 漢字 🚢"]
    answers = predictor.predict({"instances": [{"text": text} for text in texts]})["predictions"]
    assert [answer["sample_index"] for answer in answers] == [0, 1, 2, 3, 4]
    rows = [tokenizer.encode(text).ids for text in texts]
    assert len({len(row) for row in rows}) >= 4
    for row, answer in zip(rows, answers, strict=True):
        assert_like_eager(answer, logits(eager, predictor, one(row))[0])
    assert answers[0]["probabilities"] == answers[2]["probabilities"], "the tokenizer writes everything small"


def test_token_ids_are_the_same_as_the_text(predictor: Predictor, tokenizer: Any) -> None:
    ids = tokenizer.encode(SHORT).ids
    by_ids = predictor.predict({"input_ids": ids, "attention_mask": [1] * len(ids)})
    assert by_ids["probabilities"] == predictor.predict({"text": SHORT})["probabilities"]


def test_a_text_that_is_too_long_is_cut(predictor: Predictor, eager: LoadedModel, tokenizer: Any) -> None:
    whole = tokenizer.encode(LONG * 20).ids
    assert len(whole) > 128
    assert_like_eager(predictor.predict({"text": LONG * 20}), logits(eager, predictor, one(whole[:128]))[0])


def test_command_that_asks(text: Example, package: Path, predictor: Predictor) -> None:
    (command,) = text.commands_of("predict")
    asked = text.run(command)
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert answer["label"] == "torch"
    assert answer["variant"] == predictor.variant.id
    assert package.name in command


def test_over_http(text: Example, package: Path, predictor: Predictor) -> None:
    assert text.commands_of("serve") == [f"shipworthy serve {package.name}"]
    with Server(package, port=0) as server:
        headers = {"content-type": "application/json"}
        response = httpx.post(f"{server.url}/predict", content=text.curl_body(), headers=headers)
        wrong = httpx.post(f"{server.url}/predict", json={"instances": [{"text": SHORT}, {"text": 7}]})
    assert response.status_code == 200
    expected = predictor.predict(json.loads(text.curl_body()))["predictions"]
    assert [a["probabilities"] for a in response.json()["predictions"]] == [a["probabilities"] for a in expected]
    assert [answer["label"] for answer in expected] == ["torch", "sklearn"]
    assert wrong.status_code == 422
    assert [(error["sample_index"], error["field"]) for error in wrong.json()["errors"]] == [(1, "text")]
