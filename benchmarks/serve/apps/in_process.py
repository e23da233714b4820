"""What a package gives without a server: its variant at its number of streams, in the threads of this process, at each
batch size that a server of it uses.

    python in_process.py PACKAGE SECONDS

Prints samples per second, of the best batch size and of all of them."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import numpy as np

import shipworthy

SIZES = (1, 2, 4, 8)


def main(package: str, seconds: float) -> None:
    with shipworthy.load(package) as predictor:
        sizes = [size for size in SIZES if size in predictor.batch_sizes] or [predictor.point.batch]
        rates = {size: rate(predictor, size, seconds / len(sizes)) for size in sizes}
        best = max(rates, key=lambda size: rates[size])
        told: dict[str, Any] = {"rate": rates[best], "batch": best, "rates": rates}
        told |= {"streams": predictor.point.streams, "variant": predictor.variant.id}
    sys.stdout.write(json.dumps(told))


def rate(predictor: shipworthy.Predictor, batch: int, seconds: float) -> float:
    """Samples per second of batches of one size, with all streams busy."""
    case = predictor.package.golden.cases[0]
    feeds = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in case.inputs.items()}
    for _ in range(3):
        predictor.run(feeds)
    done = [0] * predictor.point.streams
    began = time.perf_counter()

    def turn(number: int) -> None:
        while time.perf_counter() - began < seconds:
            predictor.run(feeds)
            done[number] += 1

    threads = [threading.Thread(target=turn, args=(number,)) for number in range(len(done))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) * batch / (time.perf_counter() - began)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
