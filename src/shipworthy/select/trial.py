"""One candidate through its stages: export, the worth of its answers, its pace, and for a finalist the proof."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from ..contract import Contract
from ..errors import DataError, MeasureError, MissingExtra, ShipworthyError
from ..evidence import Candidate, Speed, ThroughputPoint
from ..measure import (
    Claim,
    Done,
    ExportModel,
    ExportReply,
    KernelsReply,
    Lap,
    MemoryReply,
    Objective,
    ParityJudge,
    Racer,
    ReadKernels,
    ReadMemory,
    RunCases,
    Worker,
    batch_sizes,
    open_graph,
    race,
    ranked,
    read_cases,
    size_ratio,
    speed,
    survey,
)
from ..runtime.protocol import Artifact, OperatingPoint
from .answers import metric_on
from .bench import Bench
from .results import Exported, Pace, Proof, Quality, Refusal, Stage

S = TypeVar("S", bound=Stage)

_CLOSER_LOOKS = 2
"""Operating points that are raced, until one keeps the latency limit there too."""

_DOING = {
    "export": "export",
    "quality": "parity and metric",
    "pace": "latency and throughput",
    "proof": "proof on the holdout",
}


@dataclass(frozen=True, slots=True)
class Rival:
    """Something simpler that was measured already, for a candidate to be compared with."""

    id: str
    artifact: Artifact
    point: OperatingPoint
    size_mb: float


class Trial:
    """A context manager. The stages share one process until it ends; the export and the race have their own."""

    def __init__(self, bench: Bench, candidate: Candidate) -> None:
        self._bench = bench
        self._candidate = candidate
        self._worker: Worker | None = None
        self._loaded = False

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._worker is not None and kind is None:
            self._worker.close()
        elif self._worker is not None:
            self._worker.kill()

    @property
    def _is_baseline(self) -> bool:
        """Its failure is no verdict: without it there is nothing to compare with."""
        return self._candidate == self._bench.baseline

    def export(self) -> Exported:
        """The candidate's graph on disk. Raises MissingExtra where its exporter is not installed."""
        return self._once("export", Exported, self._export, intact=_is_there)

    def quality(self, exported: Exported) -> Quality:
        """Parity on the probes, the metric on the validation data, and what the engine executes."""
        artifact = artifact_of(exported)
        return self._once("quality", Quality, lambda _: self._quality(artifact), intact=lambda _: self._answers_kept())

    def pace(self, exported: Exported, rivals: Sequence[Rival]) -> Pace:
        """The operating points, then a race against the rivals at the best of them."""
        artifact, names = artifact_of(exported), [rival.id for rival in rivals]
        return self._once("pace", Pace, lambda _: self._pace(artifact, exported.size_mb, rivals), depends=names)

    def proof(self, exported: Exported, claim: Claim) -> Proof:
        """The metric on the holdout."""
        artifact = artifact_of(exported)
        depends = [claim.limit, claim.confidence, claim.finalists]
        return self._once("proof", Proof, lambda _: self._proof(artifact, claim), depends=depends)

    def answer(self, artifact: Artifact, split: str) -> Path:
        """The outputs for every case of a split, as a file of cases."""
        path = self._bench.answers(self._candidate.id, split)
        feeds = self._bench.feeds(split)
        if not path.exists() and feeds is not None:
            self._opened(artifact).ask(RunCases(feeds=feeds, outputs=path), Done)
        return path

    def _once(
        self,
        stage: str,
        kind: type[S],
        measure: Callable[[str], S],
        *,
        depends: object = None,
        intact: Callable[[S], bool] | None = None,
    ) -> S:
        """The finished stage; an error that the candidate is to blame for becomes its refusal."""

        def measured(key: str) -> S:
            start = time.perf_counter()
            try:
                result = measure(key)
            except (MissingExtra, DataError):
                raise
            except ShipworthyError as error:
                if self._is_baseline or (isinstance(error, MeasureError) and error.culprit != self._candidate.id):
                    raise
                result = kind(refusal=self._refusal(error, stage))
            return result.model_copy(update={"seconds": time.perf_counter() - start})

        self._bench.progress.doing(f"{self._candidate.id}: {_DOING[stage]}")
        return self._bench.store.once(stage, self._candidate.id, kind, measured, depends=depends, intact=intact)

    def _refusal(self, error: ShipworthyError, stage: str) -> Refusal:
        if isinstance(error, MeasureError):
            return Refusal(gate=error.gate, reason=error.reason)
        gate = "export" if stage == "export" else "parity" if self._loaded else "load"
        prefix = "" if error.culprit == self._candidate.id else f"{error.culprit}: "
        return Refusal(gate=gate, reason=f"{prefix}{error.reason}" + (f"; {error.remedy}" if error.remedy else ""))

    def _export(self, key: str) -> Exported:
        directory = self._bench.store.artifact(key)
        shutil.rmtree(directory, ignore_errors=True)
        command = ExportModel(
            source=self._bench.job.source,
            engine=self._candidate.engine,
            precision=self._candidate.precision,
            directory=directory,
            probes=self._bench.probes(),
        )
        with self._bench.worker(self._candidate.id, "export", pinned=False) as worker:
            reply = worker.ask(command, ExportReply)
        size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
        return Exported(reply=reply, size_mb=size / 1e6)

    def _opened(self, artifact: Artifact) -> Worker:
        if self._worker is None:
            self._worker = self._bench.worker(self._candidate.id, "trial")
            point = OperatingPoint(threads=self._bench.contract.target.threads)
            open_graph(self._worker, artifact, point, self._bench.timing(), batch_sizes(self._bench.contract)[:1])
            self._loaded = True
        return self._worker

    def _quality(self, artifact: Artifact) -> Quality:
        bench, judge = self._bench, ParityJudge(_with_classes(self._bench.contract))
        mine, eager = self.answer(artifact, "probes"), bench.answers(bench.baseline.id, "probes")
        cases = zip(bench.job.probes, read_cases(eager), read_cases(mine), strict=True)
        for feeds, (_, expected), (_, got) in cases:
            judge.add(feeds, expected, got)
        metric, misfit = None, judge.misfit
        if misfit is None:
            metric, misfit = metric_on(bench, "validation", self.answer(artifact, "validation"))
        quality = Quality(
            parity=judge.parity(),
            tolerance=judge.tolerance(),
            misfit=misfit,
            too_far=judge.too_far(self._candidate.precision),
            kernels=self._opened(artifact).ask(ReadKernels(), KernelsReply).kernels,
            metric=metric,
        )
        self._forget("probes", "validation")
        return quality

    def _proof(self, artifact: Artifact, claim: Claim) -> Proof:
        metric, misfit = metric_on(self._bench, "holdout", self.answer(artifact, "holdout"), claim)
        self._forget("holdout")
        return Proof(metric=metric, refusal=None if misfit is None else Refusal(gate="parity", reason=misfit))

    def _forget(self, *splits: str) -> None:
        """Only eager's answers are read again."""
        if not self._is_baseline:
            for split in splits:
                self._bench.answers(self._candidate.id, split).unlink(missing_ok=True)

    def _answers_kept(self) -> bool:
        splits = [split for split in ("probes", "validation") if self._bench.feeds(split) is not None]
        kept = all(self._bench.answers(self._candidate.id, split).exists() for split in splits)
        return kept or not self._is_baseline

    def _pace(self, artifact: Artifact, size_mb: float, rivals: Sequence[Rival]) -> Pace:
        bench, contract = self._bench, self._bench.contract
        seen = survey(self._opened(artifact), artifact, contract, bench.timing(), times=bench.effort.times)
        limit = contract.limits.p99_ms
        pace = Pace(latency=seen.latency, throughput=seen.throughput)
        for point in self._worth_racing(seen.throughput):
            raced = self._race(artifact, point.point, rivals)
            closer = raced.laps[self._candidate.id].throughput()
            points = tuple(closer if old.point == closer.point else old for old in pace.throughput)
            pace = pace.model_copy(update={"throughput": points})
            if limit is None or closer.p99_ms <= limit or self._is_baseline:
                found = {"best": point.point, "load_s": raced.load_s, "rss_mb": raced.rss_mb}
                return pace.model_copy(update={**found, "speed": self._speeds(raced.laps, size_mb, rivals)})
        return pace

    def _worth_racing(self, points: Sequence[ThroughputPoint]) -> list[ThroughputPoint]:
        """The best few, and last the one with the lowest p99: only if that one is too slow are all of them."""
        contract = self._bench.contract
        found = ranked(points, contract.target, contract.limits.p99_ms)
        if not found:
            # Eager is raced even where it is too slow for the contract.
            return ranked(points, contract.target, None)[:1] if self._is_baseline else []
        surest = min(found, key=lambda point: point.p99_ms)
        return list(dict.fromkeys((*found[:_CLOSER_LOOKS], surest)))

    def _race(self, artifact: Artifact, point: OperatingPoint, rivals: Sequence[Rival]) -> _Raced:
        bench, mine = self._bench, self._candidate.id
        bench.retire(mine)
        own, load_s = bench.racer(mine, artifact, point)
        laps = self._laps(own, rivals)
        return _Raced(laps, load_s, own.worker.ask(ReadMemory(), MemoryReply).peak_mb)

    def _laps(self, own: Racer, rivals: Sequence[Rival]) -> dict[str, Lap]:
        """A rival that dies here had passed its own trial: it is opened anew, once."""
        bench = self._bench
        for last_time in (False, True):
            try:
                racers = [bench.racer(rival.id, rival.artifact, rival.point)[0] for rival in rivals]
                return race([*racers, own], _rate(bench.contract), bench.effort.course)
            except MeasureError as error:
                if error.culprit == own.id or last_time:
                    raise
                bench.retire(error.culprit)
        raise AssertionError("the second time returns or raises")

    def _speeds(self, laps: dict[str, Lap], size_mb: float, rivals: Sequence[Rival]) -> tuple[Speed, ...]:
        contract, own = self._bench.contract, laps[self._candidate.id]
        speeds = [speed(own, laps[rival.id], _rate(contract)) for rival in rivals]
        if contract.target.objective == "size":
            speeds += [size_ratio(size_mb, rival.size_mb, rival.id) for rival in rivals]
        return tuple(speeds)


@dataclass(frozen=True, slots=True)
class _Raced:
    laps: dict[str, Lap]
    load_s: float | None
    rss_mb: float


def artifact_of(exported: Exported) -> Artifact:
    assert exported.reply is not None, "only an export that succeeded is taken further"
    return exported.reply.artifact


def _is_there(exported: Exported) -> bool:
    return exported.reply is None or exported.reply.artifact.directory.is_dir()


def _rate(contract: Contract) -> Objective:
    """What a race compares: where size is the objective, throughput is still of interest."""
    return "latency" if contract.target.objective == "latency" else "throughput"


def _with_classes(contract: Contract) -> frozenset[str]:
    scored = contract.scored
    return frozenset({scored}) if contract.task.kind == "classification" and scored is not None else frozenset()
