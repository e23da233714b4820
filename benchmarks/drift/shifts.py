"""What becomes of a stream: rows of the pool, changed, or drawn in other proportions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import ndimage  # type: ignore[import-untyped]

from .subjects import Array, Subject

SHARES = (0.1, 0.5, 1.0)
"""Of the requests that are affected."""
COPIES = 8
"""Of the pool, each changed at random."""
Change: TypeAlias = Callable[[Subject, np.random.Generator], Array]
"""Gives rows of which affected requests are drawn, each as likely as any other."""


@dataclass(frozen=True)
class Shift:
    name: str
    subjects: tuple[str, ...]
    change: Change


def noise(deviations: float | None = None, units: float = 0.0) -> Change:
    """Gaussian, in deviations of each column, or in sixteenths, which are the units of the digits."""

    def change(subject: Subject, rng: np.random.Generator) -> Array:
        rows = _copies(subject)
        scale = units / 16 if deviations is None else deviations * subject.deviations
        return rows + rng.standard_normal(rows.shape) * scale

    return change


def translated(subject: Subject, rng: np.random.Generator) -> Array:
    """By one pixel, up, down, left or right; what comes in is empty."""
    rows = _copies(subject)
    padded = np.pad(rows, ((0, 0), (0, 0), (1, 1), (1, 1)))
    moved = [
        padded[:, :, 1 + down : 1 + down + rows.shape[2], 1 + right : 1 + right + rows.shape[3]]
        for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0))
    ]
    return np.asarray(np.stack(moved)[rng.integers(4, size=len(rows)), np.arange(len(rows))])


def rotated(subject: Subject, rng: np.random.Generator) -> Array:
    """By 10 to 30 degrees, either way."""
    angles = rng.uniform(10, 30, COPIES) * np.where(np.arange(COPIES) % 2, 1, -1)
    turned = [ndimage.rotate(subject.pool, angle, axes=(3, 2), reshape=False, order=1) for angle in angles]
    return np.concatenate(turned)


def fainter(subject: Subject, rng: np.random.Generator) -> Array:
    """Contrast times 0.7."""
    return subject.pool * 0.7


def knocked_out(subject: Subject, rng: np.random.Generator) -> Array:
    """No request is of class 0 any more."""
    return subject.pool[subject.labels != 0]


def prior(subject: Subject, rng: np.random.Generator) -> Array:
    """The first three of ten classes, the first of two, or targets above the median, come three times as often."""
    if subject.classifies:
        often = subject.labels < (3 if len(np.unique(subject.labels)) > 3 else 1)
    else:
        often = subject.labels > np.median(subject.labels)
    return np.repeat(subject.pool, np.where(often, 3, 1), axis=0)


def column(subject: Subject, rng: np.random.Generator) -> Array:
    """One column, the third, is larger by half a deviation."""
    rows = subject.pool.copy()
    rows[:, 2] += 0.5 * subject.deviations[2]
    return rows


_IMAGES, _RECORDS, _CLASSES = ("digits",), ("breast-cancer", "diabetes"), ("digits", "breast-cancer")
SHIFTS = (
    Shift("noise 1", _IMAGES, noise(units=1)),
    Shift("noise 2", _IMAGES, noise(units=2)),
    Shift("noise 4", _IMAGES, noise(units=4)),
    Shift("translation", _IMAGES, translated),
    Shift("rotation", _IMAGES, rotated),
    Shift("contrast", _IMAGES, fainter),
    Shift("noise .5 deviations", _RECORDS, noise(deviations=0.5)),
    Shift("one column", _RECORDS, column),
    Shift("class knock-out", _CLASSES, knocked_out),
    Shift("prior", (*_IMAGES, *_RECORDS), prior),
)


def _copies(subject: Subject) -> Array:
    return np.concatenate([subject.pool] * COPIES)
