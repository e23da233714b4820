"""Keys count once: a filter may lose a new one, and never counts an old one again."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.rollout.seen import MOST_KEYS, Bloom, first_in_batch

_digests = st.lists(st.integers(1, 2**64 - 1), max_size=200)


@given(st.lists(_digests, max_size=5))
def test_an_old_key_is_never_taken_for_a_new_one(batches: list[list[int]]) -> None:
    bloom = Bloom()
    for batch in batches:
        bloom.add(np.array(batch, np.uint64))
    assert bloom.holds(np.array([digest for batch in batches for digest in batch], np.uint64)).all()


@given(_digests)
def test_neighbours_of_old_keys_are_new(batch: list[int]) -> None:
    bloom = Bloom()
    digests = np.array(batch, np.uint64)
    bloom.add(digests)
    fresh = np.setdiff1d(digests ^ np.uint64(1), digests)
    assert not bloom.holds(fresh).any()


def test_so_many_new_keys_are_lost_as_is_said() -> None:
    draw = np.random.default_rng(5)
    bloom = Bloom()
    bloom.add(draw.integers(1, 2**63, MOST_KEYS).astype(np.uint64))
    lost = bloom.holds(draw.integers(2**63, 2**64 - 1, MOST_KEYS, dtype=np.uint64)).mean()
    said = (1 - np.exp(-8 * MOST_KEYS / 2**24)) ** 8
    assert abs(lost - said) < 4 * np.sqrt(said / MOST_KEYS)


def test_keys_that_count_up_are_lost_no_more_often() -> None:
    bloom = Bloom()
    bloom.add(np.arange(1, 100_001, dtype=np.uint64))
    assert bloom.holds(np.arange(100_001, 200_001, dtype=np.uint64)).sum() <= 2


@given(st.lists(st.integers(0, 5), max_size=30))
def test_the_first_of_each_key_in_a_batch_counts_and_all_without_one(batch: list[int]) -> None:
    seen: set[int] = set()
    expected = [not (digest in seen or (digest and seen.add(digest))) for digest in batch]  # type: ignore[func-returns-value]
    assert first_in_batch(np.array(batch, np.uint64)).tolist() == expected
