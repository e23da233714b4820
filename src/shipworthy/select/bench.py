"""What every trial of a build shares: the job, the store, the files of cases, and the live workers that race."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from ..contract import Arrays, Contract
from ..data import Chunk, Dataset, Splits, write_cases, write_dataset
from ..evidence import Candidate, Finding
from ..measure import Caps, Course, Deadline, Lap, ModelSource, Racer, SurveyTimes, Worker, open_graph, timing_cases
from ..quality import Metric
from ..runtime import ENGINES
from ..runtime.protocol import Artifact, OperatingPoint
from .identity import data_digest
from .progress import Progress
from .results import Pace, Playoff, Shaped
from .store import Store

METRIC_BATCH = 64
"""Samples per run where only the answers matter."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured, and when a worker is given up."""

    caps: Caps = field(default_factory=Caps)
    times: SurveyTimes = field(default_factory=SurveyTimes)
    course: Course = field(default_factory=Course)
    operators_s: float = 1.0
    """For the times of single operations."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that is known before the first candidate."""

    contract: Contract
    """With outputs, and its root as an absolute path."""
    source: ModelSource
    oracle: str
    """The engine that executes the model as it is."""
    splits: Splits
    probes: tuple[Arrays, ...]
    metric: Metric | None
    identity: dict[str, object]
    """What every measurement depends on."""
    findings: tuple[Finding, ...] = ()


@dataclass(slots=True)
class Bench:
    """A context manager: on leaving, no worker is left."""

    job: Job
    store: Store
    effort: Effort
    progress: Progress
    deadline: Deadline = field(default_factory=Deadline)
    budgeted: bool = False
    """Whether races may be cut short."""
    shaped: dict[str, Shaped] = field(default_factory=dict)
    """What the recipes of this build have made of the module, by their names."""
    _racers: dict[str, Racer] = field(default_factory=dict)
    _expected: dict[str, Worker] = field(default_factory=dict)

    @property
    def baseline(self) -> Candidate:
        """The model as it is: what everything is compared with."""
        return Candidate(engine=self.job.oracle, precision="fp32")

    @property
    def contract(self) -> Contract:
        return self.job.contract

    def hurried(self, laps: Mapping[str, Lap]) -> bool:
        """Whether a race may have had fewer rounds than it would have without a budget."""
        return self.budgeted and any(len(lap.rates) < self.effort.course.rounds for lap in laps.values())

    def good_enough(self, raced: Pace | Playoff) -> bool:
        """Whether the result of an earlier race will do: with no budget there is time for all rounds."""
        return self.budgeted or not raced.hurried

    def worker(
        self,
        subject: str,
        stage: str,
        *,
        pinned: bool = True,
        engine: str | None = None,
        told: Callable[[str], None] | None = None,
    ) -> Worker:
        """A fresh process; `pinned` keeps it to the target's threads, and it may import its engine at once."""
        return Worker(
            subject,
            self.store.log(f"{subject}-{stage}"),
            caps=self.effort.caps,
            threads=self.contract.target.threads if pinned else None,
            paths=(self.contract.root,),
            preload=None if engine is None else ENGINES[engine].module,
            deadline=self.deadline,
            told=told,
        )

    def expect_racer(self, subject: str, engine: str) -> None:
        """Start the process of a later race now, while something runs that is not timed."""
        self.retire(subject)
        self._expected[subject] = self.worker(subject, "race", engine=engine)

    def probes(self) -> Path:
        return self._cases("probes", ((f"{number:06d}", feeds) for number, feeds in enumerate(self.job.probes)))

    def feeds(self, split: str) -> Path | None:
        """The inputs of `probes`, or of a split in batches; None where there is no such data."""
        if split == "probes":
            return self.probes()
        data: Dataset | None = getattr(self.job.splits, split)
        if data is None or not len(data):
            return None
        return self._cases(split, ((f"{n:06d}", chunk.inputs) for n, chunk in enumerate(self.batches(split))))

    def batches(self, split: str) -> Iterator[Chunk]:
        """A split in the batches of its cases; nothing where there is no such data."""
        data: Dataset | None = getattr(self.job.splits, split)
        batch = next(iter(self.contract.signature.dynamic()))
        size = METRIC_BATCH if batch.max is None else min(METRIC_BATCH, batch.max)
        return iter(()) if data is None else data.batches(size)

    def dataset(self, split: Literal["train", "calibration", "validation"]) -> Path | None:
        """A data set with its targets, as a file for a worker; None where there is none. The holdout is none of them:
        whatever makes candidates must not see it."""
        data: Dataset | None = getattr(self.job.splits, split)
        if data is None or not len(data):
            return None
        path = self.store.cases(f"data-{split}-{data_digest(data)}")
        return path if path.exists() else write_dataset(path, data)

    def answers(self, subject: str, split: str) -> Path:
        """Where a candidate's outputs for a split are, or will be."""
        return self.store.cases(f"answers-{self.store.key(split, subject)}")

    def timing(self) -> Path:
        return self._cases("timing", timing_cases(self.contract, self.job.splits.validation, self.job.probes[0]))

    def _cases(self, name: str, cases: Iterable[tuple[str, Arrays]]) -> Path:
        path = self.store.cases(f"{name}-{self.store.key('cases', name)}")
        return path if path.exists() else write_cases(path, cases)

    def racer(self, subject: str, artifact: Artifact, point: OperatingPoint) -> tuple[Racer, float | None]:
        """A live worker that has this graph open at this point, and seconds until its first answer if it is new."""
        live = self._racers.get(subject)
        if live is not None and live.point == point:
            return live, None
        worker = self._expected.pop(subject, None)
        self.retire(subject)
        worker = worker or self.worker(subject, "race", engine=artifact.engine)
        self._racers[subject] = Racer(subject, worker, point)
        load_s = open_graph(worker, artifact, point, self.timing(), (point.batch,))
        return self._racers[subject], load_s

    def retire(self, *subjects: str) -> None:
        """End these workers; those that are not there are no fault."""
        for subject in subjects:
            racer = self._racers.pop(subject, None)
            if racer is not None:
                racer.worker.close()
            expected = self._expected.pop(subject, None)
            if expected is not None:
                expected.kill()

    def keep(self, *subjects: str) -> None:
        """End the workers of all others: models in memory cost what the candidates may need."""
        self.retire(*({*self._racers, *self._expected} - {*subjects}))

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for worker in (*(racer.worker for racer in self._racers.values()), *self._expected.values()):
            worker.kill()
        self._racers.clear()
        self._expected.clear()
