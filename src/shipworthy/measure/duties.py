"""What a worker process does: one function per command, in a table by the command's type."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from ..contract import Arrays
from ..data import read_cases, write_cases
from ..errors import MeasureError
from ..runtime import ENGINES, open_runner
from ..runtime.protocol import Runner
from . import messages as say
from .memory import device_memory, peak_rss_mb
from .sources import opened
from .timing import closed_loop, compute_times, least_warm_up, warm_up


class Duties:
    """Holds the open graph, and the cases that are run on it in the timed loops."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` passes on how far a long duty is."""
        self._tell = tell
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
        least = least_warm_up(self.runner, command.warm_runs, command.streams)
        warm_up(run, feeds, seconds=command.warm_s, least=least)
        loop = closed_loop(run, feeds, streams=command.streams, seconds=command.seconds, least=command.least)
        return say.TimeReply(rate=loop.rate, times=loop.times)

    def _device(self, command: say.TimeDevice) -> say.DeviceTimeReply:
        times = compute_times(self.runner, self._cases[command.case], runs=command.runs)
        return say.DeviceTimeReply(times=times)

    def _memory(self, _: say.ReadMemory) -> say.MemoryReply:
        return say.MemoryReply(peak_mb=peak_rss_mb(), device=device_memory(self._runner))

    def _export(self, command: say.ExportModel) -> say.ExportReply:
        from ..exporters import export

        probes = [feeds for _, feeds in read_cases(command.probes)]
        model, contract = opened(command.source), command.source.rooted()
        command.directory.mkdir(parents=True, exist_ok=True)
        done = export(model, contract, command.engine, command.precision, command.directory, probes)
        return say.ExportReply(artifact=done.artifact, findings=done.findings, arch=done.arch, isa=done.isa)

    def _quantize(self, command: say.QuantizeGraph) -> say.ExportReply:
        from .making import quantize

        return quantize(command)

    def _shape(self, command: say.ShapeModel) -> say.ShapeReply:
        from .making import shape

        return shape(command, self._tell)

    def _operators(self, command: say.TimeOperators) -> say.OperatorsReply:
        from ..compress.quantization.gain import costs, fused_of
        from ..runtime.operators import operator_times

        [(_, feeds)] = read_cases(command.feeds, (command.case,))
        times = operator_times(command.artifact, command.point, feeds, seconds=command.seconds)
        fused = fused_of(command.artifact, command.operations)
        return say.OperatorsReply(costs=costs(times, command.operations, fused))

    def _check(self, command: say.CheckModel) -> say.CheckReply:
        from ..data import Chunk, Dataset
        from ..preflight import check

        data = None if command.data is None else Dataset(tuple(Chunk(feeds) for _, feeds in read_cases(command.data)))
        report = check(opened(command.source), command.source.rooted(), data)
        return say.CheckReply(findings=report.findings, skipped=report.skipped)

    def _leave(self, _: say.Leave) -> say.Done:
        self.close()
        return say.Done()


_DUTIES: dict[type[say.Command], Callable[[Duties, Any], say.Reply]] = {
    say.ExportModel: Duties._export,
    say.QuantizeGraph: Duties._quantize,
    say.ShapeModel: Duties._shape,
    say.TimeOperators: Duties._operators,
    say.CheckModel: Duties._check,
    say.OpenGraph: Duties._open,
    say.RunCases: Duties._run,
    say.ReadKernels: Duties._kernels,
    say.TimeLoop: Duties._time,
    say.TimeDevice: Duties._device,
    say.ReadMemory: Duties._memory,
    say.Leave: Duties._leave,
}
