"""Ids of predictions: unique, and made in a fraction of a microsecond."""

from __future__ import annotations

import os
import secrets
from itertools import count

_DIGITS = 16


class _Ids:
    """16 random hexadecimal digits of the process, then 16 that count its predictions.

    They are names, not secrets: who knows one can guess the next. `itertools.count` hands no number out twice, from
    whatever thread it is asked."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._prefix = secrets.token_hex(_DIGITS // 2)
        self._next = count(1).__next__

    def new(self) -> str:
        return f"{self._prefix}{self._next():016x}"


_IDS = _Ids()
# A process that was forked would go on with the ids of its parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_IDS.renew)

new_id = _IDS.new
"""An id of 32 hexadecimal digits that no other prediction has, in this process or another."""
