"""What is often done instead: a z-test, looked at after every sample. Beside the evidence, for comparison."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

QUANTILE = 1.6449
"""One sided, alpha .05."""
FROM = 500
"""Nobody looks before so many samples; and at least ten losses, or differences of losses, have been seen."""
_EVENTS = 10


def pairs_pass(z: Array, delta: float) -> tuple[Array, Array]:
    """Whether a z-test of mean z against `delta` ever promotes, ever rolls back: [experiments, steps] -> [experiments]
    each."""
    number = np.arange(1, z.shape[1] + 1)
    mean = np.cumsum(z, axis=1, dtype=np.float64) / number
    events = np.cumsum(np.abs(z), axis=1, dtype=np.float64)
    error = np.sqrt(np.maximum(events / number - mean**2, 1e-12) / number)
    return _passed((mean - delta) / error, (number >= FROM) & (events >= _EVENTS))


def requests_pass(new: Array, y: Array, delta: float, counted: Array | bool = True) -> tuple[Array, Array]:
    """The same for two proportions, pooled over everything that each version has answered and that is `counted`."""
    arms = ~new & counted, new & counted
    losses = [np.cumsum(y * arm, axis=1, dtype=np.float64) for arm in arms]
    counts = [np.maximum(np.cumsum(arm, axis=1), 1) for arm in arms]
    old, now = (loss / count for loss, count in zip(losses, counts, strict=True))
    error = np.sqrt(np.maximum(old * (1 - old) / counts[0] + now * (1 - now) / counts[1], 1e-12))
    enough = (np.arange(1, y.shape[1] + 1) >= FROM) & (np.minimum(*losses) >= _EVENTS)
    return _passed((now - old - delta) / error, enough)


def _passed(statistic: Array, looks: Array) -> tuple[Array, Array]:
    below, above = (statistic < -QUANTILE) & looks, (statistic > QUANTILE) & looks
    return np.asarray(below.any(axis=1)), np.asarray(above.any(axis=1))
