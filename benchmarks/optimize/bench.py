"""One model, all its rows: made, surveyed, and raced against each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from .made import Made, make
from .prepare import prepare
from .results import Result
from .rows import PEAKS, Row, artifact_folder, rows_of
from .serving import Failed, Server
from .subject import GEMM, Subject
from .timing import Effort, Laps, Point, Racer, best_point, interleave, ratio, survey

THREADS = 2
_SAMPLES = 32
"""That the answers of models with random weights are compared on."""
_OPEN_S = 600.0
_EAGER_AT_ITS_BEST = "eager at its best"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Run:
    """What holds for all models of a run."""

    root: Path
    """Where artifacts and logs are kept."""
    effort: Effort
    told: Callable[[str], None]
    resume: bool = False
    rows: tuple[str, ...] = ()
    """Names; all where it is empty."""

    def folder(self, subject: Subject, row: Row) -> Path:
        return artifact_folder(self.root, subject, row)

    def server(self, subject: Subject, row: Row, stage: str) -> Server:
        folder = self.folder(subject, row)
        return Server(row, folder, folder / f"{stage}.log", threads=THREADS)


@dataclass(frozen=True)
class Entry:
    """A row that was made, opened and surveyed."""

    row: Row
    made: Made
    best: Point
    best_single: Point
    """The batch size with the most samples per second in one stream."""
    build_s: float


def bench(subject: Subject, run: Run, peaks: dict[str, float]) -> list[Result]:
    """The rows of one model. A row that fails is a row with its error; only eager must not fail.

    Raises Failed where eager does."""
    start = time.monotonic()
    run.told(f"{subject.name}: weights and data")
    prepare(subject)
    macs = multiply_accumulates(subject)
    entries: list[Entry] = []
    failed: dict[str, Result] = {}
    for row in rows_of(subject, run.rows):
        try:
            entries.append(_enter(subject, row, run))
        except Failed as error:
            if row.name == "eager":
                raise
            failed[row.name] = Result(subject.name, row.name, row.ours, error=str(error))
            run.told(f"{subject.name}: {row.name} failed: {error}")
    raced = {result.row: result for result in _race(subject, entries, run)}
    for entry in entries:
        if (share := _share(raced[entry.row.name], entry, macs, peaks)) is not None:
            raced[entry.row.name] = replace(raced[entry.row.name], peak_share=share)
    found = {**failed, **raced}
    took = time.monotonic() - start
    return [replace(found[row.name], model_s=took) for row in rows_of(subject, run.rows)]


def measure_peaks(run: Run) -> dict[str, float]:
    """Multiply-accumulates per second of each engine and precision on large matrix products; what fails is left out."""
    prepare(GEMM)
    macs, found = multiply_accumulates(GEMM), {}
    for row in PEAKS:
        run.told(f"matrix peak: {row.name}")
        try:
            make(row, GEMM, run.root, resume=run.resume)
            with run.server(GEMM, row, "survey") as server:
                found[row.name] = max(survey(server, row, GEMM, run.effort).values()) * macs
        except Failed as error:
            run.told(f"matrix peak: {row.name} failed: {error}")
    return found


def multiply_accumulates(subject: Subject) -> float:
    """Of one sample: half of the operations that torch counts."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module = subject.module()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(*(torch.from_numpy(array) for array in subject.feeds(1).values()))
    return float(counter.get_total_flops()) / 2


def _enter(subject: Subject, row: Row, run: Run) -> Entry:
    """Make the row's artifact and find its best operating point."""
    run.told(f"{subject.name}: {row.name}: made")
    made = make(row, subject, run.root, resume=run.resume)
    run.told(f"{subject.name}: {row.name}: surveyed")
    with run.server(subject, row, "survey") as server:
        first = server.ask("open", limit=_OPEN_S, batch=1, streams=1)
        points = survey(server, row, subject, run.effort)
    # torch.compile builds at its first call.
    build_s = made.build_s + (first["seconds"] if row.opener == "compile" else 0.0)
    alone = max((point for point in points if point.streams == 1), key=lambda point: points[point])
    return Entry(row, made, best_point(points), alone, build_s)


@dataclass(frozen=True)
class _Heat:
    """The rows that are still in the race, and what the others ended with."""

    entries: Sequence[Entry]
    servers: Mapping[str, Server]
    told: Callable[[str], None]
    lost: dict[str, str] = field(default_factory=dict)

    @property
    def running(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.row.name not in self.lost]

    def lose(self, name: str, why: str) -> None:
        """Raises Failed where it is eager, which all ratios are against."""
        if name.startswith("eager"):
            raise Failed(f"eager: {why}")
        self.lost[name] = why
        self.told(f"{name} failed in the race: {why}")

    def each(self, ask: Callable[[Entry, Server], _T]) -> dict[str, _T]:
        """What every row answers; those that fail are lost."""
        found = {}
        for entry in self.running:
            name = entry.row.name
            try:
                found[name] = ask(entry, self.servers[name])
            except (Failed, OSError, ValueError) as error:
                self.lose(name, str(error))
        return found

    def interleaved(self, at: Callable[[Entry], Point], effort: Effort, *more: Racer) -> dict[str, Laps]:
        self.each(lambda entry, server: _open(server, at(entry)))
        racers = [Racer(entry.row.name, self.servers[entry.row.name], at(entry)) for entry in self.running]
        laps, errors = interleave([*racers, *more], effort)
        for name, why in errors.items():
            self.lose(name, why)
        return laps


def _race(subject: Subject, entries: Sequence[Entry], run: Run) -> Iterator[Result]:
    run.told(f"{subject.name}: raced, {len(entries)} rows")
    with ExitStack() as stack:
        servers = {entry.row.name: stack.enter_context(run.server(subject, entry.row, "race")) for entry in entries}
        heat = _Heat(entries, servers, run.told)
        eager = next(entry for entry in entries if entry.row.name == "eager")
        # Eager needs no opening, so that it can run at its best batch size between single requests of the others.
        at_its_best = Racer(_EAGER_AT_ITS_BEST, servers["eager"], eager.best_single)
        lone = heat.interleaved(lambda _: Point(1, 1), run.effort, at_its_best)
        best = heat.interleaved(lambda entry: entry.best, run.effort)
        answers = heat.each(lambda entry, server: _answers(subject, entry, server, run))
        results = heat.each(lambda entry, _: _result(subject, entry, lone, best, answers))
        memory = heat.each(lambda _, server: server.ask("memory")["peak_mb"])
        for entry in entries:
            name = entry.row.name
            if name in heat.lost:
                yield Result(subject.name, name, entry.row.ours, build_s=entry.build_s, error=heat.lost[name])
            else:
                yield replace(results[name], rss_mb=memory[name])


def _open(server: Server, point: Point) -> None:
    server.ask("open", limit=_OPEN_S, batch=point.batch, streams=point.streams)


def _answers(subject: Subject, entry: Entry, server: Server, run: Run) -> np.ndarray:
    out = run.folder(subject, entry.row) / "answers.npy"
    split, count = ("calibration", _SAMPLES) if subject.classes is None else ("holdout", 0)
    server.ask("answers", limit=_OPEN_S, split=split, count=count, batch=entry.best.batch, out=str(out))
    found: np.ndarray = np.load(out)
    return found


def _result(
    subject: Subject, entry: Entry, lone: dict[str, Laps], best: dict[str, Laps], answers: dict[str, np.ndarray]
) -> Result:
    name, made = entry.row.name, entry.made
    at_best, single = ratio(best[name], best["eager"]), ratio(lone[name], lone[_EAGER_AT_ITS_BEST])
    trained = subject.classes is not None
    return Result(
        subject.name,
        name,
        entry.row.ours,
        batch1_ms=lone[name].median_ms,
        throughput=best[name].rate,
        ratio_to_eager=at_best.mean,
        ratio_low=at_best.low,
        ratio_high=at_best.high,
        batch1_ratio=single.mean,
        batch1_ratio_low=single.low,
        batch1_ratio_high=single.high,
        batch1_ratio_to_batch1=ratio(lone[name], lone["eager"]).mean,
        metric_drop=_drop(answers["eager"], answers[name], subject.labels("holdout")) if trained else None,
        metric_drop_upper=made.drop_upper,
        confidence=made.confidence,
        holdout=len(answers[name]) if trained else None,
        samples_needed=made.samples_needed,
        sqnr_db=_sqnr(answers["eager"], answers[name]),
        size_mb=made.size_mb,
        build_s=entry.build_s,
        precision=made.precision,
        point=str(entry.best),
        rounds=len(best[name].rates),
        detail=made.detail,
    )


def _drop(eager: np.ndarray, found: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of eager less that of a row."""
    right = [(scores.argmax(axis=1) == labels).mean() for scores in (eager, found)]
    return float(right[0] - right[1])


def _sqnr(eager: np.ndarray, found: np.ndarray) -> float:
    """10 log10(Σ y² / Σ Δ²), at most 999."""
    noise = float(np.square(eager.astype(np.float64) - found).sum())
    signal = float(np.square(eager.astype(np.float64)).sum())
    return 999.0 if noise == 0 else 10 * float(np.log10(signal / noise))


def _share(result: Result, entry: Entry, macs: float, peaks: dict[str, float]) -> float | None:
    peak = peaks.get(entry.made.peak or "")
    return None if peak is None or result.throughput is None else result.throughput * macs / peak
