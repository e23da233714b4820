"""Which assignment keys have been counted: a Bloom filter. It may take a new key for an old one, never the reverse."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Digests: TypeAlias = NDArray[np.uint64]
"""64-bit hashes of assignment keys; 0 stands for a request without a key."""

MOST_KEYS = 1_000_000
"""So many keys of one stream are counted; what later ones bring is dropped."""

_BITS = 24
_PROBES = 8
_WORDS = 2**_BITS // 64


class Bloom:
    """A set of digests in 2 MiB.

    With n digests in 2^24 bits and 8 probes, a new digest is taken for an old one with probability about
    (1 - exp(-8 n / 2^24))^8: 0.04 % at a million, nothing to speak of below a hundred thousand. An old one is always
    recognised. Which digests are lost depends on their hashes alone, never on what is observed of them."""

    def __init__(self) -> None:
        self._words = np.zeros(_WORDS, np.uint64)

    def add(self, digests: Digests) -> None:
        places = _places(digests).ravel()
        np.bitwise_or.at(self._words, places >> np.uint64(6), _bit(places))

    def holds(self, digests: Digests) -> NDArray[np.bool_]:
        """Which of them are in the set, or look as if."""
        places = _places(digests)
        set_bits = self._words[places >> np.uint64(6)] & _bit(places)
        held: NDArray[np.bool_] = set_bits.all(axis=1)
        return held


def first_in_batch(digests: Digests) -> NDArray[np.bool_]:
    """Which rows are the first with their digest; a row without a key (0) always is."""
    first: NDArray[np.bool_] = np.equal(digests, 0)
    keyed = np.flatnonzero(digests)
    first[keyed[np.unique(digests[keyed], return_index=True)[1]]] = True
    return first


def _bit(places: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return np.uint64(1) << (places & np.uint64(63))


def _places(digests: Digests) -> NDArray[np.uint64]:
    """[n, probes] bit numbers: h1 + i h2 (Kirsch and Mitzenmacher 2008), from two mixings of the digest."""
    first, second = _mix(digests), _mix(digests ^ np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)
    steps = np.arange(_PROBES, dtype=np.uint64)
    return (first[:, None] + steps * second[:, None]) >> np.uint64(64 - _BITS)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): all bits of the result depend on all of the value."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
