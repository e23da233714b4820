"""Plain counts of a rollout, to be shown; evidence has its own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray


def _two() -> list[int]:
    return [0, 0]


@dataclass(slots=True)
class Tally:
    """Counts by arm are [champion, challenger], with the requests of keys that were seen before."""

    assigned: list[int] = field(default_factory=_two)
    completed: list[int] = field(default_factory=_two)
    failed: list[int] = field(default_factory=_two)
    slow: list[int] = field(default_factory=_two)
    copies: int = 0
    """Shadow: requests that the challenger answered too."""
    lost: int = 0
    """Shadow: requests that were to be copied, when the champion was busy or too many waited."""
    keys: dict[str, int] = field(default_factory=dict)
    """Keys that were counted, by stream."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Outcomes that were not, as their key was counted before, or there were too many keys; by stream."""
    key_seq: int = 0
    """Of the next entry in the log of keys."""
    pairs: int = 0
    """Pairs that wait for a label now."""
    pair_seq: int = 0
    """Of the next one."""
    evicted: int = 0
    """Pairs that gave way without a label: the worst case for good."""
    labels: int = 0
    """Labels that gave evidence."""
    deaths: int = 0
    """Worker processes that died while they tried the challenger."""
    unjudged: int = 0
    """Labels of pairs that gave none, as they do not say what the challenger's loss is."""

    def add(self, name: str, new: NDArray[np.bool_], event: NDArray[np.bool_] | None = None) -> None:
        """Adds rows to the counts by arm of that name: all of them, or those with an event."""
        arms = new if event is None else new[event]
        pair: list[int] = getattr(self, name)
        challenger = int(np.count_nonzero(arms))
        pair[0] += len(arms) - challenger
        pair[1] += challenger

    def drop(self, stream: str, number: int) -> None:
        if number:
            self.dropped[stream] = self.dropped.get(stream, 0) + number

    def take_key_seq(self) -> int:
        self.key_seq += 1
        return self.key_seq - 1

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Tally:
        return cls(**json.loads(text))
