"""`python -m benchmarks.drift`: how soon drift is seen, how often without any, and what it costs."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

# One thread for each process: several of them share the cores.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from . import agreement, cost, picture, results  # noqa: E402
from .cells import RATE, Run  # noqa: E402
from .subjects import SUBJECTS  # noqa: E402

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "drift"
SEEDS, TUNING, ROUNDS = 200, 600, 5
QUICK_SEEDS, QUICK_TUNING, QUICK_ROUNDS = 10, 20, 1


def main() -> None:
    asked = _arguments()
    began = time.monotonic()
    seeds, tuning, rounds = (
        (QUICK_SEEDS, QUICK_TUNING, QUICK_ROUNDS) if asked.quick else (asked.seeds, asked.tuning, ROUNDS)
    )
    only = asked.only.split(",") if asked.only else list(SUBJECTS)
    if asked.costs_only:
        found, environment = results.read(HERE / "results.json")
    else:
        agreed = {} if asked.quick else {data: agreement.check(data) for data in only}
        run = Run(CACHE, seeds, tuning, asked.jobs)
        if asked.afresh or asked.ours_afresh:
            run.forget(ours=asked.ours_afresh)
        seen = run.all(only)
        found = results.rows(seen)
        environment = {"agreement": agreed, "rate": RATE, "tuning": tuning, "seeds": seeds}
    costs = {data: cost.measure(data, rounds) for data in only}
    found = results.priced(found, costs)
    environment |= {
        "command": " ".join(["make bench-drift", *_as_arguments()]),
        "date": date.today().isoformat(),
        "seconds": round(time.monotonic() - began) + (environment.get("seconds", 0) if asked.costs_only else 0),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "libraries": {name: _version(name) for name in cost.LIBRARIES},
    }
    out = asked.out or (CACHE / "results" if asked.quick or asked.only else HERE)
    results.write(out, found, environment)
    picture.write(out, found)
    print(results.text(found, environment))  # noqa: T201


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="diabetes alone, few seeds: what comes out says little")
    parser.add_argument("--only", help=f"of {', '.join(SUBJECTS)}, separated by commas")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="streams of each cell")
    parser.add_argument("--tuning", type=int, default=TUNING, help="undrifted streams that thresholds are tuned on")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--afresh", action="store_true", help="compute again what an earlier run has left")
    parser.add_argument("--ours-afresh", action="store_true", help="the same, of our own detectors alone")
    parser.add_argument("--costs-only", action="store_true", help="measure the costs again, and keep all else")
    parser.add_argument("--out", type=Path, help="where results go")
    asked = parser.parse_args()
    if asked.quick and not asked.only:
        asked.only = "diabetes"
    return asked


def _as_arguments() -> list[str]:
    return [f'ARGS="{" ".join(sys.argv[1:])}"'] if len(sys.argv) > 1 else []


def _version(library: str) -> str:
    asked = f"from importlib.metadata import version; print(version({library!r}))"
    ended = subprocess.run([str(cost.python(library)), "-c", asked], check=True, capture_output=True, text=True)
    return ended.stdout.strip()


if __name__ == "__main__":
    main()
