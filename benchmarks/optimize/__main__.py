"""`make bench-optimize`: all models, all rows, one run; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time

from . import picture, results
from .bench import Run, bench, measure_peaks
from .rows import ROWS, subjects_named
from .serving import Failed
from .subject import CACHE, HERE, SUBJECTS
from .timing import Effort


def main(words: list[str]) -> int:
    said = _arguments(words)
    whole = not (said.only or said.rows or said.quick)
    out = said.out or (HERE if whole else CACHE / "results")
    start = time.monotonic()

    def told(text: str) -> None:
        print(f"{time.monotonic() - start:7.1f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201

    effort = Effort.quick() if said.quick else Effort()
    run = Run(CACHE / "artifacts", effort, told, resume=said.resume, rows=said.rows)
    if not said.resume:
        shutil.rmtree(run.root / "gemm", ignore_errors=True)
    peaks = {} if said.no_peaks else measure_peaks(run)
    rows = results.read(out / "results.json") if said.keep else []
    command = shlex.join(["make", "bench-optimize", *([f"ARGS={shlex.join(words)}"] if words else [])])
    made_by = f"`{command}`" + (", which kept the rows of the other models from runs before it," if rows else "")
    failed = 0
    for subject in subjects_named(said.only):
        try:
            found = bench(subject, run, peaks)
        except Failed as error:
            told(f"{subject.name}: {error}")
            failed += 1
            continue
        rows = results.merged(rows, found)
        results.write(out, rows, peaks, made_by)
        picture.write(out, rows)
        told(f"{subject.name}: written to {out}")
    return 1 if failed else 0


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-optimize ARGS=…", description=__doc__)
    models, rows = (tuple(one.name for one in table) for table in (SUBJECTS, ROWS))
    parser.add_argument(
        "--only", type=_names(models), default=(), help="models, with commas between: " + ", ".join(models)
    )
    parser.add_argument("--rows", type=_names(rows), default=(), help="rows, eager always: " + ", ".join(rows))
    parser.add_argument("--quick", action="store_true", help="short surveys and few rounds")
    parser.add_argument("--resume", action="store_true", help="take artifacts that an earlier run has built")
    parser.add_argument("--keep", action="store_true", help="keep the results of models that are not run now")
    parser.add_argument("--no-peaks", action="store_true", help="leave the matrix peaks, and the shares of them, out")
    parser.add_argument("--out", type=_folder, help="where results go; by default here, a part of the run elsewhere")
    return parser.parse_args(words)


def _names(known: tuple[str, ...]):  # type: ignore[no-untyped-def]
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: the names are {', '.join(known)}")
        return names

    return parse


def _folder(text: str):  # type: ignore[no-untyped-def]
    from pathlib import Path

    return Path(text).resolve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
