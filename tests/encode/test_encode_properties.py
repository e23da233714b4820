"""Whatever JSON is sent: arrays that fit the contract, or an InputError, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encode_cases import contract
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipworthy.contract import Contract
from shipworthy.encode import Codec, stack
from shipworthy.errors import InputError

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-300, 300),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=20),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
)
ROWS = st.lists(st.one_of(st.integers(-3, 300), st.floats(width=32)), min_size=1, max_size=4)


def kitchen_sink(root: Path) -> Contract:
    """Every way to send something, in one contract."""
    inputs: dict[str, Any] = {
        "image": {
            "dtype": "float32",
            "shape": ("batch", 1, 2, 2),
            "accept": {"kind": "image", "size": (2, 2), "mode": "L"},
        },
        "ids": {"dtype": "int16", "shape": ("batch", "tokens:1..4")},
        "mask": {"dtype": "int64", "shape": ("batch", "tokens:1..4")},
        "flag": {"dtype": "bool", "shape": ("batch",)},
        "row": {"dtype": "uint8", "shape": ("batch", 2)},
    }
    encode = {
        "text": {"kind": "text", "tokenizer": "tokenizer.json", "feeds": ("ids", "mask")},
        "record": {"kind": "record", "fields": ("a", "b"), "feeds": ("row",)},
    }
    return contract(inputs, encode, root)


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "image": st.one_of(JSON, st.just([[[0, 1], [2, 3]]])),
        "ids": st.one_of(JSON, ROWS),
        "mask": st.one_of(JSON, ROWS),
        "flag": st.one_of(JSON, st.booleans()),
        "row": st.one_of(JSON, st.lists(st.integers(0, 255), min_size=2, max_size=2)),
        "text": st.one_of(JSON, st.sampled_from(["the cat", "cat", ""])),
        "record": st.one_of(JSON, st.fixed_dictionaries({"a": st.integers(0, 3), "b": SCALARS})),
        "more": JSON,
    },
)


@pytest.fixture(scope="module")
def codec(tokenizer_folder: Path) -> Codec:
    return Codec(kitchen_sink(tokenizer_folder))


@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(st.one_of(JSON, FIELDS), max_size=3))
def test_anything_encodes_or_is_an_input_error(values: list[object], codec: Codec, tokenizer_folder: Path) -> None:
    specs = kitchen_sink(tokenizer_folder).inputs
    try:
        encoded = codec.instances(values)
    except InputError as error:
        assert all(0 <= problem.sample_index < len(values) for problem in error.problems)
        assert all(problem.reason for problem in error.problems)
        return
    assert len(encoded) == len(values)
    for arrays in encoded:
        assert list(arrays) == list(specs)
        for name, array in arrays.items():
            assert specs[name].misfit(array, instance=True) is None
            assert array.dtype.kind != "f" or np.isfinite(array).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(rows=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), max_size=9))
def test_stack_groups_equal_shapes_and_loses_nothing(rows: list[list[int]]) -> None:
    codec = Codec(contract({"x": {"dtype": "int64", "shape": ("batch", "n")}}))
    batches = stack(codec.instances([{"x": row} for row in rows]))
    assert sorted(index for members, _ in batches for index in members) == list(range(len(rows)))
    assert len({feeds["x"].shape[1:] for _, feeds in batches}) == len(batches)
    for members, feeds in batches:
        assert members == sorted(members)
        assert feeds["x"].tolist() == [rows[member] for member in members]


def test_stack_of_nothing() -> None:
    assert stack([]) == []
