"""Shifts of digits' images: what happens to a share of the requests from some moment on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from drift_world import World
from scipy.ndimage import rotate, shift

from shipworthy.monitor.evidence import Bins, Detector, WindowTest

Images = np.ndarray
"""[n, 8, 8], from 0 to 1 in sixteenths."""


def noise(sd: float) -> Callable[[Images, np.random.Generator], Images]:
    """In the sixteenths that the data comes in."""
    return lambda images, random: images + random.normal(0, sd / 16, images.shape).astype(np.float32)


def translated(images: Images, random: np.random.Generator) -> Images:
    return np.asarray(shift(images, (0, 1, 0), order=0), np.float32)


def rotated(images: Images, random: np.random.Generator) -> Images:
    return np.asarray(rotate(images, 30, axes=(1, 2), reshape=False, order=1), np.float32)


def dimmed(images: Images, random: np.random.Generator) -> Images:
    return images * np.float32(0.6)


SHIFTS: dict[str, tuple[Callable[[Images, np.random.Generator], Images] | str, float]] = {
    "noise 1, all": (noise(1), 1.0),
    "noise 2, half": (noise(2), 0.5),
    "noise 4, a tenth": (noise(4), 0.1),
    "translation, a tenth": (translated, 0.1),
    "rotation, a tenth": (rotated, 0.1),
    "contrast, a tenth": (dimmed, 0.1),
    "class 0 gone": ("gone", 1.0),
    "prior shift": ("prior", 1.0),
}


def shifted(world: World, name: str, count: int, random: np.random.Generator) -> np.ndarray:
    """Signals of requests after the change, [count, signals]."""
    how, share = SHIFTS[name]
    weights = np.ones(len(world.inputs))
    if how == "gone":
        weights[world.truth == 0] = 0
    if how == "prior":
        weights = 0.6 ** world.truth.astype(float)
    images = world.inputs[random.choice(len(weights), count, p=weights / weights.sum())]
    if not isinstance(how, str):
        hit = random.random(count) < share
        images = np.where(hit[:, None, None], how(images, random), images)
    return world.of(images)


def delays(
    world: World, name: str, streams: int, run_length: float, reference: int, cap: int, before: int
) -> np.ndarray:
    """Samples from the change, which comes after `before`, to the alarm, [streams]; `cap` where there is none by then,
    and NaN where the alarm came before the change."""
    pool, found = world.pool, np.full(streams, np.nan)
    for stream in range(streams):
        random = np.random.default_rng([stream, *name.encode()])
        bins = Bins.of(pool[random.integers(len(pool), size=reference)], world.signals, stream)
        detector = Detector(bins.counts, run_length)
        same = bins.place(pool[random.integers(len(pool), size=before)], random)
        if (detector.update(same) >= 1).any():
            continue
        evidence = detector.update(bins.place(shifted(world, name, cap, random), random))
        crossed = np.flatnonzero(evidence >= 1)
        found[stream] = crossed[0] + 1 if len(crossed) else cap
    return found


def windows_until(world: World, name: str, streams: int, reference: int, most: int) -> np.ndarray:
    """Full windows of 500 after the change until one alarms, [streams]; `most` + 1 where none does."""
    pool, found = world.pool, np.full(streams, most + 1)
    for stream in range(streams):
        random = np.random.default_rng([stream, 1, *name.encode()])
        test = WindowTest(pool[random.integers(len(pool), size=reference)], world.signals, seed=stream)
        for window in range(most):
            if test.test(shifted(world, name, test.window, random)).rejected.any():
                found[stream] = window + 1
                break
    return found
