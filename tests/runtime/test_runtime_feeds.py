"""Feeds are held against the signature, with every fault named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipworthy.contract import Dim, Signature, TensorSpec
from shipworthy.errors import InputError
from shipworthy.runtime.feeds import Gate, empty_outputs, example_feeds

BATCH, TOKENS = Dim("batch"), Dim("tokens", 1, 8)
SIGNATURE = Signature(
    inputs={
        "ids": TensorSpec(dtype="int64", shape=(BATCH, TOKENS)),
        "mask": TensorSpec(dtype="int64", shape=(BATCH, TOKENS)),
    },
    outputs={
        "logits": TensorSpec(dtype="float32", shape=(BATCH, 2)),
        "keep": TensorSpec(dtype="bool", shape=(TOKENS,)),
    },
)


def reasons(feeds: object) -> dict[str, str]:
    with pytest.raises(InputError) as caught:
        Gate(SIGNATURE).accept(feeds)  # type: ignore[arg-type]
    return {problem.field: problem.reason for problem in caught.value.problems}


def test_one_name_has_one_size() -> None:
    found = reasons({"ids": np.zeros((2, 3), "int64"), "mask": np.zeros((2, 4), "int64")})
    assert found == {"mask": "dimension 'tokens' is 4 here and 3 in 'ids'"}


def test_hints_say_what_to_do() -> None:
    found = reasons({"ids": np.zeros(3, "int64"), "mask": np.zeros((1, 3), "int32")})
    assert found["ids"].endswith("; add the batch dimension, array[None]")
    assert found["mask"].endswith('; cast with .astype("int64")')


def test_what_is_no_array() -> None:
    assert reasons({"ids": [[1]], "mask": None}) == {
        "ids": "expected an array, int64 [batch, tokens:1..8], got list",
        "mask": "expected an array, int64 [batch, tokens:1..8], got NoneType",
    }


def test_what_is_no_mapping() -> None:
    assert reasons([np.zeros((2, 3), "int64")]) == {"inputs": "expected arrays by name, got list"}


def test_a_scalar_stays_a_scalar() -> None:
    signature = Signature(inputs={"level": TensorSpec(dtype="float32", shape=())})
    assert Gate(signature).accept({"level": np.array(1, "float32")})["level"].shape == ()


def test_examples_fit_and_empty_outputs_have_the_fed_sizes() -> None:
    feeds = example_feeds(SIGNATURE)
    assert Gate(SIGNATURE).accept(feeds).keys() == feeds.keys()
    empty = empty_outputs(SIGNATURE, {name: np.zeros((0, 5), "int64") for name in SIGNATURE.inputs})
    assert {name: array.shape for name, array in empty.items()} == {"logits": (0, 2), "keep": (5,)}


@given(
    st.dictionaries(
        st.sampled_from(["ids", "mask", "other"]),
        st.one_of(
            hnp.arrays(st.sampled_from(["int64", "float32", "bool"]), hnp.array_shapes(min_dims=0, max_side=9)),
            st.none(),
            st.text(max_size=3),
        ),
    )
)
def test_whatever_is_fed_is_accepted_whole_or_refused_as_input(feeds: dict[str, object]) -> None:
    try:
        accepted = Gate(SIGNATURE).accept(feeds)  # type: ignore[arg-type]
    except InputError as error:
        assert error.problems
        return
    assert list(accepted) == ["ids", "mask"]
    assert all(SIGNATURE.inputs[name].misfit(array) is None for name, array in accepted.items())
    assert all(array.flags.c_contiguous for array in accepted.values())
