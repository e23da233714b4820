"""`python -m benchmarks.rollout.power`: how many samples a verdict takes, and how often it is wrong at the boundary."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np

from . import guardrails, picture, rates, results
from .results import Found, Power
from .streams import Pairs, Process, Requests, Stream, canary, fixed, losses_differ, ramp, run

DELTA = 0.005
DIFFERENCES = (-0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05)
DISAGREEMENTS = (0.02, 0.05, 0.10)
BASE = 0.10
"""Loss of the old version in canaries."""
LIMIT = 2_000_000
EXPERIMENTS = 2_000


def settings() -> Iterator[tuple[str, float, Stream, Process]]:
    """Name, true difference, stream and process of each cell."""
    for disagreement in DISAGREEMENTS:
        for difference in DIFFERENCES:
            # Mean losses cannot be further apart than the answers.
            if abs(difference) <= disagreement:
                name = f"shadow, {disagreement:.0%} disagree".replace("%", " %")
                yield name, difference, losses_differ(disagreement, difference), Pairs(DELTA)
    for name, share in (("canary, share .5", fixed(0.5)), ("canary, ramp", ramp)):
        for difference in DIFFERENCES:
            yield name, difference, canary(share, fixed(BASE), difference), Requests(DELTA)


def measure(name: str, difference: float, stream: Stream, process: Process, *, runs: int, seed: int) -> Power:
    """One cell. Runs that are undecided at the limit count as longer than any."""
    ended = run(stream, process, experiments=runs, limit=LIMIT, seed=seed)
    samples = np.sort(np.where(ended.decided, ended.samples, LIMIT + 1))
    low, median, high = (int(samples[min(runs - 1, int(q * runs))]) for q in (0.1, 0.5, 0.9))
    return Power(
        name,
        difference,
        runs,
        LIMIT,
        int((ended.promoted > 0).sum()),
        int((ended.rolled_back > 0).sum()),
        median if median <= LIMIT else None,
        low,
        high if high <= LIMIT else None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000, help="of each cell of the table of samples")
    parser.add_argument("--experiments", type=int, default=EXPERIMENTS, help="of each rate at the boundary")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where results go")
    asked = parser.parse_args()
    began = time.monotonic()
    power = []
    for name, difference, stream, process in settings():
        power.append(measure(name, difference, stream, process, runs=asked.runs, seed=asked.seed))
        print(power[-1], flush=True)  # noqa: T201
    found = []
    for boundary in rates.BOUNDARIES:
        found += rates.measure(boundary, experiments=asked.experiments, seed=asked.seed)
        print(*found[-2:], sep="\n", flush=True)  # noqa: T201
    delays = [guardrails.measure(*cell, runs=asked.runs, seed=asked.seed) for cell in guardrails.CELLS]
    about = {
        "command": " ".join(["python -m benchmarks.rollout.power", *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "seconds": round(time.monotonic() - began),
        "seed": asked.seed,
        "runs": asked.runs,
        "delta": DELTA,
    }
    results.write(asked.out, Found(power, found, delays, about))
    picture.write(asked.out, power)


if __name__ == "__main__":
    main()
