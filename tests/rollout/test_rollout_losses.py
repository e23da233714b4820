"""What a label means, and how wrong an answer was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import FeedbackError
from shipworthy.rollout import Loss
from shipworthy.rollout.losses import Question, Truth, kind_of, truth_from_json, truth_to_json, value_of

CLASSES = Question("classification", ("1", "0", "cat"))
TAGS = Question("multilabel", ("cat", "dog", "hen"))
PRICE = Question("regression", error_scale=4.0)


@pytest.mark.parametrize(
    ("question", "label", "truth"),
    [
        (CLASSES, 1, 1),
        (CLASSES, "1", 0),
        (CLASSES, "2", 2),
        (CLASSES, "2.0", 2),
        (CLASSES, 2.0, 2),
        (CLASSES, "cat", 2),
        (Question("classification"), "41", 41),
        (TAGS, ["hen", 0, "hen"], (0, 2)),
        (TAGS, "dog; cat", (0, 1)),
        (TAGS, '["hen"]', (2,)),
        (TAGS, "[]", ()),
        (PRICE, "2.5", 2.5),
        (PRICE, 3, 3.0),
        (Question("embedding"), Loss(0.5), Loss(0.5)),
    ],
)
def test_a_label_has_one_form(question: Question, label: object, truth: Truth | Loss) -> None:
    assert question.truth(label) == truth
    assert truth_from_json(truth_to_json(truth)) == truth


@pytest.mark.parametrize(
    ("question", "label", "told"),
    [
        (Question("classification"), 2**31, "is no class"),
        (CLASSES, "dog", "is no class"),
        (CLASSES, 1.5, "is no class"),
        (CLASSES, 10**20, "is no class"),
        (TAGS, 7, "is no list"),
        (TAGS, ["cow"], "is no class"),
        (TAGS, [0] * 65, "is no list"),
        (TAGS, "[1", "is no class"),
        (PRICE, "much", "is no number"),
        (PRICE, float("inf"), "is no finite number"),
        (PRICE, 10**309, "is no finite number"),
        (PRICE, True, "is no finite number"),
        (TAGS, ["cat", [[]] * 3], "is no class"),
        (TAGS, ";".join(["0"] * 65), "is no list"),
        (Question("tensors"), 1, "means nothing"),
    ],
)
def test_what_is_no_label_is_refused(question: Question, label: object, told: str) -> None:
    with pytest.raises(FeedbackError, match=told):
        question.truth(label)


def test_labels_beyond_all_use_are_refused() -> None:
    huge = 10**5000
    for question, label, told in (
        (PRICE, huge, "this int is no finite number"),
        (PRICE, "9" * 5000, "is no finite number"),
        (CLASSES, huge, "this int is no class"),
        (CLASSES, "9" * 5000, "'9999.*… is no class"),
        (TAGS, [huge], "this int is no class"),
        (TAGS, f"[{'9' * 5000}]", "is no class"),
        (TAGS, "[" * 100_000, "is no class"),
        (Question("multilabel"), ";".join(map(str, range(100_000))), "is no list of at most 64"),
    ):
        with pytest.raises(FeedbackError, match=told):
            question.truth(label)
    with pytest.raises(FeedbackError, match="loss: is this int"):
        Loss(huge)


def test_a_label_nested_to_any_depth_is_refused() -> None:
    """Wherever the interpreter's patience ends: when it is read, or when it is shown."""
    for depth in range(800, 1100, 3):
        with pytest.raises(FeedbackError, match="is no class"):
            TAGS.truth("[" * depth + "]" * depth)
    nested: list[object] = []
    for _ in range(5000):
        nested = [nested]
    for question, told in ((TAGS, "this list is no class"), (CLASSES, "this list is no class"), (PRICE, "no finite")):
        with pytest.raises(FeedbackError, match=told):
            question.truth(nested)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, None])
def test_a_loss_is_from_0_to_1(value: float) -> None:
    with pytest.raises(FeedbackError, match="loss"):
        Loss(value)


def test_losses_of_each_kind() -> None:
    assert (CLASSES.loss(1, "class", 1), CLASSES.loss(1, "class", 2)) == (0.0, 1.0)
    assert (TAGS.loss((0, 2), "classes", 5), TAGS.loss((), "classes", 1), TAGS.loss((), "classes", 0)) == (0, 1, 0)
    assert Question("multilabel").loss((2**30,), "classes", 0) == 1
    assert (PRICE.loss(3.0, "scalar", 4.0), PRICE.loss(3.0, "scalar", -40.0)) == (0.25, 1.0)
    assert CLASSES.loss(Loss(0.3), "none", None) == 0.3


def test_what_cannot_be_said_is_none() -> None:
    assert CLASSES.loss(1, "none", None) is None
    assert CLASSES.loss(1, "scalar", 1.0) is None
    assert Question("regression").loss(1.0, "scalar", 1.0) is None


@given(st.integers(0, 2**64 - 1), st.floats(allow_nan=False))
def test_words_are_read_as_ids_have_them(word: int, number: float) -> None:
    import struct

    (bits,) = struct.unpack(">Q", struct.pack(">d", number))
    assert value_of("class", word) == value_of("classes", word) == word
    assert value_of("scalar", bits) == number
    assert value_of("none", word) is None


def test_tasks_without_a_prediction_in_their_ids() -> None:
    assert [kind_of(task) for task in ("classification", "multilabel", "regression", "embedding", "tensors")] == [
        "class", "classes", "scalar", "none", "none",
    ]  # fmt: skip
