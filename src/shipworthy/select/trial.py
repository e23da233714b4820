"""One candidate through its stages: export, the worth of its answers, its pace, and for a finalist the proof."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from ..compress import AccuracyAware, Static
from ..compress.sizes import folder_bytes, zipped_bytes
from ..contract import Contract
from ..data import read_cases
from ..errors import DataError, MeasureError, MissingExtra, ShipworthyError
from ..evidence import Candidate
from ..measure import (
    Done,
    ExportModel,
    ExportReply,
    KernelsReply,
    OperatorsReply,
    QuantizeGraph,
    ReadKernels,
    RunCases,
    TimeOperators,
    Worker,
    batch_sizes,
    open_graph,
)
from ..quality import Claim, ParityJudge
from ..runtime import ENGINES
from ..runtime.protocol import Artifact, OperatingPoint
from .answers import metric_on
from .bench import Bench
from .contest import Entrant, Rival, pace_of
from .identity import toolchain
from .results import Exported, Operators, Pace, Proof, Quality, Referenced, Refusal, Stage
from .way import Way, artifact_of

S = TypeVar("S", bound=Stage)

_DOING = {
    "export": "export",
    "operators": "the time of each operation",
    "quality": "parity and metric",
    "pace": "latency and throughput",
    "proof": "proof on the holdout",
    "reference": "the reference for production",
}


class Trial:
    """A context manager. The stages share one process until it ends; the export and the race have their own."""

    def __init__(self, bench: Bench, candidate: Candidate, way: Way | None = None) -> None:
        self._bench = bench
        self._candidate = candidate
        self._way = way or Way()
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
        own = Entrant(self._candidate.id, artifact_of(exported), exported.size_mb, exported.zipped_mb)
        return self._once(
            "pace",
            Pace,
            lambda _: pace_of(self._bench, own, self._opened(own.artifact), rivals),
            depends=[rival.key for rival in rivals],
            intact=self._bench.good_enough,
        )

    def operators(self, exported: Exported, point: OperatingPoint, operations: tuple[str, ...]) -> Operators:
        """What these operations of the graph take at an operating point."""
        artifact = artifact_of(exported)
        command = TimeOperators(
            artifact=artifact,
            point=point,
            feeds=self._bench.timing(),
            case=str(point.batch),
            seconds=self._bench.effort.operators_s,
            operations=operations,
        )

        def measure(_: str) -> Operators:
            with self._bench.worker(self._candidate.id, "operators", engine=self._candidate.engine) as worker:
                return Operators(costs=worker.ask(command, OperatorsReply).costs)

        return self._once("operators", Operators, measure, depends=point.model_dump())

    def proof(self, exported: Exported, claim: Claim) -> Proof:
        """The metric on the holdout."""
        artifact = artifact_of(exported)
        depends = [claim.limit, claim.confidence, claim.finalists]
        return self._once("proof", Proof, lambda _: self._proof(artifact, claim), depends=depends)

    def reference(self, exported: Exported, make: Callable[[Path], object]) -> Referenced:
        """What live data will be compared with: `make` writes it into the file that it is given. After it the answers
        to the holdout are read no more."""

        def measure(key: str) -> Referenced:
            file = self._bench.store.reference(key)
            make(file)
            return Referenced(file=file)

        made = self._once(
            "reference", Referenced, measure, intact=lambda found: found.file is None or found.file.exists()
        )
        self._forget(artifact_of(exported), "calibration", "validation", "holdout")
        return made

    def answer(self, artifact: Artifact, split: str) -> Path:
        """The outputs for every case of a split, as a file of cases."""
        path = self._answers(artifact, split)
        feeds = self._bench.feeds(split)
        if not path.exists() and feeds is not None:
            self._opened(artifact).ask(RunCases(feeds=feeds, outputs=path), Done)
        return path

    def _answers(self, artifact: Artifact, split: str) -> Path:
        """Eager's are read by all; any other's bear the key of its graph."""
        return self._bench.answers(self._candidate.id if self._is_baseline else artifact.directory.name, split)

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
                if isinstance(error, MeasureError) and error.gate == "budget":
                    raise
                if self._is_baseline or (isinstance(error, MeasureError) and error.culprit != self._candidate.id):
                    raise
                result = kind(refusal=self._refusal(error, stage))
            return result.model_copy(update={"seconds": time.perf_counter() - start})

        self._bench.progress.doing(f"{self._candidate.id}: {_DOING[stage]}")
        needs = [depends, toolchain(self._candidate.engine), *self._way.key]
        return self._bench.store.once(stage, self._candidate.id, kind, measured, depends=needs, intact=intact)

    def _refusal(self, error: ShipworthyError, stage: str) -> Refusal:
        if isinstance(error, MeasureError):
            return Refusal(gate=error.gate, reason=error.reason)
        gate = "export" if stage == "export" else "parity" if self._loaded else "load"
        prefix = "" if error.culprit == self._candidate.id else f"{error.culprit}: "
        return Refusal(gate=gate, reason=f"{prefix}{error.reason}" + (f"; {error.remedy}" if error.remedy else ""))

    def _export(self, key: str) -> Exported:
        if self._way.shaped is not None and self._way.shaped.refusal is not None:
            return Exported(refusal=self._way.shaped.refusal)
        directory = self._bench.store.artifact(key)
        shutil.rmtree(directory, ignore_errors=True)
        if (same := self._same_file()) is not None:
            shutil.copytree(same.directory, directory)
            artifact = replace(same, precision=self._candidate.precision, directory=directory)
            return self._weighed(ExportReply(artifact=artifact), directory)
        with self._bench.worker(self._candidate.id, "export", pinned=False) as worker:
            # What comes after the export starts beside it: an engine may take seconds to import.
            self._worker = self._start()
            self._bench.expect_racer(self._candidate.id, self._candidate.engine)
            reply = worker.ask(self._making(directory), ExportReply)
        return self._weighed(reply, directory)

    def _same_file(self) -> Artifact | None:
        """The graph in fp32 where the engine takes its precision from how it is opened."""
        lowered = self._way.recipe.quantization is None and self._candidate.precision in ("bf16", "fp16")
        same = lowered and ENGINES[self._candidate.engine].precision_at_opening
        return self._way.base if same else None

    def _weighed(self, reply: ExportReply, directory: Path) -> Exported:
        return Exported(reply=reply, size_mb=folder_bytes(directory) / 1e6, zipped_mb=self._zipped(directory))

    def _zipped(self, directory: Path) -> float | None:
        """It takes seconds for a large graph, so only where it is asked for."""
        asked = self._bench.contract.target.objective == "compressed-size"
        return zipped_bytes(directory) / 1e6 if asked else None

    def _making(self, directory: Path) -> ExportModel | QuantizeGraph:
        bench, candidate, method = self._bench, self._candidate, self._way.recipe.quantization
        source = self._way.source(bench.job.source)
        if method is None:
            return ExportModel(
                source=source,
                engine=candidate.engine,
                precision=candidate.precision,
                directory=directory,
                probes=bench.probes(),
            )
        calibrated, judged = isinstance(method, Static | AccuracyAware), isinstance(method, AccuracyAware)
        return QuantizeGraph(
            source=source,
            engine=candidate.engine,
            method=method,
            directory=directory,
            probes=bench.probes(),
            base=self._way.base,
            calibration=bench.dataset("calibration") if calibrated else None,
            validation=bench.dataset("validation") if judged else None,
            oracle=bench.job.source if judged else None,
        )

    def _opened(self, artifact: Artifact) -> Worker:
        self._worker = self._worker or self._start()
        if not self._loaded:
            point = OperatingPoint(threads=self._bench.contract.target.threads)
            open_graph(self._worker, artifact, point, self._bench.timing(), batch_sizes(self._bench.contract)[:1])
            self._loaded = True
        return self._worker

    def _start(self) -> Worker:
        return self._bench.worker(self._candidate.id, "trial", engine=self._candidate.engine)

    def _quality(self, artifact: Artifact) -> Quality:
        bench, judge = self._bench, ParityJudge(_with_classes(self._bench.contract))
        mine, eager = self.answer(artifact, "probes"), bench.answers(bench.baseline.id, "probes")
        cases = zip(bench.job.probes, read_cases(eager), read_cases(mine), strict=True)
        for feeds, (_, expected), (_, got) in cases:
            judge.add(feeds, expected, got)
        metric, misfit = None, judge.misfit
        if misfit is None:
            metric, misfit = metric_on(bench, self._candidate.id, "validation", self.answer(artifact, "validation"))
        if misfit is None and self._is_baseline:
            # A holdout on which the metric is not defined for eager ends the build now, and not after the sweep.
            _, misfit = metric_on(bench, self._candidate.id, "holdout", self.answer(artifact, "holdout"))
        quality = Quality(
            parity=judge.parity(),
            tolerance=judge.tolerance(),
            misfit=misfit,
            too_far=judge.too_far(self._candidate.precision),
            kernels=self._opened(artifact).ask(ReadKernels(), KernelsReply).kernels,
            metric=metric,
        )
        self._forget(artifact, "probes", "validation")
        return quality

    def _proof(self, artifact: Artifact, claim: Claim) -> Proof:
        answers = self.answer(artifact, "holdout")
        metric, misfit = metric_on(self._bench, self._candidate.id, "holdout", answers, claim)
        return Proof(metric=metric, refusal=None if misfit is None else Refusal(gate="parity", reason=misfit))

    def _forget(self, artifact: Artifact, *splits: str) -> None:
        """Only eager's answers are read again."""
        if not self._is_baseline:
            for split in splits:
                self._answers(artifact, split).unlink(missing_ok=True)

    def _answers_kept(self) -> bool:
        splits = [split for split in ("probes", "validation") if self._bench.feeds(split) is not None]
        kept = all(self._bench.answers(self._candidate.id, split).exists() for split in splits)
        return kept or not self._is_baseline


def _is_there(exported: Exported) -> bool:
    return exported.reply is None or exported.reply.artifact.directory.is_dir()


def _with_classes(contract: Contract) -> frozenset[str]:
    scored = contract.scored
    return frozenset({scored}) if contract.task.kind == "classification" and scored is not None else frozenset()
