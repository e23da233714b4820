"""Ids of predictions: unique, made in about a microsecond, and, where a server has a key, sealed.

A sealed id carries all that is to be known of a prediction when its label comes: the version that gave it, the part it
has in a rollout, and what was predicted. So no table of predictions is kept, and none can be lost. Whoever has not the
key can neither make nor alter one."""

from __future__ import annotations

import hmac
import os
import secrets
import struct
import time
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Any, Literal, TypeAlias

from ..errors import FeedbackError

_DIGITS = 16
ValueKind: TypeAlias = Literal["none", "class", "scalar", "classes"]
KINDS: tuple[ValueKind, ...] = ("none", "class", "scalar", "classes")
"""What an id says of the prediction: nothing, a class, a number, or, as a bit mask, which of at most 64 classes."""
CHAMPION, CHALLENGER, ALONE = 0, 1, 255
"""The arm of a rollout that answered; `ALONE` where there was none."""
WHOLE = 10_000
"""Shares are counted in ten-thousandths."""
KEY_BYTES = 32
MAX_CLASSES = 64

_FORMAT = 1
_HEAD = struct.Struct(">B4sIIBH")
"""Format and kind, tag of the model, version, rollout, arm, share."""
_PAYLOAD = struct.Struct(f">{_HEAD.size}sQI4sQQ")
"""That, then the digest of the caller's key, seconds since 1970, the process, its count, and the value."""
_UNIQUE = slice(_HEAD.size + 12, _HEAD.size + 24)
_SEAL = 18
LENGTH = 88
# Each id has one spelling: what the other alphabet writes in these places is none.
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_+/", b"+/!!")
_FLOAT, _WORD = struct.Struct(">d"), struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a sealed id says."""

    model_tag: bytes
    """See `tag_of`."""
    version: int
    rollout: int
    """0 where there was none."""
    arm: int
    """`CHAMPION`, `CHALLENGER` or `ALONE`."""
    share: float
    """Of requests that went to the challenger when this one was assigned."""
    key_digest: int
    """Of the caller's key; 0 where the request had none."""
    at: int
    """When it was made, in seconds since 1970."""
    unique: bytes
    """12 bytes that no other prediction has."""
    kind: ValueKind
    value: int | float | None
    """The class, the number, or the mask."""


class _Ids:
    """16 random hexadecimal digits of the process, then 16 that count its predictions.

    They are names, not secrets: who knows one can guess the next. `itertools.count` hands no number out twice, from
    whatever thread it is asked."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._prefix = secrets.token_hex(_DIGITS // 2)
        self._next = count(1).__next__
        self.process = secrets.token_bytes(4)
        self.count = count(1).__next__

    def new(self) -> str:
        return f"{self._prefix}{self._next():016x}"


_IDS = _Ids()
# A process that was forked would go on with the ids of its parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_IDS.renew)

new_id = _IDS.new
"""An id of 32 hexadecimal digits that no other prediction has, in this process or another."""


class Signer:
    """Makes sealed ids for one version of a model, in one arm of a rollout or in none. Safe to use from threads."""

    def __init__(
        self, key: bytes, model: str, version: int, *, rollout: int = 0, arm: int = ALONE, share: float = 0.0
    ) -> None:
        """`key` has `KEY_BYTES`; `share` is a multiple of a ten-thousandth."""
        self._sealing = blake2b(key=key, digest_size=_SEAL)
        self._heads = [
            _HEAD.pack(_FORMAT << 4 | kind, tag_of(model), version, rollout, arm, round(share * WHOLE))
            for kind in range(len(KINDS))
        ]

    def ids(self, rows: Sequence[Mapping[str, Any]], key_digest: int = 0) -> list[bytes]:
        """One for each answer, of `LENGTH` characters that may stand in an address."""
        now, made = int(time.time()), []
        for row in rows:
            kind, word = worded(row)
            payload = _PAYLOAD.pack(self._heads[kind], key_digest, now, _IDS.process, _IDS.count(), word)
            # A copy, because taking in the key is a third of the work.
            seal = self._sealing.copy()
            seal.update(payload)
            made.append(b2a_base64(payload + seal.digest(), newline=False).translate(_TO_URL))
        return made


def read_id(key: bytes, text: str) -> Prediction:
    """What a sealed id says. FeedbackError where it was not made with this key, or was altered."""
    try:
        sealed = a2b_base64(text.encode("ascii").translate(_FROM_URL), strict_mode=True)
    except (Base64Error, UnicodeEncodeError, ValueError):
        raise forged("is no id of a prediction") from None
    payload, seal = sealed[:-_SEAL], sealed[-_SEAL:]
    if len(text) != LENGTH or not hmac.compare_digest(seal, blake2b(payload, key=key, digest_size=_SEAL).digest()):
        raise forged("was not made by a server that has this registry's key, or was altered")
    head, digest, at, process, number, word = _PAYLOAD.unpack(payload)
    first, tag, version, rollout, arm, share = _HEAD.unpack(head)
    if first >> 4 != _FORMAT:
        raise FeedbackError("prediction id", f"has format {first >> 4}, this version reads {_FORMAT}", "update it")
    kind = KINDS[first & 15]
    value: int | float | None = None if kind == "none" else word
    if kind == "scalar":
        (value,) = _FLOAT.unpack(_WORD.pack(word))
    unique = process + _WORD.pack(number)
    return Prediction(tag, version, rollout, arm, share / WHOLE, digest, at, unique, kind, value)


def tag_of(model: str) -> bytes:
    """4 bytes that stand for a model's name in its ids."""
    return blake2b(model.encode(), digest_size=4, person=b"model").digest()


def digest_of(caller: bytes, key: bytes) -> int:
    """64 bits that stand for a caller's own key; never 0, which stands for none.

    Made with the registry's `key`: who has not that can neither choose an arm by choosing a key, nor guess from an id
    who asked."""
    return int.from_bytes(blake2b(caller, key=key, digest_size=8, person=b"caller").digest()) or 1


def forged(reason: str) -> FeedbackError:
    return FeedbackError("prediction id", reason, "send back the prediction_id of an answer, as it is")


def unique_of(sealed: bytes) -> bytes:
    """The 12 bytes of an id that no other has; of one that was made here, so nothing is checked."""
    return a2b_base64(sealed.translate(_FROM_URL))[_UNIQUE]


def worded(row: Mapping[str, Any]) -> tuple[int, int]:
    """Place in `KINDS`, and 64 bits, of what an answer predicts."""
    if "predicted_class" in row:
        return 1, row["predicted_class"]
    value = row.get("value")
    if isinstance(value, float | int):
        return 2, _WORD.unpack(_FLOAT.pack(value))[0]
    classes = row.get("predicted_classes")
    if classes is not None and len(row["probabilities"] or ()) <= MAX_CLASSES and max(classes, default=0) < MAX_CLASSES:
        return 3, sum(1 << one for one in classes)
    return 0, 0
