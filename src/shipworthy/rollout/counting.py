"""Each assignment key counts once in each stream of outcomes, whichever worker sees it: a log that all of them read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, insert, select

from ..registry.rollout_tables import rollout_keys, rollouts
from .seen import MOST_KEYS, Bloom, Digests, first_in_batch
from .tally import Tally

Stream: TypeAlias = Literal["assigned", "completed", "settled", "copied", "labelled"]

_WIRE = np.dtype(">u8")


class KeyFilters:
    """What this process has read of the logs of some streams, as filters.

    A filter takes in what this process appended only when it reads it back in a later transaction: one that is rolled
    back leaves nothing behind."""

    def __init__(self, *streams: Stream) -> None:
        self._streams = streams
        self._filters: dict[int, defaultdict[str, Bloom]] = {}
        self._read: dict[int, int] = {}

    def catch_up(self, connection: Connection, rollout: int) -> Mapping[str, Bloom]:
        """Filters of the streams with all that is in the log. Call it with the rollout's row locked, and before
        anything is appended in the same transaction."""
        filters = self._filters.setdefault(rollout, defaultdict(Bloom))
        rows = connection.execute(
            select(rollout_keys.c.seq, rollout_keys.c.stream, rollout_keys.c.digests)
            .where(
                rollout_keys.c.rollout == rollout,
                rollout_keys.c.seq > self._read.get(rollout, -1),
                rollout_keys.c.stream.in_(self._streams),
            )
            .order_by(rollout_keys.c.seq)
        ).all()
        parts: dict[str, list[bytes]] = defaultdict(list)
        for row in rows:
            parts[row.stream].append(row.digests)
        for stream, read in parts.items():
            filters[stream].add(np.frombuffer(b"".join(read), _WIRE).astype(np.uint64))
        if rows:
            self._read[rollout] = rows[-1].seq
        return filters

    def keep_running(self, connection: Connection, *, beside: Collection[int]) -> None:
        """Forget those of rollouts that have ended, whoever ended them; `beside` are those that are known to run."""
        others = self._filters.keys() - beside
        if others:
            run = select(rollouts.c.id).where(rollouts.c.id.in_(others), rollouts.c.state == "running")
            for number in others - set(connection.execute(run).scalars()):
                self.forget(number)

    def forget(self, rollout: int) -> None:
        self._filters.pop(rollout, None)
        self._read.pop(rollout, None)


class KeyLog:
    """The log of one rollout during one transaction, in which its row is locked. Use each stream once."""

    def __init__(self, connection: Connection, rollout: int, filters: Mapping[str, Bloom], tally: Tally) -> None:
        self._connection = connection
        self._rollout = rollout
        self._filters = filters
        self._tally = tally

    def count(self, stream: Stream, digests: Digests) -> NDArray[np.bool_]:
        """Which rows count: those without a key, and the first of each key that has not been counted yet.

        The keys that do are appended to the log. All others are dropped, and the tally says how many."""
        counts = first_in_batch(digests)
        keyed = np.flatnonzero(counts & (digests != 0))
        if len(keyed):
            new = keyed[~self._filters[stream].holds(digests[keyed])]
            kept = new[: max(0, MOST_KEYS - self._tally.keys.get(stream, 0))]
            counts[keyed] = False
            counts[kept] = True
            self._append(stream, digests[kept])
        self._tally.drop(stream, int(len(counts) - np.count_nonzero(counts)))
        return counts

    def _append(self, stream: Stream, digests: Digests) -> None:
        if not len(digests):
            return
        self._connection.execute(
            insert(rollout_keys).values(
                rollout=self._rollout,
                seq=self._tally.take_key_seq(),
                stream=stream,
                digests=digests.astype(_WIRE).tobytes(),
            )
        )
        self._tally.keys[stream] = self._tally.keys.get(stream, 0) + len(digests)


def forget_keys(connection: Connection, rollout: int) -> None:
    """Of a rollout that has ended: nothing is counted any more."""
    connection.execute(delete(rollout_keys).where(rollout_keys.c.rollout == rollout))
