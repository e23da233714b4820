"""What a worker process does: one function per command, in a table by the command's type."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract import Arrays
from ..data import read_cases, write_cases
from ..errors import MeasureError
from ..runtime import ENGINES, open_runner
from ..runtime.protocol import Runner
from . import messages as say
from .memory import peak_rss_mb
from .timing import closed_loop, warm_up

if TYPE_CHECKING:
    from ..model import LoadedModel


class Duties:
    """Holds the open graph, and the cases that are run on it in the timed loops."""

    def __init__(self) -> None:
        self._runner: Runner | None = None
        self._cases: dict[str, Arrays] = {}

    def do(self, command: say.Command) -> say.Reply:
        return _DUTIES[type(command)](self, command)

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()
        self._runner = None

    @property
    def runner(self) -> Runner:
        if self._runner is None:
            raise MeasureError("a command", "needs an open graph", "open one first")
        return self._runner

    def _open(self, command: say.OpenGraph) -> say.OpenReply:
        self.close()
        self._cases = dict(read_cases(command.feeds, command.cases))
        importlib.import_module(ENGINES[command.artifact.engine].module)
        first = self._cases[command.cases[0]]
        start = time.perf_counter()
        self._runner = open_runner(command.artifact, command.point)
        self._runner.run(first)
        return say.OpenReply(load_s=time.perf_counter() - start)

    def _run(self, command: say.RunCases) -> say.Done:
        run = self.runner.run
        write_cases(command.outputs, ((case, run(feeds)) for case, feeds in read_cases(command.feeds)))
        return say.Done()

    def _kernels(self, _: say.ReadKernels) -> say.KernelsReply:
        return say.KernelsReply(kernels=self.runner.kernels())

    def _time(self, command: say.TimeLoop) -> say.TimeReply:
        run, feeds = self.runner.run, self._cases[command.case]
        warm_up(run, feeds, seconds=command.warm_s, least=command.warm_runs)
        loop = closed_loop(run, feeds, streams=command.streams, seconds=command.seconds, least=command.least)
        return say.TimeReply(rate=loop.rate, times=loop.times)

    def _memory(self, _: say.ReadMemory) -> say.MemoryReply:
        return say.MemoryReply(peak_mb=peak_rss_mb())

    def _export(self, command: say.ExportModel) -> say.ExportReply:
        from ..exporters import export

        probes = [feeds for _, feeds in read_cases(command.probes)]
        model, contract = _model(command.source), command.source.rooted()
        command.directory.mkdir(parents=True, exist_ok=True)
        done = export(model, contract, command.engine, command.precision, command.directory, probes)
        return say.ExportReply(artifact=done.artifact, findings=done.findings, arch=done.arch, isa=done.isa)

    def _check(self, command: say.CheckModel) -> say.CheckReply:
        from ..data import Chunk, Dataset
        from ..preflight import check

        data = None if command.data is None else Dataset(tuple(Chunk(feeds) for _, feeds in read_cases(command.data)))
        report = check(_model(command.source), command.source.rooted(), data)
        return say.CheckReply(findings=report.findings, skipped=report.skipped)

    def _leave(self, _: say.Leave) -> say.Done:
        self.close()
        return say.Done()


def _model(source: say.ModelSource) -> LoadedModel:
    from ..model import load_model

    contract = source.rooted()
    if source.pickle is None:
        return load_model(contract, mend=source.mend)
    live = _unpickled(source.pickle, contract.root)
    if live.module is not None or live.path is None:
        return live
    # What stands behind the model by task.post is in the file already.
    task = contract.task.model_copy(update={"post": None})
    named = contract.model_copy(update={"model": str(live.path), "weights": None, "task": task})
    return replace(live, module=load_model(named).module)


def _unpickled(path: Path, root: Path) -> LoadedModel:
    """The live model of this build's own user, which this build itself has written."""
    import pickle

    from ..model import LoadedModel
    from ..usercode import importing_from

    with importing_from(root), path.open("rb") as stream:
        model = pickle.load(stream)
    assert isinstance(model, LoadedModel), "the build writes nothing else there"
    return model


_DUTIES: dict[type[say.Command], Callable[[Duties, Any], say.Reply]] = {
    say.ExportModel: Duties._export,
    say.CheckModel: Duties._check,
    say.OpenGraph: Duties._open,
    say.RunCases: Duties._run,
    say.ReadKernels: Duties._kernels,
    say.TimeLoop: Duties._time,
    say.ReadMemory: Duties._memory,
    say.Leave: Duties._leave,
}
