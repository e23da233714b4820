"""Logarithms of factorials, from which all numbers of ways come."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .order import Floats


@lru_cache(maxsize=16)
def log_factorials(n: int) -> Floats:
    """ln k! for k from 0 to n, [n + 1]; read only."""
    logs: Floats = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    logs.flags.writeable = False
    return logs
