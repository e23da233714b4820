"""A shadow beside a champion that answers at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from live_cases import CLASSES, KEY, lane, logits, rollout, same, scores

from shipworthy.contract import Array, Arrays
from shipworthy.rollout.live import Copied, Shadowed
from shipworthy.rollout.observed import Copies

HEADER = b"x-assignment-key"


class Trial:
    """A shadow whose champion answers at once, and all that is told of it."""

    def __init__(self, given: Mapping[str, Any] = CLASSES, run: Any = same, *, champion: Any = same, **options: Any):
        threads = options.pop("threads", 1)
        options = {"shadow_budget": 1.0, **options}
        self.champion = lane(given, champion)
        self.challenger = lane(given, run, version=2, threads=threads)
        self.shadowed = Shadowed(rollout("shadow", **options), KEY, self.champion, self.challenger)
        self.told: list[Copies] = []
        self.ids: list[bytes] = []

    @property
    def thread(self) -> threading.Thread:
        return self.shadowed._shadow._thread

    def ask(self, *instances: Any, key: bytes | None = None) -> bool:
        """A request as the server handles one; whether it was copied."""
        part = self.shadowed.assign({} if key is None else {HEADER: key})
        assert part.lane is self.champion
        model = self.champion.predictor
        arrays = np.array([one["x"] for one in instances], np.float32)
        answers = model.rows(model.run({"x": arrays}))
        self.ids = list(part.naming(instances)(answers))
        part.answered(0.001)
        return isinstance(part, Copied)

    def fail(self, status: int, *instances: Any, unanswered: bool = False) -> None:
        """A request that the champion does not answer; with the instances, where it got as far as that."""
        part = self.shadowed.assign({})
        if instances:
            part.naming(instances)
        part.unserved(status, 0.001, unanswered=unanswered)

    def seen(self, *, copies: int = 0, failed: int = 0, slow: int = 0, lost: int = 0) -> Copies:
        """All that was told, when it is so much."""
        until = time.monotonic() + 10
        while True:
            self.told.append(self.shadowed.take()().copies)
            whole = joined(self.told)
            found = len(whole), len(whole.failed), len(whole.slow), whole.lost
            if all(one >= least for one, least in zip(found, (copies, failed, slow, lost), strict=True)):
                return whole
            assert time.monotonic() < until, found
            time.sleep(0.002)


def joined(parts: Sequence[Copies]) -> Copies:
    names = ("digests", "worst", "uniques", "champion", "challenger", "failed", "slow")
    whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Copies(**whole, lost=sum(part.lost for part in parts))


@contextmanager
def trials() -> Iterator[Callable[..., Trial]]:
    """Makes them, and ends them."""
    made: list[Trial] = []

    def make(*arguments: Any, **options: Any) -> Trial:
        made.append(Trial(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.shadowed.close()
        one.thread.join(10)
        assert not one.thread.is_alive()


def x(best: int) -> dict[str, Any]:
    return {"x": scores(best)}


def other_than_0(feeds: Arrays) -> dict[str, Array]:
    """Takes class 0 for class 2."""
    return {"y": np.where(feeds["x"][:, :1] > 0, logits([0, 0, 5]), feeds["x"])}


def until(holds: Callable[[], object], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come to hold in time"
        time.sleep(0.002)
