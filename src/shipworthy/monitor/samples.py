"""Rows that are kept for people to look at, and for the next training: few, and never more bytes than a limit."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from ..contract import Array
from .groups import Rows
from .unusual import Unusual

Reason: TypeAlias = Literal["drift", "unusual", "low-confidence", "recent"]
"""It lies far out in what has moved, while an alarm stood; or in anything, while none did; the model was least sure of
it; it came lately."""

MOST_BYTES = 8_000_000
SHOWN = 12
"""Samples that an alarm names."""
HALF = 20_000
"""After so many scored rows a sample gives way to one that is half as far out."""
DRIFTED = 10.0
"""Of the priority: before what is only unusual, whatever it is, for ten times `HALF`."""
_A_BLOCK = 4
"""Rows of a block, at most, that are looked at for each reason."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row."""

    id: str
    at: float
    """When it was scored."""
    reason: Reason
    feeds: dict[str, Array]
    """What was asked, by input, without the batch dimension."""
    outputs: dict[str, Array]
    """What was answered, by output."""
    values: Array
    """float64 [signals]; NaN is missing."""
    priority: float
    """The highest are kept."""

    @property
    def size(self) -> int:
        """Bytes, with what Python adds."""
        arrays = (*self.feeds.values(), *self.outputs.values(), self.values)
        return sum(array.nbytes + 200 for array in arrays) + 400


@dataclass(slots=True)
class _Pool:
    """The samples of one reason with the highest priority."""

    most: int
    most_bytes: int
    heap: list[tuple[float, str, Sample]] = field(default_factory=list)
    bytes: int = 0

    def remove(self, sample: Sample) -> None:
        self.heap = [item for item in self.heap if item[2] is not sample]
        heapq.heapify(self.heap)
        self.bytes -= sample.size

    def takes(self, priority: float) -> bool:
        return self.most > 0 and (len(self.heap) < self.most or priority > self.heap[0][0])

    def add(self, sample: Sample) -> None:
        if sample.size > self.most_bytes:
            return
        heapq.heappush(self.heap, (sample.priority, sample.id, sample))
        self.bytes += sample.size
        while len(self.heap) > self.most or self.bytes > self.most_bytes:
            self.bytes -= heapq.heappop(self.heap)[2].size


class Samples:
    """What is kept of one monitor. Each block of rows adds a few at most, so that its cost does not grow with them."""

    def __init__(self, keep: int, prefix: str, *, confidence: int | None) -> None:
        """`prefix` makes its ids different from those of other nodes; `confidence`: the column of that signal, None
        where the model has none."""
        self.keep, self.prefix = keep, prefix
        self._confidence = confidence
        unsure = keep // 4 if confidence is not None else 0
        shares: dict[Reason, int] = {"low-confidence": unsure, "recent": keep // 4}
        shares["drift"] = keep - sum(shares.values())
        total = max(keep, 1)
        self._pools = {reason: _Pool(most, MOST_BYTES * most // total) for reason, most in shares.items()}

    def __iter__(self) -> Iterator[Sample]:
        for pool in self._pools.values():
            yield from (sample for _, _, sample in sorted(pool.heap, key=lambda item: item[:2], reverse=True))

    def __len__(self) -> int:
        return sum(len(pool.heap) for pool in self._pools.values())

    def add(
        self, rows: Rows, start: int, values: Array, at: Array, scored: int, unusual: Unusual, towards: Array
    ) -> None:
        """Rows from `start` on, with their values [n, signals] and times [n]; the last is the `scored`-th one of all.
        `towards` [signals]: the direction in which each signal has moved, all 0 where none has."""
        if not self.keep:
            return
        age = (scored - len(values) + np.arange(len(values))) / HALF
        drifts = bool(towards.any())
        farthest = np.log2(1 + unusual.rank(values, towards)) + age + (DRIFTED if drifts else 0)
        ranked: dict[Reason, Array] = {"drift": farthest}
        if self._confidence is not None:
            sure = np.clip(np.nan_to_num(values[:, self._confidence], nan=1.0), 1e-6, 1.0)
            ranked["low-confidence"] = age - np.log2(sure)
        ranked["recent"] = age
        taken: set[int] = set()
        for pool, priorities in ranked.items():
            for row in _highest(priorities):
                priority = float(priorities[row])
                if row in taken or not self._pools[pool].takes(priority):
                    continue
                taken.add(row)
                name = f"{self.prefix}-{scored - len(values) + row}"
                reason: Reason = "unusual" if pool == "drift" and not drifts else pool
                feeds, outputs = rows.row(start + row)
                self._pools[pool].add(
                    Sample(name, float(at[row]), reason, feeds, outputs, values[row].copy(), priority)
                )

    def put_back(self, sample: Sample) -> None:
        """A sample that was kept before a restart; nothing is, where nothing is to be kept."""
        self._pools["drift" if sample.reason == "unusual" else sample.reason].add(sample)

    def point_out(self, unusual: Unusual, towards: Array, since: float) -> tuple[str, ...]:
        """Ids of those since some time that lie farthest out in the directions in which the signals have moved. They
        are kept for that from now on."""
        samples = [sample for sample in self if sample.at >= since]
        if not samples or not towards.any():
            return ()
        ranks = unusual.rank(np.array([sample.values for sample in samples]), towards)
        best = np.argsort(-ranks, kind="stable")[:SHOWN]
        found = [samples[place] for place in best if ranks[place] > 0]
        for sample in found:
            if sample.reason in ("unusual", "recent"):
                self._pools["recent" if sample.reason == "recent" else "drift"].remove(sample)
                self._pools["drift"].add(replace(sample, reason="drift", priority=sample.priority + DRIFTED))
        return tuple(sample.id for sample in found)


def _highest(priorities: Array) -> list[int]:
    if len(priorities) <= _A_BLOCK:
        return list(range(len(priorities)))
    found: list[int] = np.argpartition(priorities, -_A_BLOCK)[-_A_BLOCK:].tolist()
    return found
