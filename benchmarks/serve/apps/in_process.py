"""What a package gives without a server: its variant at its operating point, in the threads of this process.

Prints samples per second."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import numpy as np

import shipworthy


def main(package: str, seconds: float) -> None:
    with shipworthy.load(package) as predictor:
        streams, batch = predictor.point.streams, predictor.point.batch
        case = predictor.package.golden.cases[0]
        feeds = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in case.inputs.items()}
        for _ in range(3):
            predictor.run(feeds)
        done = [0] * streams
        began = time.perf_counter()

        def turn(number: int) -> None:
            while time.perf_counter() - began < seconds:
                predictor.run(feeds)
                done[number] += 1

        threads = [threading.Thread(target=turn, args=(number,)) for number in range(streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rate = sum(done) * batch / (time.perf_counter() - began)
        told: dict[str, Any] = {"rate": rate, "streams": streams, "batch": batch, "variant": predictor.variant.id}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
