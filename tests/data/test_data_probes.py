"""Probes: every size that a graph must take, of real samples where there are any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from data_cases import contract, images, rows, tabular, text
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.contract import Contract, Dim
from shipworthy.data import as_dataset, probes

BOUNDED = contract({"ids": ("int64", "tokens:4..64"), "mask": ("int64", "tokens:4..64")})


def sizes(feeds: tuple[dict[str, Any], ...], name: str) -> list[tuple[int, ...]]:
    return [feed[name].shape for feed in feeds]


def fits(described: Contract, feed: dict[str, Any]) -> bool:
    return all(spec.misfit(feed[name]) is None for name, spec in described.inputs.items())


def test_fixed_sizes_vary_in_the_batch() -> None:
    assert sizes(probes(tabular(), None), "x") == [(2, 4), (1, 4), (3, 4), (8, 4)]


def test_bounded_dimensions_are_tried_at_their_bounds() -> None:
    feeds = probes(BOUNDED, None)
    assert sizes(feeds, "ids") == [(2, 34), (1, 34), (3, 34), (8, 34), (2, 4), (2, 64), (1, 4)]
    assert sizes(feeds, "mask") == sizes(feeds, "ids")


def test_unbounded_dimensions_are_tried_beyond_the_data() -> None:
    samples = [(np.arange(n), np.ones(n, int)) for n in (6, 9, 12)]
    feeds = probes(text(), as_dataset(samples, text()))
    assert sizes(feeds, "ids") == [(2, 9), (1, 9), (3, 9), (8, 9), (2, 3), (2, 6), (2, 12), (2, 15), (1, 3)]


def test_batch_bounds_are_kept() -> None:
    one = contract({"x": ("float32", 4)}).model_copy()
    spec = one.inputs["x"].model_copy(update={"shape": (Dim("batch", 1, 1), 4)})
    assert sizes(probes(one.model_copy(update={"inputs": {"x": spec}}), None), "x") == [(1, 4)]
    many = one.inputs["x"].model_copy(update={"shape": (Dim("batch", 16, 32), 4)})
    assert sizes(probes(one.model_copy(update={"inputs": {"x": many}}), None), "x") == [(16, 4), (17, 4), (32, 4)]


def test_real_samples_are_used() -> None:
    data = rows(5)
    known = {row.tobytes() for row in data}
    feeds = probes(tabular(), as_dataset(data, tabular()))
    assert all(row.tobytes() in known for feed in feeds for row in feed["x"])
    assert len({row.tobytes() for row in feeds[3]["x"]}) == 5, "no sample is repeated before all were used"


def test_real_samples_are_cut_and_repeated() -> None:
    described = contract({"ids": ("int64", "tokens:1..9")})
    feeds = probes(described, as_dataset(np.array([[5, 6, 7]]), described))
    found = {feed["ids"].shape[1]: feed["ids"][0].tolist() for feed in feeds}
    assert found == {5: [5, 6, 7, 5, 6], 1: [5], 9: [5, 6, 7] * 3}


def test_probes_are_seeded() -> None:
    one, same, other = (probes(tabular(), None, seed) for seed in (0, 0, 1))
    for feed, again, different in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(feed["x"], again["x"])
        assert not np.array_equal(feed["x"], different["x"])


def test_synthetic_numbers_are_harmless() -> None:
    feeds = probes(text(), None)
    assert all(set(np.unique(feed["ids"])) <= {0, 1} for feed in feeds)
    assert all((feed["mask"].sum(axis=1) > 0).all() for feed in feeds), "a mask never hides everything"
    pixels = probes(contract({"image": ("uint8", 8, 8, 3)}), None)[0]["image"]
    assert pixels.max() > 200
    assert probes(contract({"flag": ("bool", 3)}), None)[0]["flag"].dtype == bool


def test_synthetic_numbers_take_both_branches_of_a_sign() -> None:
    sums = [float(feed["image"].sum()) for feed in probes(images(), None)]
    assert min(sums) < 0 < max(sums)


@st.composite
def described(draw: st.DrawFn) -> Contract:
    dims = {}
    for name in ("tokens", "height"):
        low = draw(st.integers(0, 6))
        high = draw(st.none() | st.integers(low, low + 30))
        dims[name] = f"{name}:{low}..{'' if high is None else high}"
    size = st.sampled_from([*dims.values(), 1, 3])
    dtype = st.sampled_from(["float32", "float16", "int64", "int8", "uint8", "bool"])
    inputs = draw(
        st.dictionaries(st.sampled_from("abc"), st.tuples(dtype, size) | st.tuples(dtype, size, size), min_size=1)
    )
    return contract(inputs)


@given(described(), st.integers(0, 9))
@pytest.mark.filterwarnings("error")
def test_every_probe_fits_its_contract(given_contract: Contract, seed: int) -> None:
    feeds = probes(given_contract, None, seed)
    assert len(next(iter(feeds[0].values()))) == 2
    for feed in feeds:
        assert fits(given_contract, feed)
        assert list(feed) == list(given_contract.inputs)
        wanted: dict[str, int] = {}
        for name, spec in given_contract.inputs.items():
            for dim, size in zip(spec.shape, feed[name].shape, strict=True):
                if isinstance(dim, Dim):
                    assert wanted.setdefault(dim.name, size) == size
