"""What one worker saw of a rollout since it last told: plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .seen import Digests

UNIQUE_BYTES = 12
"""Of the part of a prediction's id that no other prediction has."""


def _digests() -> Digests:
    return np.empty(0, np.uint64)


def _floats() -> NDArray[np.float64]:
    return np.empty(0, np.float64)


def _flags() -> NDArray[np.bool_]:
    return np.empty(0, np.bool_)


def _couples() -> NDArray[np.bool_]:
    return np.empty((0, 2), np.bool_)


@dataclass(frozen=True, slots=True)
class Assignments:
    """Requests that were given to an arm; all arrays are [n]."""

    digests: Digests = field(default_factory=_digests)
    """uint64, of the caller's key; 0 where there was none."""
    shares: NDArray[np.float64] = field(default_factory=_floats)
    """The challenger's share when the request was assigned."""
    new: NDArray[np.bool_] = field(default_factory=_flags)
    """True where the challenger got it."""

    def __post_init__(self) -> None:
        _same_length(self.digests, self.shares, self.new)

    def __len__(self) -> int:
        return len(self.digests)


@dataclass(frozen=True, slots=True)
class Completions:
    """Requests that have ended, or have had their time, by the arm that they were assigned to; all arrays are [n]."""

    digests: Digests = field(default_factory=_digests)
    shares: NDArray[np.float64] = field(default_factory=_floats)
    new: NDArray[np.bool_] = field(default_factory=_flags)
    failed: NDArray[np.bool_] = field(default_factory=_flags)
    """False also where the client left before it was answered."""
    slow: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))
    """1 slower than the threshold, 0 not slower, -1 not judged: while there is no threshold yet, where it failed, and
    where the client left earlier than that."""

    def __post_init__(self) -> None:
        _same_length(self.digests, self.shares, self.new, self.failed, self.slow)

    def __len__(self) -> int:
        return len(self.digests)


@dataclass(frozen=True, slots=True)
class Copies:
    """Requests that a shadow answered too: n copies, of which m gave another answer than the champion."""

    digests: Digests = field(default_factory=_digests)
    """uint64 [n], of the caller's key; 0 where there was none."""
    worst: NDArray[np.float64] = field(default_factory=_floats)
    """[n] in [0, 1]: by how much the challenger's loss may exceed the champion's, as long as nobody knows the truth.
    0 where both answers are the same; 1 for another class; min(1, |difference| / error_scale) in regression."""
    uniques: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, UNIQUE_BYTES), np.uint8))
    """[m, 12]: the unique part of the id under which the champion's answer went out."""
    champion: Digests = field(default_factory=_digests)
    """uint64 [m]: what it predicted, as the 64 bits that its id has."""
    challenger: Digests = field(default_factory=_digests)
    failed: NDArray[np.bool_] = field(default_factory=_couples)
    """[k, 2]: whether the champion and the challenger failed, one row for each request that was to be copied. What the
    champion's engine has failed the challenger is not given, and counts as not failed."""
    slow: NDArray[np.bool_] = field(default_factory=_couples)
    """[j, 2]: whether the champion and the challenger were slower than the threshold, one row for each measured run."""
    lost: int = 0
    """Requests that were to be copied and were not: the champion was busy, or too much waited already."""

    def __post_init__(self) -> None:
        _same_length(self.digests, self.worst)
        _same_length(self.uniques, self.champion, self.challenger)
        assert self.failed.shape[1:] == self.slow.shape[1:] == (2,), "the champion's and the challenger's"
        assert int(np.count_nonzero(self.worst)) == len(self.uniques), "one pair for each copy that may differ"

    def __len__(self) -> int:
        return len(self.digests)


@dataclass(frozen=True, slots=True)
class Observed:
    """All of it. An empty one is worth merging too: it lets a rollout notice that its time is over."""

    assigned: Assignments = field(default_factory=Assignments)
    completed: Completions = field(default_factory=Completions)
    settled: Assignments = field(default_factory=Assignments)
    """Of the periods that are told, the requests that have ended, in whatever way."""
    copies: Copies = field(default_factory=Copies)
    worker: str = ""
    """Name of the worker, at most 64 characters, that no other one has; without it this counts whenever it comes."""
    number: int = 0
    """Of this telling, rising with each one of the worker: one that comes again, or too late, is not counted twice."""


def _same_length(*arrays: NDArray[np.generic]) -> None:
    assert len({len(array) for array in arrays}) == 1, "one row for each request"
