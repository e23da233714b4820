"""Pairs of answers that differ, kept until their labels come; bounded, in the registry's database.

Evidence has counted a pair as the worst case when it is kept here. A label takes it out, and the truth takes the place
of the worst case; a pair that gives way to later ones, or waits for ever, needs nothing more."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, insert, select

from ..registry.rollout_tables import rollout_pairs
from .observed import Copies
from .tally import Tally

_AT_ONCE = 500
"""Rows of one statement: databases bound the number of its parameters."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What both versions predicted, as the 64 bits that ids have, and the bound of what that can cost."""

    digest: bytes
    champion: int
    challenger: int
    worst: float


def digest_of_id(unique: bytes) -> bytes:
    """16 bytes that stand for a prediction's id, from the part of it that no other has."""
    return blake2b(unique, digest_size=16, person=b"label").digest()


def pairs_of(copies: Copies, counted: np.typing.NDArray[np.bool_]) -> list[Pair]:
    """The pairs of those copies that count, in their order."""
    rows = np.flatnonzero(copies.worst)
    kept = counted[rows]
    return [
        Pair(digest_of_id(unique.tobytes()), champion, challenger, worst)
        for unique, champion, challenger, worst in zip(
            copies.uniques[kept],
            copies.champion[kept].tolist(),
            copies.challenger[kept].tolist(),
            copies.worst[rows[kept]].tolist(),
            strict=True,
        )
    ]


def keep(
    connection: Connection, rollout: int, pairs: Sequence[Pair], tally: Tally, *, most: int, now: datetime
) -> None:
    """Adds pairs; the oldest give way so that `most` are left. The rollout's row is locked."""
    pairs_left = pairs[-most:]
    tally.evicted += len(pairs) - len(pairs_left)
    rows = [
        {
            "rollout": rollout,
            "seq": tally.pair_seq + place,
            "digest": pair.digest,
            "champion": _signed(pair.champion),
            "challenger": _signed(pair.challenger),
            "worst": pair.worst,
            "created": now,
        }
        for place, pair in enumerate(pairs_left)
    ]
    if rows:
        connection.execute(insert(rollout_pairs), rows)
    tally.pair_seq += len(rows)
    tally.pairs += len(rows)
    if tally.pairs > most:
        _evict(connection, rollout, tally, tally.pairs - most)


def _evict(connection: Connection, rollout: int, tally: Tally, number: int) -> None:
    of_rollout = rollout_pairs.c.rollout == rollout
    first_kept = select(rollout_pairs.c.seq).where(of_rollout).order_by(rollout_pairs.c.seq).offset(number).limit(1)
    gone = connection.execute(
        delete(rollout_pairs).where(of_rollout, rollout_pairs.c.seq < first_kept.scalar_subquery())
    ).rowcount
    tally.pairs -= gone
    tally.evicted += gone


def find(connection: Connection, rollout: int, digests: Collection[bytes]) -> dict[bytes, Pair]:
    """The pairs of these ids by their digests; those that are not kept are left out."""
    found: dict[bytes, Pair] = {}
    for part in parts_of(digests):
        rows = select(rollout_pairs).where(rollout_pairs.c.rollout == rollout, rollout_pairs.c.digest.in_(part))
        for row in connection.execute(rows):
            found[row.digest] = Pair(row.digest, _unsigned(row.champion), _unsigned(row.challenger), row.worst)
    return found


def remove(connection: Connection, rollout: int, digests: Collection[bytes], tally: Tally) -> None:
    """Pairs that have got their label."""
    for part in parts_of(digests):
        these = (rollout_pairs.c.rollout == rollout, rollout_pairs.c.digest.in_(part))
        tally.pairs -= connection.execute(delete(rollout_pairs).where(*these)).rowcount


def forget_pairs(connection: Connection, rollout: int) -> None:
    """Of a rollout that has ended: its evidence is closed."""
    connection.execute(delete(rollout_pairs).where(rollout_pairs.c.rollout == rollout))


def parts_of(values: Collection[Any]) -> Iterator[list[Any]]:
    """In lists that fit into one statement."""
    ordered = list(values)
    for start in range(0, len(ordered), _AT_ONCE):
        yield ordered[start : start + _AT_ONCE]


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def _unsigned(word: int) -> int:
    return word + 2**64 if word < 0 else word
