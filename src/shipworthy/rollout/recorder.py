"""What one process sees of a rollout between two tellings: counted where requests go by, put into arrays elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..predict.ids import CHALLENGER, CHAMPION, Signer
from .evidence import Threshold
from .observed import Assignments, Completions, Observed

if TYPE_CHECKING:
    from ..predict.answers import Naming
    from ..server.lane import Lane
    from .record import Rollout

LINGER_S = 120.0
"""So long requests that were assigned with an earlier share may still end."""
_INVALID = frozenset((400, 413, 415, 422))


def failed(status: int) -> bool:
    """Whether an answer counts as an error: of the server, or of what it takes for valid."""
    return status >= 500 or status in _INVALID


class Arm:
    """Requests that one version has at one share. It is itself the part of each request that has no key, so that such
    a request costs no object of its own."""

    __slots__ = ("_ids", "ended", "failures", "keyed", "lane", "new", "requests", "share", "signer", "times", "told")

    def __init__(self, lane: Lane, signer: Signer, share: float, *, new: bool) -> None:
        self.lane, self.signer, self.share, self.new = lane, signer, share, new
        self._ids = signer.ids
        self.requests = 0
        """Without a key, since the last telling."""
        self.failures = 0
        self.times: list[float] = []
        """Seconds of those that were answered with success."""
        self.keyed: list[int] = []
        """Digests of the keys of requests that have one."""
        self.ended: list[tuple[int, bool, float]] = []
        """Digest, failure and seconds of those that were answered."""
        self.told = time.monotonic()
        """When there was last something to tell."""

    def naming(self, instances: Sequence[object]) -> Naming:
        return self._ids

    def done(self, status: int, total_s: float) -> None:
        if status == 200:
            self.times.append(total_s)
        elif failed(status):
            self.failures += 1

    def take(self) -> Taken:
        """What there is to tell, which is then forgotten. On the event loop."""
        taken = Taken(self.share, self.new, self.requests, self.failures, self.times, self.keyed, self.ended)
        self.requests = self.failures = 0
        self.times, self.keyed, self.ended = [], [], []
        if not taken.empty:
            self.told = time.monotonic()
        return taken


class Keyed:
    """A request whose caller has given a key."""

    __slots__ = ("_arm", "_digest", "lane")

    def __init__(self, arm: Arm, digest: int) -> None:
        self._arm, self._digest, self.lane = arm, digest, arm.lane

    def naming(self, instances: Sequence[object]) -> Naming:
        signer, digest = self._arm.signer, self._digest
        return lambda rows: signer.ids(rows, digest)

    def done(self, status: int, total_s: float) -> None:
        if status == 200 or failed(status):
            self._arm.ended.append((self._digest, status != 200, total_s))


class Taken:
    """What an arm had to tell."""

    __slots__ = ("ended", "failures", "keyed", "new", "requests", "share", "times")

    def __init__(
        self,
        share: float,
        new: bool,
        requests: int,
        failures: int,
        times: list[float],
        keyed: list[int],
        ended: list[tuple[int, bool, float]],
    ) -> None:
        self.share, self.new = share, new
        self.requests, self.failures, self.times = requests, failures, times
        self.keyed, self.ended = keyed, ended

    @property
    def empty(self) -> bool:
        return not (self.requests or self.failures or self.times or self.keyed or self.ended)


class Recorder:
    """The arms of a canary or an A/B comparison. Requests are counted on the event loop; `observed` may be called in a
    thread, one call at a time."""

    def __init__(self, target_s: float | None) -> None:
        self._threshold = Threshold(target_s)
        self._arms: list[Arm] = []

    def arms(self, key: bytes, rollout: Rollout, champion: Lane, challenger: Lane) -> tuple[Arm, Arm]:
        """Those of the champion and the challenger at its present share; those of earlier ones are told of as long as
        their requests may end."""
        made, share = [], rollout.share
        for lane, arm in ((champion, CHAMPION), (challenger, CHALLENGER)):
            signer = Signer(key, rollout.model, int(lane.version), rollout=rollout.id, arm=arm, share=share)
            made.append(Arm(lane, signer, share, new=arm == CHALLENGER))
        self._arms += made
        return made[0], made[1]

    def take(self) -> list[Taken]:
        """On the event loop."""
        recent = time.monotonic() - LINGER_S
        current = self._arms[-2:]
        taken = [arm.take() for arm in self._arms]
        self._arms = [arm for arm in self._arms if arm in current or arm.told > recent]
        return [one for one in taken if not one.empty]

    def observed(self, taken: Sequence[Taken]) -> Observed:
        """The same as arrays. Slow is what is slower than a limit that was known before any of these requests."""
        limit = self._threshold.seconds
        assigned = [self._assigned(one) for one in taken]
        completed = [self._completed(one, limit) for one in taken]
        for one in taken:
            if not one.new:
                self._threshold.remember([*one.times, *(seconds for _, bad, seconds in one.ended if not bad)])
        if not taken:
            return Observed()
        return Observed(
            assigned=Assignments(*(np.concatenate(column) for column in zip(*assigned, strict=True))),
            completed=Completions(*(np.concatenate(column) for column in zip(*completed, strict=True))),
        )

    def _assigned(self, taken: Taken) -> tuple[np.ndarray, ...]:
        digests = np.concatenate([np.zeros(taken.requests, np.uint64), np.array(taken.keyed, np.uint64)])
        return (digests, *_arm(taken, len(digests)))

    def _completed(self, taken: Taken, limit: float | None) -> tuple[np.ndarray, ...]:
        plain, bad = len(taken.times), taken.failures
        digests = np.array([digest for digest, _, _ in taken.ended], np.uint64)
        digests = np.concatenate([np.zeros(plain + bad, np.uint64), digests])
        fails = np.array([False] * plain + [True] * bad + [one for _, one, _ in taken.ended], np.bool_)
        seconds = np.array(taken.times + [0.0] * bad + [one for _, _, one in taken.ended], np.float64)
        slow = np.full(len(seconds), -1, np.int8)
        if limit is not None:
            slow[~fails] = seconds[~fails] > limit
        return (digests, *_arm(taken, len(digests)), fails, slow)


def _arm(taken: Taken, rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(rows, taken.share), np.full(rows, taken.new)
