"""Rows of different sizes in one batch: what is added, what is cut off, and which contracts may say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from encode_cases import contract
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.contract import Array, Contract
from shipworthy.encode import Padding
from shipworthy.encode.padding import rung
from shipworthy.errors import ContractError

TOKENS = ("batch", "tokens:1..40")


def tokens(outputs: dict[str, Any] | None = None, **changes: Any) -> Contract:
    """Ids and mask of up to 40 tokens, and an image that is not padded."""
    inputs: dict[str, Any] = {
        "ids": {"dtype": "int64", "shape": TOKENS, "pad": 7},
        "mask": {"dtype": "bool", "shape": TOKENS, "pad": 0},
        "image": {"dtype": "float32", "shape": ("batch", "height", 2)},
    }
    for name, parts in changes.items():
        inputs[name] = {**inputs.get(name, {}), **parts}
    return Contract(name="m", inputs=inputs, outputs=outputs or {})


def padding(made: Contract) -> Padding:
    found = Padding.of(made)
    assert found is not None
    return found


def feeds(rows: int, length: int, seed: int = 0, height: int = 3) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        "ids": random.integers(10, 99, (rows, length)),
        "mask": np.ones((rows, length), bool),
        "image": random.normal(size=(rows, height, 2)).astype(np.float32),
    }


@given(size=st.integers(1, 10**6), most=st.one_of(st.none(), st.integers(1, 10**6)))
def test_a_rung_wastes_at_most_a_third(size: int, most: int | None) -> None:
    most = None if most is None else max(size, most)
    step = rung(size, most)
    assert size <= step <= (most or step)
    assert (step - size) * 3 <= size
    assert rung(step, most) == step


def test_the_ladder_is_short() -> None:
    assert sorted({rung(size) for size in range(513)})[:14] == [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32]
    assert len({rung(size) for size in range(1, 513)}) == 25


def test_what_shares_a_batch() -> None:
    made = padding(tokens())
    assert made.padded_key(feeds(1, 17)) == made.padded_key(feeds(3, 20)) == ((20,), (20,), (3, 2))
    assert made.padded_key(feeds(1, 16)) == ((16,), (16,), (3, 2))
    assert made.padded_key(feeds(1, 33)) == ((40,), (40,), (3, 2))
    assert made.padded_key(feeds(1, 17, height=4)) != made.padded_key(feeds(1, 17))


@given(
    lengths=st.lists(st.tuples(st.integers(1, 3), st.integers(17, 20)), min_size=1, max_size=4), more=st.integers(0, 3)
)
def test_rows_go_in_and_come_out(lengths: list[tuple[int, int]], more: int) -> None:
    outputs = {
        "echo": {"dtype": "int64", "shape": ("batch", 2, "tokens:1..40")},
        "total": {"dtype": "int64", "shape": ("batch",)},
    }
    made = padding(tokens(outputs))
    assert made.cuts
    parts = [feeds(rows, length, seed) for seed, (rows, length) in enumerate(lengths)]
    rows = sum(count for count, _ in lengths)
    batch = made.pad(parts, rows + more)
    assert {name: array.shape for name, array in batch.items()} == {
        "ids": (rows + more, 20), "mask": (rows + more, 20), "image": (rows + more, 3, 2),
    }  # fmt: skip
    assert {name: array.dtype for name, array in batch.items()} == {n: a.dtype for n, a in parts[0].items()}
    for array in batch.values():
        np.testing.assert_array_equal(array[rows:], np.repeat(array[rows - 1 : rows], more, axis=0))
    ran = {"echo": np.stack([batch["ids"], -batch["ids"]], axis=1), "total": (batch["ids"] * batch["mask"]).sum(1)}
    start = 0
    for part in parts:
        count, length = part["ids"].shape
        assert (batch["ids"][start : start + count, length:] == 7).all()
        assert not batch["mask"][start : start + count, length:].any()
        mine = made.unpad({name: array[start : start + count] for name, array in ran.items()}, part)
        np.testing.assert_array_equal(mine["echo"], np.stack([part["ids"], -part["ids"]], axis=1))
        np.testing.assert_array_equal(mine["total"], part["ids"].sum(1))
        np.testing.assert_array_equal(batch["image"][start : start + count], part["image"])
        start += count


def test_outputs_without_the_dimension_are_not_cut() -> None:
    made = padding(tokens({"total": {"dtype": "int64", "shape": ("batch", "height")}}))
    assert not made.cuts
    array = np.zeros((2, 9))
    assert made.unpad({"total": array}, feeds(2, 17))["total"] is array


@pytest.mark.parametrize(("length", "grown"), [(1, 2), (3, 4), (20, 24), (21, 24), (39, 40), (40, None)])
def test_the_next_rung(length: int, grown: int | None) -> None:
    larger = padding(tokens()).grown(feeds(2, length))
    assert (None if larger is None else larger["ids"].shape) == (None if grown is None else (2, grown))
    if larger is not None:
        np.testing.assert_array_equal(larger["ids"][:, :length], feeds(2, length)["ids"])
        assert (larger["ids"][:, length:] == 7).all() and larger["image"].shape == (2, 3, 2)


def test_a_contract_that_says_nothing_pads_nothing() -> None:
    assert Padding.of(contract({"ids": {"dtype": "int64", "shape": TOKENS}})) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ids": {"pad": 0.5}}, "inputs.ids.pad: 0.5 is no int64"),
        ({"ids": {"pad": 2**70}}, r"inputs.ids.pad: 1.18059e\+21 is no int64"),
        ({"mask": {"pad": 2}}, "inputs.mask.pad: 2 is no bool"),
        ({"mask": {"pad": None}}, 'inputs.mask: "tokens" is padded in inputs.ids, and this input has it too'),
        ({"flat": {"dtype": "float32", "shape": ("batch", 3), "pad": 0}}, "inputs.flat.pad: no size behind the batch"),
        ({"image": {"dtype": "float16", "pad": 1e6}}, r"inputs.image.pad: 1e\+06 is no float16"),
    ],
)
def test_a_contract_that_pads_what_it_cannot_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ContractError, match=says):
        tokens(**changes)


def test_the_setting_is_part_of_the_digest_only_where_it_is_given() -> None:
    plain = {"ids": {"dtype": "int64", "shape": TOKENS}}
    with_none = {"ids": {**plain["ids"], "pad": None}}
    padded = {"ids": {**plain["ids"], "pad": 0}}
    assert contract(plain).digest == contract(with_none).digest != contract(padded).digest
