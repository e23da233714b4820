"""Detectors that look at every sample of one number, as river and frouros compute them, for many streams at once."""

from __future__ import annotations

import random

import numpy as np

from .subjects import Array
from .windows import LEAST, _ks_table, lattice_distances

PAGE_HINKLEY = 50.0
"""Thresholds and sizes are the libraries' defaults."""
_LEAST_SAMPLES, _DELTA, _FADE = 30, 0.005, 1 - 0.0001
KSWIN_ALPHA, KSWIN_WINDOW, KSWIN_STAT = 0.005, 100, 30
KSWIN_SEED = 42
SLIDING = 100
_TOGETHER = 1 << 21


def page_hinkley(values: Array) -> Array:
    """river's statistic after each sample, up to its first alarm: [streams, samples]."""
    streams, samples = values.shape
    found = np.zeros((streams, samples), np.float32)
    mean, up, down = np.zeros(streams), np.zeros(streams), np.zeros(streams)
    least, most = np.full(streams, np.inf), np.full(streams, -1.0)
    for at in range(samples):
        mean += (values[:, at] - mean) / (at + 1)
        apart = values[:, at] - mean
        up, down = _FADE * up + apart - _DELTA, _FADE * down + apart + _DELTA
        least, most = np.minimum(least, up), np.maximum(most, down)
        if at + 1 >= _LEAST_SAMPLES:
            found[:, at] = np.maximum(up - least, most - down)
    return found


def kswin(values: Array) -> Array:
    """-log10 of river's p-value after each sample, up to its first alarm: [streams, samples]. All streams choose alike
    which of the older samples are compared, as river does with one seed."""
    found = np.zeros(values.shape, np.float32)
    older = KSWIN_WINDOW - KSWIN_STAT
    ranks = np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.int32) * 2
    chosen = random.Random(KSWIN_SEED)
    surprise = -np.log10(np.maximum(_ks_table(KSWIN_STAT, KSWIN_STAT), LEAST))
    for end in range(KSWIN_WINDOW, values.shape[1] + 1):
        places = end - KSWIN_WINDOW + np.array(chosen.sample(range(older), KSWIN_STAT))
        # Odd numbers are the recent ones.
        both = np.concatenate([ranks[:, places], ranks[:, end - KSWIN_STAT : end] + 1], axis=1)
        both.sort(axis=1)
        walk = np.cumsum(2 * (both & 1) - 1, axis=1, dtype=np.int8)
        # Values that tie are passed together.
        last = np.ones(both.shape, bool)
        last[:, :-1] = both[:, 1:] >> 1 != both[:, :-1] >> 1
        found[:, end - 1] = surprise[(np.abs(walk) * last).max(axis=1)]
    return found


def sliding_ks(upto: Array, below: Array) -> Array:
    """-log10 of the p-value of frouros' incremental test of the last 100 samples against the reference: [streams,
    samples], of `windows.reference_shares`."""
    found = np.zeros(upto.shape, np.float32)
    surprise = -np.log10(np.maximum(_ks_table(SLIDING, 1000), LEAST))
    windows = [np.lib.stride_tricks.sliding_window_view(each, SLIDING, axis=1) for each in (upto, below)]
    length = max(1, _TOGETHER // (len(upto) * SLIDING))
    for at in range(0, windows[0].shape[1], length):
        distances = lattice_distances(*(each[:, at : at + length] for each in windows))
        found[:, SLIDING - 1 + at : SLIDING - 1 + at + distances.shape[1]] = surprise[distances // SLIDING]
    return found
