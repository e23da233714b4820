"""The forms in which instances may be handed over."""

from __future__ import annotations

from typing import Any

import mlp
import numpy as np
import pytest

from shipworthy.contract import Contract, InputSpec, TextEncode
from shipworthy.errors import InputError
from shipworthy.predict.requests import read_request

IDS = InputSpec(dtype="int64", shape=("batch", "tokens"))
IMAGE = InputSpec(dtype="float32", shape=("batch", 1, 2, 2))
SCALAR = InputSpec(dtype="float32", shape=("batch",))


def contract(inputs: dict[str, InputSpec], text: bool = False) -> Contract:
    feeds = tuple(inputs)
    encode = {"text": TextEncode(kind="text", tokenizer="t.json", feeds=feeds)} if text else {}
    return mlp.contract(inputs=inputs, encode=encode)


def read(value: object, made_for: Contract) -> tuple[list[Any], bool]:
    request = read_request(value, made_for, [*made_for.inputs, *made_for.encode])
    return list(request.instances), request.many


FLAT = contract({"features": InputSpec(dtype="float32", shape=("batch", 2))})


@pytest.mark.parametrize(
    ("value", "instances", "many"),
    [
        ({"features": [1, 2]}, [{"features": [1, 2]}], False),
        ({"instances": [{"features": [1, 2]}]}, [{"features": [1, 2]}], True),
        ([{"features": [1, 2]}, {}], [{"features": [1, 2]}, {}], True),
        ([1, 2], [{"features": [1, 2]}], False),
        ([[1, 2], [3, 4]], [{"features": [1, 2]}, {"features": [3, 4]}], True),
        (((1, 2), (3, 4)), [{"features": (1, 2)}, {"features": (3, 4)}], True),
        (5, [{"features": 5}], False),
        (None, [{"features": None}], False),
        ([[[1]]], [{"features": [[[1]]]}], False),
        ("text", [{"features": "text"}], False),
    ],
)
def test_forms(value: object, instances: list[Any], many: bool) -> None:
    assert read(value, FLAT) == (instances, many)


def test_arrays_by_their_rank() -> None:
    one, two = np.zeros(2, np.float32), np.zeros((3, 2), np.float32)
    instances, many = read(one, FLAT)
    assert instances[0]["features"] is one and not many
    instances, many = read(two, FLAT)
    assert len(instances) == 3 and many
    instances, many = read([one, one], FLAT)
    assert len(instances) == 2 and many


@pytest.mark.parametrize(
    ("inputs", "text", "value", "instances", "many"),
    [
        ({"x": SCALAR}, False, 5.0, [{"x": 5.0}], False),
        ({"x": SCALAR}, False, [5.0, 6.0], [{"x": 5.0}, {"x": 6.0}], True),
        ({"image": IMAGE}, False, b"png", [{"image": b"png"}], False),
        ({"image": IMAGE}, False, [b"png", b"png"], [{"image": b"png"}] * 2, True),
        ({"image": IMAGE}, False, [[[0, 0], [0, 0]]], [{"image": [[[0, 0], [0, 0]]]}], False),
        ({"ids": IDS, "mask": IDS}, True, "a text", [{"text": "a text"}], False),
        ({"ids": IDS, "mask": IDS}, True, ["a", "b"], [{"text": "a"}, {"text": "b"}], True),
        ({"ids": IDS}, True, [1, 2, 3], [{"ids": [1, 2, 3]}], False),
        ({"ids": IDS, "mask": IDS}, True, [1, 2, 3], [[1, 2, 3]], False),
    ],
)
def test_bare_values(inputs: dict[str, InputSpec], text: bool, value: object, instances: list[Any], many: bool) -> None:
    assert read(value, contract(inputs, text)) == (instances, many)


def test_an_input_may_be_called_instances() -> None:
    made_for = contract({"instances": SCALAR})
    assert read({"instances": 5.0}, made_for) == ([{"instances": 5.0}], False)


def test_deep_nesting_does_not_exhaust_the_stack() -> None:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    (instance,), many = read(value, FLAT)
    assert instance["features"] is value and not many


@pytest.mark.parametrize("value", [[], (), {"instances": []}, {"instances": ()}, np.zeros((0, 2), np.float32)])
def test_no_instance_at_all(value: object) -> None:
    with pytest.raises(InputError, match="there is none"):
        read(value, FLAT)


@pytest.mark.parametrize("value", [{"instances": 5}, {"instances": {}}, {"instances": [], "other": 1}])
def test_wrong_envelopes(value: object) -> None:
    with pytest.raises(InputError):
        read(value, FLAT)
