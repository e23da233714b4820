"""Run where frouros is: its detectors as they are."""

from __future__ import annotations

import json
import pickle
import sys
import time
from functools import partial

import numpy as np
from frouros.detectors.data_drift import MMD, IncrementalKSTest  # type: ignore[import-not-found]
from frouros.utils.kernels import rbf_kernel  # type: ignore[import-not-found]

SLIDING, SAMPLES = 100, 600


def agree(given: str, found: str) -> None:
    """Squared discrepancies of windows [windows, n, numbers], and p-values of the incremental test."""
    with np.load(given) as data:
        mmd = MMD(kernel=partial(rbf_kernel, sigma=float(data["sigma"])))
        mmd.fit(X=data["reference_inputs"].astype(np.float64))
        distances = [mmd.compare(X=window.astype(np.float64))[0].distance for window in data["inputs"]]
        test = IncrementalKSTest(window_size=SLIDING)
        test.fit(X=data["reference_watched"])
        p = [test.update(value=value)[0] for value in data["watched"][:SAMPLES]]
    np.savez(found, mmd=np.array(distances), sliding=np.array([np.nan if one is None else one.p_value for one in p]))


def cost(given: str) -> None:
    with np.load(given) as data:
        reference, stream = data["reference_inputs"].astype(np.float64), data["inputs"].astype(np.float64)
        usual, numbers = data["reference_watched"], data["watched"].tolist()
        sigma = float(data["sigma"])
    found = {}
    for window in (200, 500):
        mmd = MMD(kernel=partial(rbf_kernel, sigma=sigma))
        mmd.fit(X=reference)
        began = time.perf_counter()
        mmd.compare(X=stream[:window])
        spent = (time.perf_counter() - began) / window * 1e6
        found[f"frouros MMD, {window}"] = (spent, len(pickle.dumps((mmd, stream[:window].copy()))) / 1e3)
    test = IncrementalKSTest(window_size=SLIDING)
    test.fit(X=usual)
    for number in numbers[:SLIDING]:
        test.update(value=number)
    began = time.perf_counter()
    for number in numbers[SLIDING:SAMPLES]:
        test.update(value=number)
    spent = (time.perf_counter() - began) / (SAMPLES - SLIDING) * 1e6
    found[f"frouros incremental KS, {SLIDING}"] = (spent, len(pickle.dumps(test)) / 1e3)
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    {"agree": agree, "cost": cost}[sys.argv[1]](*sys.argv[2:])
