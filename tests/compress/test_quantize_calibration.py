"""Which samples calibrate, and whether they are enough and the right ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from shipworthy.compress.quantization.calibration import (
    FEW,
    LEVEL,
    chosen,
    feeds_of,
    few_samples,
    settled,
    unlike_validation,
)
from shipworthy.contract import Contract
from shipworthy.data import Chunk, Dataset

CLASSES = Contract(
    name="net",
    inputs={"x": {"dtype": "float32", "shape": ["batch", 6]}},
    task={"kind": "classification", "labels": ["a", "b", "c"]},
)
WORDS = Contract(name="net", inputs={"x": {"dtype": "int64", "shape": ["batch", "tokens"]}})


def _normal(count: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Dataset:
    values = np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)
    return Dataset((Chunk({"x": values * scale + shift}),))


def test_every_class_has_its_share_and_a_rare_one_is_not_left_out() -> None:
    labels = np.array([0] * 700 + [1] * 297 + [2] * 3)
    data = Dataset((Chunk({"x": np.zeros((1000, 6), np.float32)}, labels),))
    found = chosen(data, CLASSES, 100)
    (targets,) = (chunk.targets for chunk in found.chunks)
    assert targets is not None
    assert np.bincount(targets).tolist() == [69, 30, 1]


def test_every_length_has_its_share() -> None:
    data = Dataset(tuple(Chunk({"x": np.zeros((count, size), np.int64)}) for size, count in ((4, 90), (8, 10), (9, 1))))
    assert [len(chunk) for chunk in chosen(data, WORDS, 20).chunks] == [17, 2, 1]


def test_the_choice_is_seeded_and_no_more_than_there_is() -> None:
    data = _normal(200, 0)
    first, again = chosen(data, CLASSES, 50), chosen(data, CLASSES, 50)
    assert len(first) == 50
    np.testing.assert_array_equal(first.chunks[0].inputs["x"], again.chunks[0].inputs["x"])
    assert chosen(data, CLASSES, 200) is data


def test_feeds_have_the_fewest_samples_that_the_batch_allows() -> None:
    contract = Contract(name="net", inputs={"x": {"dtype": "float32", "shape": ["batch:4..", 6]}})
    feeds = feeds_of(_normal(10, 0), contract)
    assert [feed["x"].shape for feed in feeds] == [(4, 6)] * 3
    assert [feed["x"].shape for feed in feeds_of(_normal(3, 0), CLASSES)] == [(1, 6)] * 3


def test_few_samples_are_a_finding() -> None:
    (finding,) = few_samples(_normal(FEW - 1, 0))
    assert finding.rule == "few-calibration-samples"
    assert few_samples(_normal(FEW, 0)) == ()


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (_normal(300, 1, shift=0.8), "mean"),
        (_normal(300, 1, scale=2.0), "standard deviation"),
        (_normal(300, 1, scale=1 / 255), "of x"),
    ],
    ids=["shifted", "scaled", "not prepared"],
)
def test_data_of_another_kind_is_a_finding(other: Dataset, word: str) -> None:
    (finding,) = unlike_validation(_normal(100, 0), other, CLASSES)
    assert finding.rule == "calibration-unlike-validation"
    assert finding.severity == "warning"
    assert word in finding.why


def test_texts_of_another_length_are_a_finding() -> None:
    short = Dataset((Chunk({"x": np.random.default_rng(0).integers(0, 9, (60, 5))}),))
    long = Dataset((Chunk({"x": np.random.default_rng(1).integers(0, 9, (60, 30))}),))
    (finding,) = unlike_validation(short, long, WORDS)
    assert "size of tokens" in finding.why


@pytest.mark.long
def test_data_of_one_kind_is_a_finding_no_more_often_than_said(effort: float) -> None:
    """Rows of correlated, skewed values, many of them equal: the test's level must not rest on the normal ones."""
    rounds = int(4000 * effort)
    random = np.random.default_rng(7)
    alarms = 0
    for _ in range(rounds):
        sizes = random.integers(20, 300, 2)
        values = random.lognormal(0, 1, (sum(sizes), 6)) * random.lognormal(0, 0.5, (sum(sizes), 1))
        values = np.maximum(values - 0.5, 0).astype(np.float32)
        parts = (Dataset((Chunk({"x": part}),)) for part in (values[: sizes[0]], values[sizes[0] :]))
        alarms += bool(unlike_validation(*parts, CLASSES))
    assert alarms <= binom.ppf(0.999, rounds, LEVEL)


def test_what_more_would_bring_is_told_in_figures() -> None:
    still = np.tile([[-1.0, 1.0]], (40, 1))
    moving = np.stack([np.zeros(40), np.tile([1.0, 3.0], 20)], axis=1)
    told = settled({"still": still}, 40)
    assert "40 calibration samples" in told and "0.0%" in told and "more would bring little" in told
    told = settled({"still": still, "moving": moving}, 40)
    assert "at most 50.0% of its width between means" in told and "more may still widen" in told
    # A single outlier among many feeds: their mean hardly moves, the widest extreme does.
    still[11, 1] = 1.5
    told = settled({"still": still}, 40)
    assert "at most 20.0% between the widest extremes" in told and "more may still widen" in told
    assert "no ranges of activations" in settled({}, 40)
    assert "too few to say" in settled({"still": still[:3]}, 3)
