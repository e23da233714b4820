"""One cell after the other: what each detector makes of its streams, on several processors, kept as it comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from .detectors import DETECTORS, Detector
from .paths import tuned
from .shifts import SHARES, SHIFTS
from .streams import CAP, Scene, Table, draw, tabulate
from .subjects import SUBJECTS

RATE = 0.05
"""Of undrifted streams that alarm within CAP samples, where all detectors have the same."""
NONE = "none"
"""The name of no shift."""
UNDRIFTED = 5
"""Times as many streams measure the rate of false alarms, which is small."""
TOGETHER = 100
"""Streams of a task."""
Thresholds = dict[str, dict[str, float]]
"""Of each detector: `equal`, and `own` followed by what a setting adds to its name."""


@dataclass(frozen=True)
class Cell:
    data: str
    shift: str
    share: float


@dataclass(frozen=True)
class Seen:
    """What one setting of one detector made of the streams of a cell."""

    data: str
    shift: str
    share: float
    detector: str
    setting: str
    ours: bool
    threshold: float
    delays: tuple[int, ...]
    """Of each seed; CAP + 1 where there was no alarm."""


def cells(data: str) -> Iterator[Cell]:
    yield Cell(data, NONE, 0.0)
    for shift in SHIFTS:
        if data in shift.subjects:
            for share in SHARES:
                yield Cell(data, shift.name, share)


def detectors(data: str) -> list[Detector]:
    return [each for each in DETECTORS if SUBJECTS[data]().classifies or not each.classification]


@lru_cache(maxsize=1)
def _table(data: str, shift: str) -> Table:
    return tabulate(SUBJECTS[data](), next((each for each in SHIFTS if each.name == shift), None))


def tune(data: str, seeds: range, names: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each detector named the highest number of each undrifted stream, and the numbers of all looks."""
    scene = draw(_table(data, NONE), "tuning", 0.0, seeds)
    found = {}
    for detector in (each for each in detectors(data) if each.name in names):
        paths = detector.paths(scene)
        looks = paths.statistic.ravel() if detector.own_rate is not None else np.empty(0)
        found[detector.name] = paths.highest, looks
    return found


def look(cell: Cell, seeds: range, thresholds: Thresholds) -> list[Seen]:
    """The cell as each detector sees it of which there are thresholds, at each of its settings."""
    scene = draw(_table(cell.data, cell.shift), cell.shift, cell.share, seeds)
    named = [each for each in detectors(cell.data) if each.name in thresholds]
    return [seen for each in named for seen in _seen(cell, scene, each, thresholds[each.name])]


def _seen(cell: Cell, scene: Scene, detector: Detector, thresholds: Mapping[str, float]) -> Iterator[Seen]:
    paths = detector.some(scene, list(thresholds.values())) if detector.some else detector.paths(scene)
    for setting, threshold in thresholds.items():
        own = setting != "equal"
        yield Seen(
            **asdict(cell),
            detector=detector.name + setting.removeprefix("own") if own else detector.name,
            setting="own" if own else "equal",
            ours=detector.ours,
            threshold=threshold,
            delays=tuple(int(delay) for delay in paths.delays(threshold)),
        )


class Run:
    """Tuning first, then the cells of each subject. What is in the folder already is not computed again."""

    def __init__(self, folder: Path, seeds: int, tuning: int, jobs: int) -> None:
        self._folder, self._seeds, self._tuning, self._jobs = folder, seeds, tuning, jobs
        folder.mkdir(parents=True, exist_ok=True)
        self._kept = folder / f"seen-{seeds}-{tuning}.jsonl"

    def all(self, only: list[str]) -> list[Seen]:
        """In the order of subjects, cells and detectors."""
        seen = self._earlier()
        with ProcessPoolExecutor(self._jobs, mp_context=get_context("spawn")) as pool:
            for data in only:
                thresholds = self._thresholds(pool, data)
                tasks = dict(self._tasks(pool, data, thresholds, seen))
                for task in as_completed(tasks):
                    found = task.result()
                    seen += found
                    with self._kept.open("a") as file:
                        file.writelines(json.dumps(asdict(each)) + "\n" for each in found)
                    print(tasks[task], _short(found), flush=True)  # noqa: T201
        return sorted((each for each in seen if each.data in only), key=_order(only))

    def forget(self, *, ours: bool) -> None:
        """What was found before; with `ours` only of our own detectors."""
        own = {each.name for each in DETECTORS if each.ours}
        seen = [each for each in self._earlier() if ours and not each.ours]
        self._kept.write_text("".join(json.dumps(asdict(each)) + "\n" for each in seen))
        for data in SUBJECTS:
            kept = {name: each for name, each in self._tuned(data).items() if ours and name not in own}
            self._file(data).write_text(json.dumps(kept, indent=1))

    def _earlier(self) -> list[Seen]:
        if not self._kept.exists():
            return []
        lines = self._kept.read_text().splitlines()
        return [Seen(**{**row, "delays": tuple(row["delays"])}) for row in map(json.loads, lines)]

    def _tasks(
        self, pool: ProcessPoolExecutor, data: str, thresholds: Thresholds, seen: list[Seen]
    ) -> Iterator[tuple[Future[list[Seen]], Cell]]:
        done = {(Cell(each.data, each.shift, each.share), name) for each in seen for name in _names(each)}
        for cell in cells(data):
            wanted = {name: each for name, each in thresholds.items() if (cell, name) not in done}
            if wanted:
                seeds = self._seeds * (UNDRIFTED if cell.shift == NONE else 1)
                yield pool.submit(look, cell, range(seeds), wanted), cell

    def _file(self, data: str) -> Path:
        return self._folder / f"thresholds-{self._tuning}-{data}.json"

    def _tuned(self, data: str) -> Thresholds:
        file = self._file(data)
        found: Thresholds = json.loads(file.read_text()) if file.exists() else {}
        return found

    def _thresholds(self, pool: ProcessPoolExecutor, data: str) -> Thresholds:
        found = self._tuned(data)
        wanted = [each for each in detectors(data) if each.name not in found]
        if wanted:
            starts = range(0, self._tuning, TOGETHER)
            names = [each.name for each in wanted]
            tasks = [pool.submit(tune, data, range(at, min(at + TOGETHER, self._tuning)), names) for at in starts]
            parts = [task.result() for task in tasks]
            found |= {each.name: _tuned(each, [part[each.name] for part in parts]) for each in wanted}
            self._file(data).write_text(json.dumps(found, indent=1))
            print(data, "tuned", flush=True)  # noqa: T201
        return found


def _names(seen: Seen) -> list[str]:
    """The detector of a row, whose name a setting may have added to."""
    return [each.name for each in DETECTORS if seen.detector.startswith(each.name)]


def _order(only: list[str]) -> Callable[[Seen], tuple[int, ...]]:
    shifts, names = [NONE, *(each.name for each in SHIFTS)], [each.name for each in DETECTORS]

    def key(seen: Seen) -> tuple[int, ...]:
        place = names.index(max(_names(seen), key=len))
        return only.index(seen.data), shifts.index(seen.shift), round(100 * seen.share), place

    return key


def _tuned(detector: Detector, parts: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    highest, looks = (np.concatenate(each) for each in zip(*parts, strict=True))
    own = {f"own{adds}": threshold for adds, threshold in detector.own.items()}
    if detector.own_rate is not None:
        own[f"own p < {detector.own_rate:g}".replace("0.", ".")] = float(np.quantile(looks, 1 - detector.own_rate))
    return {"equal": tuned(highest, RATE), **own}


def _short(found: list[Seen]) -> str:
    equal = [each for each in found if each.setting == "equal"]
    best = sorted(equal, key=lambda each: (np.median(each.delays), -np.mean(np.array(each.delays) <= CAP)))
    words = [
        f"{each.detector} {np.median(each.delays):.0f}/{np.mean(np.array(each.delays) <= CAP):.2f}" for each in best
    ]
    return "; ".join(words[:4])
