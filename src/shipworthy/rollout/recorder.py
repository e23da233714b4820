"""What one process sees of a canary or an A/B comparison: counted where requests go by, put into arrays elsewhere."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..predict.ids import CHALLENGER, CHAMPION, Signer
from .arms import LEFT, Arm, Assigned, Ended, failed
from .evidence import Threshold
from .observed import Assignments, Completions, Observed

if TYPE_CHECKING:
    from ..server.lane import Lane
    from .record import Rollout

SETTLED_S = 30.0
"""So long the requests of a period have time to end. What ends later counts as lost, and as one that took as long."""


Taken: TypeAlias = tuple[list[Assigned], list[Ended]]


@dataclass(frozen=True, slots=True, eq=False)
class Period:
    """Requests that came between two tellings, at one share.

    How they end is told when all of them have, period by period. Of the slower of two versions more
    are on their way at any moment, and so are those that fail late: what has ended by now would look as if one version
    lost answers, or made more errors than the other."""

    arms: tuple[Arm, Arm]
    """Of the champion and the challenger."""
    over: float
    """When it ended."""

    @property
    def complete(self) -> bool:
        return not any(arm.under_way for arm in self.arms)


class Recorder:
    """The arms of the present period, and those of earlier ones whose requests are under way. Requests are counted on
    the event loop; `observed` may be called in a thread, one call at a time."""

    def __init__(self, target_s: float | None) -> None:
        self._threshold = Threshold(target_s)
        self._present: tuple[Arm, Arm] | None = None
        self._past: deque[Period] = deque()
        self._assigned: list[Assigned] = []
        """In the past, and not told yet."""

    def begin(self, key: bytes, rollout: Rollout, champion: Lane, challenger: Lane) -> tuple[Arm, Arm]:
        """The arms of the champion and the challenger at the rollout's present share, until something is taken."""
        self._end_period(time.monotonic())
        made, share = [], rollout.share
        for lane, arm in ((champion, CHAMPION), (challenger, CHALLENGER)):
            signer = Signer(key, rollout.model, int(lane.version), rollout=rollout.id, arm=arm, share=share)
            made.append(Arm(lane, signer, share, new=arm == CHALLENGER))
        self._present = made[0], made[1]
        return self._present

    def take(self) -> tuple[Taken, tuple[Arm, Arm]]:
        """What there is to tell, which is then forgotten; and the arms for what comes from now on."""
        assert self._present is not None, "it has begun"
        now = time.monotonic()
        champion, challenger = self._present
        self._end_period(now)
        self._present = champion.follower(), challenger.follower()
        ended: list[Ended] = []
        while self._past and (self._past[0].complete or self._past[0].over <= now - SETTLED_S):
            ended += [arm.ended() for arm in self._past.popleft().arms]
        assigned, self._assigned = self._assigned, []
        return (assigned, ended), self._present

    def observed(self, taken: Taken) -> Observed:
        """The same as arrays. Slow is what is slower than a limit that is made of earlier periods only."""
        assigned, ended = taken
        limit = self._threshold.seconds
        for one in ended:
            if not one.new:
                self._threshold.remember(one.times)
                self._threshold.remember([seconds for _, status, seconds in one.outcomes if status == 200])
        return Observed(
            assigned=Assignments(*_joined([_rows(one, one.plain, one.keyed) for one in assigned])),
            completed=Completions(*_joined([_completed(one, limit) for one in ended])),
            settled=Assignments(*_joined([_settled(one) for one in ended])),
        )

    def _end_period(self, now: float) -> None:
        if self._present is not None and any(arm.requests or arm.keyed for arm in self._present):
            self._assigned += [arm.assigned() for arm in self._present]
            self._past.append(Period(self._present, now))


def _joined(parts: Sequence[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _rows(arm: Assigned | Ended, plain: int, keyed: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Digests, 0 where there is no key, shares, and arms."""
    digests = np.zeros(plain + len(keyed), np.uint64)
    digests[plain:] = np.array(keyed, np.uint64)
    return digests, np.full(len(digests), arm.share), np.full(len(digests), arm.new)


def _settled(ended: Ended) -> tuple[np.ndarray, ...]:
    plain = len(ended.times) + len(ended.left) + ended.failures + ended.others
    return _rows(ended, plain, [digest for digest, _, _ in ended.outcomes])


def _completed(ended: Ended, limit: float | None) -> tuple[np.ndarray, ...]:
    """Those that say something of the version. Who still waits is like one who left just now."""
    outcomes = [one for one in ended.outcomes if one[1] in (200, LEFT) or failed(one[1])]
    under_way = Counter(ended.keyed)
    under_way.subtract(digest for digest, _, _ in ended.outcomes)
    outcomes += [(digest, LEFT, SETTLED_S) for digest in under_way.elements()]
    left = ended.left + [SETTLED_S] * ended.under_way
    plain = [len(ended.times), len(left), ended.failures]
    statuses = np.concatenate([np.repeat([200, LEFT, 500], plain), [status for _, status, _ in outcomes]])
    seconds = np.concatenate([ended.times, left, np.zeros(ended.failures), [one for _, _, one in outcomes]])
    slow = np.full(len(seconds), -1, np.int8)
    if limit is not None:
        slow[statuses == 200] = seconds[statuses == 200] > limit
        # How long the others would have taken, nobody knows.
        slow[(statuses == LEFT) & (seconds > limit)] = 1
    fails = (statuses != 200) & (statuses != LEFT)
    return (*_rows(ended, sum(plain), [digest for digest, _, _ in outcomes]), fails, slow)
