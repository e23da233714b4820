"""One version's part of the requests of a canary or an A/B comparison, in one stretch of time."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ..predict.ids import Signer

if TYPE_CHECKING:
    from ..predict.answers import Naming
    from ..server.lane import Lane

LEFT = 499
"""The client has left before its answer was there."""
_INVALID = frozenset((400, 413, 415, 422))
Outcome: TypeAlias = tuple[int, int, float]
"""Digest of the caller's key, status, and seconds."""


def failed(status: int) -> bool:
    """Whether an answer counts as an error: of the server, or of what it takes for valid."""
    return status >= 500 or status in _INVALID


class Arm:
    """Counts the requests that it is given, and how they end, on the event loop. It is itself the part of each request
    that has no key, so that such a request costs no object of its own."""

    __slots__ = (
        "_left",
        "_times",
        "answered",
        "failures",
        "ids",
        "keyed",
        "lane",
        "new",
        "others",
        "outcomes",
        "requests",
        "share",
        "signer",
    )

    def __init__(self, lane: Lane, signer: Signer, share: float, *, new: bool) -> None:
        self.lane, self.signer, self.share, self.new = lane, signer, share, new
        self.ids: Naming = signer.ids
        self.requests = 0
        """Assigned without a key; known when the period ends."""
        self.keyed: list[int] = []
        """Digests of the keys of those that have one."""
        self._times = array("d")
        """Seconds of those without a key that were answered with success."""
        self.answered: Callable[[float], object] = self._times.append
        self._left: list[float] = []
        """Seconds after which clients without a key have left."""
        self.failures = self.others = 0
        """Refusals without a key that count as errors, and such as do not."""
        self.outcomes: list[Outcome] = []
        """Of those with a key."""

    def follower(self) -> Arm:
        """The same, for what comes from now on."""
        return Arm(self.lane, self.signer, self.share, new=self.new)

    def naming(self, instances: Sequence[object]) -> Naming:
        if len(instances) == 1:
            return self.ids
        # One draw gave all of them their version: as those of one caller, they are one piece of evidence.
        signer, digest = self.signer, random.getrandbits(64) or 1
        return lambda rows: signer.ids(rows, digest)

    def unserved(self, status: int, total_s: float, *, unanswered: bool = False) -> None:
        if status == LEFT:
            self._left.append(total_s)
        elif failed(status):
            self.failures += 1
        else:
            self.others += 1

    @property
    def under_way(self) -> int:
        """Requests that have not ended yet."""
        return self._plain_under_way + len(self.keyed) - len(self.outcomes)

    @property
    def _plain_under_way(self) -> int:
        return self.requests - len(self._times) - len(self._left) - self.failures - self.others

    def assigned(self) -> Assigned:
        """What it was given. Ask when it is given no more."""
        return Assigned(self.share, self.new, self.requests, self.keyed)

    def ended(self) -> Ended:
        """What has ended by now, and how; to be asked when it is given no more. Copies all that may still change."""
        return Ended(
            share=self.share,
            new=self.new,
            times=self._times[:],
            left=self._left.copy(),
            failures=self.failures,
            others=self.others,
            under_way=self._plain_under_way,
            keyed=self.keyed,
            outcomes=self.outcomes.copy(),
        )


class Keyed:
    """A request whose caller has given a key."""

    __slots__ = ("_arm", "_digest", "lane")
    ids = None

    def __init__(self, arm: Arm, digest: int) -> None:
        self._arm, self._digest, self.lane = arm, digest, arm.lane

    def naming(self, instances: Sequence[object]) -> Naming:
        signer, digest = self._arm.signer, self._digest
        return lambda rows: signer.ids(rows, digest)

    def answered(self, total_s: float) -> None:
        self._arm.outcomes.append((self._digest, 200, total_s))

    def unserved(self, status: int, total_s: float, *, unanswered: bool = False) -> None:
        self._arm.outcomes.append((self._digest, status, total_s))


@dataclass(frozen=True, slots=True)
class Assigned:
    """What an arm was given."""

    share: float
    new: bool
    plain: int
    """Requests without a key."""
    keyed: list[int]
    """Digests of the keys of the others."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the requests of an arm have ended; without a key but for the last two."""

    share: float
    new: bool
    times: array[float]
    """Seconds, of those that were answered with success."""
    left: list[float]
    failures: int
    others: int
    under_way: int
    """Still on their way."""
    keyed: list[int]
    """Digests of all that were assigned."""
    outcomes: list[Outcome]
    """Of those of them that have ended."""
