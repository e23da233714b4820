"""What a row's maker leaves beside its artifact, and the process that runs a maker."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from .rows import PEAKS, ROWS, Row, artifact_folder
from .serving import Failed, environment, last_words, run_to_end
from .subject import Subject, read_subject

LONGEST_S = 1200.0


@dataclass(frozen=True)
class Made:
    """How an artifact came to be."""

    build_s: float = 0.0
    size_mb: float = 0.0
    """Of the files that are deployed, in 10^6 bytes."""
    precision: str | None = None
    peak: str | None = None
    """The matrix peak that it is measured against, such as `openvino-int8`."""
    detail: str = ""
    """What was chosen, in a few words."""
    drop_upper: float | None = None
    """Upper bound of the metric's drop that the build itself has proven on the holdout."""
    confidence: float | None = None
    samples_needed: int | None = None


def make(row: Row, subject: Subject, root: Path, *, resume: bool) -> Made:
    """Run the row's maker in a process of its own environment, or take what an earlier run has made.

    Raises Failed with its last words."""
    folder = artifact_folder(root, subject, row)
    told = folder / "made.json"
    if resume and told.exists():
        return Made(**json.loads(told.read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subject.write(folder / "subject.json")
    if not Path(row.python).exists():
        raise Failed(f"there is no environment {row.environment!r}: `make bench-optimize` makes it")
    log = folder / "make.log"
    command = [row.python, "-m", f"{__package__}.made", row.name, str(folder)]
    code = run_to_end(command, log, environment(threads=None, cache=folder / "inductor"), LONGEST_S)
    if code != 0 or not told.exists():
        raise Failed(last_words(log) or f"its maker ended with status {code}")
    return Made(**json.loads(told.read_text()))


def main(name: str, folder: Path) -> None:
    """In the child: import the maker, which is not counted, and time it."""
    row = next(row for row in (*ROWS, *PEAKS) if row.name == name and (folder.parent.name == "gemm") == (row in PEAKS))
    subject = read_subject(folder / "subject.json")
    module, _, function = row.maker.partition(":")
    maker = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    start = time.perf_counter()
    said = maker(subject, folder, row.name)
    parts = {"build_s": time.perf_counter() - start, "peak": row.peak, **said}
    (folder / "made.json").write_text(json.dumps(asdict(Made(**parts)), indent=1))


def megabytes(*places: Path) -> float:
    """Of files, and of folders with all that is in them."""
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else (place,))]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
