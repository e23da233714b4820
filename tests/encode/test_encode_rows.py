"""Many instances at once: the arrays of the codec bit by bit, or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from encode_cases import contract
from hypothesis import given, settings
from hypothesis import strategies as st

from shipworthy.encode import Codec, Rows
from shipworthy.errors import InputError

DTYPES = ("float64", "float32", "float16", "int64", "int32", "int8", "uint8", "bool")
FIELDS = ("a", "b", "c")
RECORD = {"flower": {"kind": "record", "fields": FIELDS}}
NUMBERS = st.one_of(
    st.integers(-300, 300),
    st.integers(),
    st.integers(-3, 3).map(float),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(),
)
ITEMS = st.one_of(NUMBERS, st.booleans(), st.none(), st.text(max_size=2), st.lists(st.integers(), max_size=2))


def codec(dtype: str, *sizes: Any, encode: dict[str, Any] | None = None) -> Codec:
    return Codec(contract({"x": {"dtype": dtype, "shape": ("batch", *sizes)}}, encode))


def rows(codec: Codec) -> Rows:
    assert codec.rows is not None
    return codec.rows


def nested(items: st.SearchStrategy[Any], *sizes: int) -> st.SearchStrategy[Any]:
    for size in reversed(sizes):
        items = st.lists(items, min_size=size, max_size=size)
    return items


def assert_same(codec: Codec, instances: list[Any]) -> None:
    """What is taken becomes what the codec makes of each; where it becomes nothing, the codec refuses one too."""
    taken = [rows(codec).take(instance) for instance in instances]
    assert all(one is not None for one in taken)
    array = rows(codec).convert([one for one in taken if one is not None])
    if array is None:
        with pytest.raises(InputError):
            codec.instances(instances)
        return
    expected = np.stack([arrays["x"] for arrays in codec.instances(instances)])
    assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
    assert array.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60)
@given(data=st.data())
def test_same_bits_as_the_codec(dtype: str, data: st.DataObject) -> None:
    sizes = data.draw(st.sampled_from([(), (1,), (3,), (2, 3), (2, 1, 2)]))
    items = data.draw(st.sampled_from([NUMBERS, ITEMS, st.integers(0, 1), st.floats(-9, 9), st.booleans()]))
    values = data.draw(st.lists(nested(items, *sizes), min_size=1, max_size=5))
    if sizes or not any(isinstance(value, list) for value in values):
        assert_same(codec(dtype, *sizes), [{"x": value} for value in values])


@settings(max_examples=100)
@given(records=st.lists(st.tuples(ITEMS, NUMBERS, NUMBERS), min_size=1, max_size=4))
def test_records_and_lists_side_by_side(records: list[tuple[Any, ...]]) -> None:
    instances: list[dict[str, Any]] = []
    for index, items in enumerate(records):
        shuffled = dict(sorted(zip(FIELDS, items, strict=True), key=lambda item: item[0], reverse=bool(index % 2)))
        instances.append({"flower": shuffled} if index % 3 else {"x": list(items)})
    assert_same(codec("float32", 3, encode=RECORD), instances)


def test_a_record_that_is_called_like_the_input() -> None:
    named = codec("float32", 3, encode={"x": RECORD["flower"]})
    assert_same(named, [{"x": {"c": 3, "a": 1, "b": 2}}, {"x": [1, 2, 3]}])
    assert rows(named).take({"x": {"a": 1, "b": 2}}) is None


def test_a_record_of_one_field() -> None:
    alone = codec("float32", 1, encode={"size": {"kind": "record", "fields": ("m",)}})
    assert_same(alone, [{"size": {"m": 2.5}}, {"x": [1]}])


def test_a_record_for_an_input_with_axes_of_one() -> None:
    deep = codec("float32", 1, 3, encode=RECORD)
    assert_same(deep, [{"flower": {"a": 1, "b": 2, "c": 3}}, {"x": [[1, 2, 3]]}])


@pytest.mark.parametrize(
    "instance",
    [
        None,
        [1, 2, 3],
        {},
        {"x": [1, 2]},
        {"x": [1, 2, 3, 4]},
        {"x": (1, 2, 3)},
        {"x": np.zeros(3, np.float32)},
        {"x": "123"},
        {"x": None},
        {"x": {"a": 1, "b": 2, "c": 3}},
        {"y": [1, 2, 3]},
        {"x": [1, 2, 3], "y": 1},
        {"flower": [1, 2, 3]},
        {"flower": {"a": 1, "b": 2}},
        {"flower": {"a": 1, "b": 2, "d": 3}},
        {"flower": {"a": 1, "b": 2, "c": 3, "d": 4}},
        {"flower": {"a": 1, "b": 2, "c": 3}, "x": [1, 2, 3]},
        {1: [1, 2, 3]},
        {"x": np.float32(1)},
    ],
)
def test_what_is_not_plain_is_left_to_the_codec(instance: object) -> None:
    assert rows(codec("float32", 3, encode=RECORD)).take(instance) is None


def test_a_scalar_of_numpy_is_left_to_the_codec() -> None:
    scalar = rows(codec("float32"))
    assert scalar.take({"x": np.float32(1)}) is None and scalar.take({"x": 1}) == [1]


def test_uneven_lists_are_left_to_the_codec() -> None:
    plain = rows(codec("float32", 2, 2))
    assert plain.take({"x": [[1, 2], [3, 4]]}) == [1, 2, 3, 4]
    for value in ([[1, 2], [3]], [[1, 2], 3], [[1, 2, 3], [4]], [[1, 2]], [], 1, [[[1], 2], [3, 4]][:1]):
        assert plain.take({"x": value}) is None


def test_one_bad_row_is_seen() -> None:
    plain = rows(codec("float32", 2))
    assert plain.convert([[1, 2], [3, float("nan")]]) is None
    assert plain.convert([[1, 2], [3, True]]) is None
    assert plain.convert([[1, 2], [3, 4]]) is not None


@pytest.mark.parametrize("shape", [("n",), (4097,), (0,), (3, "n"), (65, 64)])
def test_what_is_not_small_and_fixed_has_no_rows(shape: tuple[Any, ...]) -> None:
    assert codec("float32", *shape).rows is None


def test_two_inputs_have_no_rows() -> None:
    two = {name: {"dtype": "float32", "shape": ("batch", 2)} for name in ("x", "y")}
    assert Codec(contract(two)).rows is None
