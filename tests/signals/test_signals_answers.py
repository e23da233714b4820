"""Signals of answers, beside scipy's formulas and beside what is served."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats
from signal_cases import both, classifier, column, contract, names

from shipworthy.contract import Array, Contract
from shipworthy.signals import Signals, fit

X = {"x": np.ones((6, 4), np.float32)}


def of(what: Contract, output: Array, name: str) -> Array:
    (key,) = what.outputs
    return column(Signals(what, {}), {"x": np.ones((len(output), 4), np.float32)}, {key: output}, name)


def test_classification_has_its_signals_and_bets_on_three() -> None:
    signals = Signals(classifier(), {})
    answers = [signal for signal in signals.signals if signal.about == "answers"]
    assert [signal.name for signal in answers if signal.scored] == ["class", "margin", "energy"]
    assert [signal.name for signal in answers if not signal.scored] == [
        "confidence",
        "entropy",
        "probability.0",
        "probability.1",
        "probability.2",
        "scores.nonfinite",
    ]


def test_scores_of_logits_are_scipys() -> None:
    logits = np.random.default_rng(0).normal(size=(6, 3)) * 30
    what = classifier()
    sure = special.softmax(logits, axis=1)
    ordered = np.sort(logits, axis=1)
    assert of(what, logits, "class").tolist() == logits.argmax(1).tolist()
    np.testing.assert_allclose(of(what, logits, "margin"), ordered[:, -1] - ordered[:, -2])
    np.testing.assert_allclose(of(what, logits, "energy"), special.logsumexp(logits, axis=1))
    np.testing.assert_allclose(of(what, logits, "confidence"), sure.max(1))
    np.testing.assert_allclose(of(what, logits, "entropy"), stats.entropy(sure, axis=1), atol=1e-12)
    np.testing.assert_allclose(of(what, logits, "probability.1"), sure[:, 1])


def test_probabilities_have_no_energy_and_a_margin_in_log_odds() -> None:
    what = classifier(kind="probabilities")
    given = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    assert "energy" not in names(Signals(what, {}))
    np.testing.assert_allclose(of(what, given, "margin"), [np.log(3.5), np.log(1e12)])
    np.testing.assert_allclose(of(what, given, "confidence"), [0.7, 1.0])


def test_values_have_no_confidence() -> None:
    assert names(Signals(classifier(kind="values"), {}))[:3] == ["class", "margin", "scores.nonfinite"]


@pytest.mark.parametrize("shape", [["batch"], ["batch", 1]])
def test_one_score_is_that_of_the_second_of_two_classes(shape: list[object]) -> None:
    what = contract(outputs={"score": shape}, task="classification", kind="logits")
    logits = np.array([-2.0, 0.5, 3.0]).reshape(3, *shape[1:])  # type: ignore[arg-type]
    assert of(what, logits, "class").tolist() == [0, 1, 1]
    np.testing.assert_allclose(of(what, logits, "margin"), [2.0, 0.5, 3.0])
    np.testing.assert_allclose(of(what, logits, "probability.1"), special.expit([-2.0, 0.5, 3.0]))
    np.testing.assert_allclose(of(what, logits, "energy"), np.log1p(np.exp([-2.0, 0.5, 3.0])))


def test_labels_name_the_classes() -> None:
    what = classifier(task_parts={"labels": ["cat", "dog", "eel"]})
    signals = Signals(what, {})
    assert signals.signals[0].classes == ("cat", "dog", "eel")
    assert "probability.eel" in names(signals)


def test_more_than_twenty_classes_are_not_watched_one_by_one() -> None:
    signals = Signals(classifier(21), {})
    assert not [name for name in names(signals) if name.startswith("probability")]
    assert len(signals.signals[0].classes) == 21


def test_a_row_without_an_answer_is_missing_and_counted() -> None:
    logits = np.array([[1.0, 2.0, np.nan], [np.inf, 0, 0], [-np.inf] * 3, [-np.inf, 1.0, 0.0]])
    what = classifier()
    assert np.isnan(of(what, logits, "class")).tolist() == [True, True, True, False]
    assert of(what, logits, "scores.nonfinite").tolist() == [1, 1, 1, 0]
    # A class that is masked out is well defined: the others have their margin.
    assert of(what, logits, "margin")[3] == 1.0
    assert of(what, logits, "entropy")[3] == pytest.approx(stats.entropy(special.softmax([1.0, 0.0])))


def test_multilabel() -> None:
    what = contract(outputs={"scores": ["batch", 3]}, task="multilabel", kind="logits")
    logits = np.array([[-3.0, 0.2, 5.0], [-9.0, -9.0, -9.0]])
    sure = special.expit(logits)
    assert of(what, logits, "labels").tolist() == [2, 0]
    np.testing.assert_allclose(of(what, logits, "confidence"), sure.max(1))
    np.testing.assert_allclose(of(what, logits, "entropy"), stats.bernoulli(sure).entropy().mean(1))
    np.testing.assert_allclose(of(what, logits, "probability.2"), sure[:, 2])


def test_regression_has_each_number() -> None:
    one = contract(outputs={"price": ["batch", 1]}, task="regression")
    assert names(Signals(one, {}))[0] == "value"
    np.testing.assert_allclose(of(one, np.array([[2.0], [np.inf]]), "value"), [2.0, np.nan])
    three = contract(outputs={"price": ["batch", 3]}, task="regression")
    np.testing.assert_allclose(of(three, np.arange(6.0).reshape(2, 3), "value.1"), [1, 4])
    many = contract(outputs={"price": ["batch", 17]}, task="regression")
    assert names(Signals(many, {}))[:3] == ["price.mean", "price.sd", "price.peak"]


def test_tensors_have_mean_deviation_and_peak() -> None:
    what = contract(outputs={"map": ["batch", 2, "height", "width"]})
    given = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
    flat = given.reshape(3, -1)
    np.testing.assert_allclose(of(what, given, "map.mean"), flat.mean(1))
    np.testing.assert_allclose(of(what, given, "map.sd"), flat.std(1))
    np.testing.assert_allclose(of(what, given, "map.peak"), np.abs(flat).max(1))


def test_an_embedding_is_compared_with_the_calibration_data() -> None:
    what = contract(outputs={"vector": ["batch", 12]}, task="embedding")
    random = np.random.default_rng(0)
    scale = np.linspace(3, 0.1, 12)
    seen = random.normal(size=(500, 12)) * scale + 1
    constants = fit(what, [({"x": np.ones((500, 4), np.float32)}, {"vector": seen})])
    signals = Signals(what, constants)
    assert names(signals)[:8] == [
        "vector.norm",
        "vector.cosine",
        "vector.distance",
        *(f"vector.direction{place}" for place in (1, 2, 3, 4)),
        "vector.nonfinite",
    ]
    feeds = {"x": np.ones((500, 4), np.float32)}
    table = signals.of(feeds, {"vector": seen})
    np.testing.assert_allclose(table[:, 0], np.linalg.norm(seen, axis=1))
    mean = seen.mean(0)
    np.testing.assert_allclose(table[:, 1], seen @ mean / np.linalg.norm(seen, axis=1) / np.linalg.norm(mean))
    assert table[:, 2].mean() == pytest.approx(1.0, abs=0.1)
    # The first direction is that of the largest variance, and another sample along it is seen by it.
    moved = signals.of(feeds, {"vector": seen + np.eye(12)[0] * 5})
    assert abs(moved[:, 3].mean() - table[:, 3].mean()) > 4


def test_an_embedding_without_constants_has_its_norm() -> None:
    what = contract(outputs={"vector": ["batch", 12]}, task="embedding")
    assert [name for name in names(Signals(what, {})) if name.startswith("vector")] == [
        "vector.norm",
        "vector.nonfinite",
    ]


def test_further_outputs_are_watched_and_few_are_bet_on() -> None:
    what = contract(
        outputs={"scores": ["batch", 3], "vector": ["batch", 16], "map": ["batch", 2, 2], "count": ["int64", "batch"]},
        task="classification",
        kind="logits",
    )
    feeds, outputs = both(what, 50)
    signals = Signals(what, fit(what, [(feeds, outputs)]))
    scored = names(signals, scored=True)
    assert "vector.distance" in scored and "vector.norm" not in scored
    assert {"map.mean", "count"} <= set(names(signals, scored=False))


def test_an_output_without_rows_has_no_signals() -> None:
    what = contract(outputs={"scores": ["batch", 3], "scale": ["float32", 2]}, task="classification", kind="logits")
    assert not [name for name in names(Signals(what, {})) if name.startswith("scale")]


def test_names_are_distinct_even_where_an_input_is_called_like_a_signal() -> None:
    what = contract(
        inputs={"margin": ["batch"], "class": ["batch"]}, outputs={"y": ["batch", 3]}, task="classification"
    )
    found = names(Signals(what, {}))
    assert len(found) == len(set(found))
    assert "inputs.margin" in found
