"""What one process sees of a rollout between two tellings: counted where requests go by, put into arrays elsewhere."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..predict.ids import CHALLENGER, CHAMPION, Signer
from .cohorts import Cohorts
from .evidence import Threshold
from .observed import Assignments, Completions, Observed

if TYPE_CHECKING:
    from ..predict.answers import Naming
    from ..server.lane import Lane
    from .record import Rollout

LINGER_S = 120.0
"""So long requests that were assigned with an earlier share may still end."""
LEFT = 499
"""The client has left before its answer was there."""
_INVALID = frozenset((400, 413, 415, 422))


def failed(status: int) -> bool:
    """Whether an answer counts as an error: of the server, or of what it takes for valid."""
    return status >= 500 or status in _INVALID


class Arm:
    """Requests that one version has at one share. It is itself the part of each request that has no key, so that such
    a request costs no object of its own."""

    __slots__ = (
        "_ids",
        "cohorts",
        "ended",
        "failures",
        "keyed",
        "lane",
        "left",
        "new",
        "requests",
        "share",
        "signer",
        "times",
        "told",
    )

    def __init__(self, lane: Lane, signer: Signer, share: float, *, new: bool) -> None:
        self.lane, self.signer, self.share, self.new = lane, signer, share, new
        self._ids = signer.ids
        self.requests = 0
        """Without a key, since the last telling."""
        self.failures = 0
        self.times: list[float] = []
        """Seconds of those that were answered with success."""
        self.keyed: list[int] = []
        """Digests of the keys of requests that have one, as they were assigned."""
        self.left: list[float] = []
        """Seconds after which clients have left."""
        self.ended: list[tuple[int, int, float]] = []
        """Digest, status and seconds of those that have a key."""
        self.cohorts = Cohorts()
        self.told = time.monotonic()
        """When there was last something to tell."""

    def naming(self, instances: Sequence[object]) -> Naming:
        if len(instances) == 1:
            return self._ids
        # One draw gave all of them their version: as those of one caller, they are one piece of evidence.
        signer, digest = self.signer, random.getrandbits(64) or 1
        return lambda rows: signer.ids(rows, digest)

    def done(self, status: int, total_s: float, *, unanswered: bool = False) -> None:
        # By the second in which it came, exactly: one second of one version more would look like lost answers.
        self.cohorts.end(time.monotonic() - total_s)
        if status == 200:
            self.times.append(total_s)
        elif status == LEFT:
            self.left.append(total_s)
        elif failed(status):
            self.failures += 1

    def take(self) -> Taken:
        """What there is to tell, which is then forgotten. On the event loop."""
        now = time.monotonic()
        settled, callers = self.cohorts.take(now)
        taken = Taken(
            self.share, self.new, self.requests, self.failures, self.times, self.left, self.keyed, self.ended,
            settled, callers,
        )  # fmt: skip
        self.requests = self.failures = 0
        self.times, self.left, self.keyed, self.ended = [], [], [], []
        if not taken.empty:
            self.told = now
        return taken


class Keyed:
    """A request whose caller has given a key."""

    __slots__ = ("_arm", "_digest", "lane")

    def __init__(self, arm: Arm, digest: int) -> None:
        self._arm, self._digest, self.lane = arm, digest, arm.lane

    def naming(self, instances: Sequence[object]) -> Naming:
        signer, digest = self._arm.signer, self._digest
        return lambda rows: signer.ids(rows, digest)

    def done(self, status: int, total_s: float, *, unanswered: bool = False) -> None:
        self._arm.cohorts.end(time.monotonic() - total_s, self._digest)
        if status in (200, LEFT) or failed(status):
            self._arm.ended.append((self._digest, status, total_s))


@dataclass(frozen=True, slots=True)
class Taken:
    """What an arm had to tell."""

    share: float
    new: bool
    requests: int
    failures: int
    times: list[float]
    left: list[float]
    keyed: list[int]
    ended: list[tuple[int, int, float]]
    settled: int
    """Without a key, of the seconds that are over."""
    callers: list[int]
    """Digests of the keys of the others."""

    @property
    def empty(self) -> bool:
        told = (self.requests, self.failures, self.times, self.left, self.keyed, self.ended, self.settled, self.callers)
        return not any(told)


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
        self._arms = [arm for arm in self._arms if arm in current or arm.cohorts or arm.told > recent]
        return [one for one in taken if not one.empty]

    def observed(self, taken: Sequence[Taken]) -> Observed:
        """The same as arrays. Slow is what is slower than a limit that was known before any of these requests."""
        limit = self._threshold.seconds
        assigned = [_digests(one, one.requests, one.keyed) for one in taken]
        completed = [_completed(one, limit) for one in taken]
        settled = [_digests(one, one.settled, one.callers) for one in taken]
        for one in taken:
            if not one.new:
                keyed = (seconds for _, status, seconds in one.ended if status == 200)
                self._threshold.remember([*one.times, *keyed])
        if not taken:
            return Observed()
        return Observed(
            assigned=Assignments(*(np.concatenate(column) for column in zip(*assigned, strict=True))),
            completed=Completions(*(np.concatenate(column) for column in zip(*completed, strict=True))),
            settled=Assignments(*(np.concatenate(column) for column in zip(*settled, strict=True))),
        )


def _digests(taken: Taken, plain: int, keyed: Sequence[int]) -> tuple[np.ndarray, ...]:
    digests = np.concatenate([np.zeros(plain, np.uint64), np.array(keyed, np.uint64)])
    return (digests, *_arm(taken, len(digests)))


def _completed(taken: Taken, limit: float | None) -> tuple[np.ndarray, ...]:
    answered, left, bad = len(taken.times), len(taken.left), taken.failures
    digests = np.zeros(answered + left + bad + len(taken.ended), np.uint64)
    digests[answered + left + bad :] = [digest for digest, _, _ in taken.ended]
    statuses = np.repeat([200, LEFT, 500], [answered, left, bad])
    statuses = np.concatenate([statuses, np.array([status for _, status, _ in taken.ended], np.int64)])
    seconds = np.array(taken.times + taken.left + [0.0] * bad + [one for _, _, one in taken.ended], np.float64)
    slow = np.full(len(seconds), -1, np.int8)
    if limit is not None:
        slow[statuses == 200] = seconds[statuses == 200] > limit
        # How long the others would have taken, nobody knows.
        slow[(statuses == LEFT) & (seconds > limit)] = 1
    fails = (statuses != 200) & (statuses != LEFT)
    return (digests, *_arm(taken, len(digests)), fails, slow)


def _arm(taken: Taken, rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(rows, taken.share), np.full(rows, taken.new)
