"""Numbers sent as nested lists or as arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from encode_cases import contract

from shipworthy.encode import Codec
from shipworthy.errors import InputError


def codec(dtype: str = "float32", *dims: Any) -> Codec:
    return Codec(contract({"x": {"dtype": dtype, "shape": ("batch", *dims)}}))


def reason(codec: Codec, value: object) -> str:
    with pytest.raises(InputError) as caught:
        codec.instance({"x": value})
    (problem,) = caught.value.problems
    assert problem.field == "x"
    return problem.reason


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8"])
def test_numbers_become_the_inputs_dtype(dtype: str) -> None:
    array = codec(dtype, 2, 3).instance({"x": [[1, 2, 3], [4, 5, 6.0]]})["x"]
    assert array.dtype == np.dtype(dtype)
    assert array.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_scalar_where_an_instance_has_no_dimension() -> None:
    assert codec("float32").instance({"x": 2})["x"].shape == ()
    assert "got a list" in reason(codec("float32"), [2])


def test_float64_and_int64_are_exact() -> None:
    assert codec("float64", 2).instance({"x": [0.1, 1e308]})["x"].tolist() == [0.1, 1e308]
    assert codec("int64", 2).instance({"x": [2**63 - 1, -(2**63)]})["x"].tolist() == [2**63 - 1, -(2**63)]
    assert codec("int64", 2).instance({"x": [2**53 + 1, 1.0]})["x"].tolist() == [2**53 + 1, 1]


@pytest.mark.parametrize(
    ("dtype", "value", "says"),
    [
        ("float32", True, "expected a number, got true or false at [1]"),
        ("float32", None, "got null"),
        ("float32", "1", "got a string"),
        ("float32", {}, "got an object"),
        ("float32", [1], "got a list"),
        ("float32", math.nan, "not finite"),
        ("float32", -math.inf, "not finite"),
        ("float32", 1e39, "overflows float32 at [1]"),
        ("float16", 70000, "overflows float16"),
        ("float64", 10**400, "overflows float64"),
        ("int8", 128, "outside -128..127 of int8 at [1]"),
        ("uint8", -1, "outside 0..255 of uint8"),
        ("int64", 2**63, "outside"),
        pytest.param("int64", 10**5000, "outside", id="int64-huge"),
        ("int64", 1e300, "outside"),
        ("int32", 1.5, "not whole at [1]"),
        ("int32", math.inf, "not whole"),
        ("int32", math.nan, "not whole"),
        ("int32", True, "got true or false"),
        ("bool", 1, "expected true or false, got a number"),
    ],
)
def test_number_that_does_not_fit_is_refused(dtype: str, value: object, says: str) -> None:
    good = True if dtype == "bool" else 1
    assert says in reason(codec(dtype, 2), [good, value])


def test_bool_input_takes_true_and_false() -> None:
    assert codec("bool", 2).instance({"x": [True, False]})["x"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([[1, 2, 3]], "got a list of 1 instead of 2"),
        ([[1, 2, 3], [4, 5]], "got a list of 2 instead of 3 at [1]"),
        ([[1, 2, 3], 4], "got a number instead of a list at [1]"),
        ([1, 2], "expected float32 [2, 3], got a number instead of a list at [0]"),
        (7, "got a number instead of a list"),
        ([], "got a list of 0 instead of 2"),
        ([[1, 2, [3]], [4, 5, 6]], "got a list at [0][2]"),
    ],
)
def test_wrong_shape_is_refused_with_its_place(value: object, says: str) -> None:
    assert says in reason(codec("float32", 2, 3), value)


def test_deep_nesting_is_refused_without_recursion() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "got a list" in reason(codec("float32", 1), deep)


def test_dynamic_dimension_holds_its_bounds() -> None:
    bounded = codec("int64", "tokens:2..4")
    assert bounded.instance({"x": [1, 2, 3]})["x"].shape == (3,)
    assert "got a list of 1" in reason(bounded, [1])
    assert "got a list of 5" in reason(bounded, [1, 2, 3, 4, 5])


def test_empty_dimension() -> None:
    assert codec("float32", "rows:0..", 3).instance({"x": []})["x"].shape == (0, 3)


def test_same_dimension_has_one_size() -> None:
    both = Codec(contract({name: {"dtype": "int64", "shape": ("batch", "tokens")} for name in ("ids", "mask")}))
    assert both.instance({"ids": [1, 2], "mask": [1, 1]})["mask"].tolist() == [1, 1]
    with pytest.raises(InputError, match="tokens is 1 here and 2 in 'ids'"):
        both.instance({"ids": [1, 2], "mask": [1]})


def test_array_is_passed_through_and_checked() -> None:
    array = np.ones((2, 3), np.float32)
    assert codec("float32", 2, 3).instance({"x": array})["x"] is array
    assert codec("float32", 2, 3).instance(array)["x"] is array
    assert "got float64 [2, 3]" in reason(codec("float32", 2, 3), array.astype(np.float64))
    assert "got float32 [3]" in reason(codec("float32", 2, 3), array[0])


def test_numpy_scalars_in_lists_are_numbers() -> None:
    assert codec("float32", 2).instance({"x": [np.float64(1.5), np.int8(2)]})["x"].tolist() == [1.5, 2.0]


def test_every_fault_of_every_instance_is_named() -> None:
    two = Codec(contract({name: {"dtype": "float32", "shape": ("batch", 1)} for name in ("a", "b")}))
    with pytest.raises(InputError) as caught:
        two.instances([{"a": [1], "b": [2]}, {"a": [True], "c": 1}, 7, {"a": [1], "b": [math.nan]}])
    assert [(problem.sample_index, problem.field) for problem in caught.value.problems] == [
        (1, "a"),
        (1, "c"),
        (1, "b"),
        (2, "instance"),
        (3, "b"),
    ]


def test_many_unknown_fields_are_counted_not_listed() -> None:
    with pytest.raises(InputError) as caught:
        codec("float32", 1).instance({"x": [1], **{f"k{i}": 0 for i in range(1000)}})
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1].reason == "990 more unknown fields"


def test_arrays_stand_in_the_order_of_the_inputs() -> None:
    two = Codec(contract({name: {"dtype": "float32", "shape": ("batch", 1)} for name in ("a", "b")}))
    assert list(two.instance({"b": [1], "a": [2]})) == ["a", "b"]
