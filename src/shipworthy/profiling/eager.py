"""The model in eager PyTorch under torch.profiler: operations, regions, modules, memory, and a trace."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..model.run import to_tensors
from ..runtime.torch_profile import without_profiler_chatter
from ..usercode import running
from .calls import Calls
from .memory import cuda_memory, held_at_once, reset_cuda_peaks
from .modules import annotated, count_flops, module_rows, paths_of
from .operators import operator_rows, region_rows
from .report import TorchProfile
from .subject import Subject

if TYPE_CHECKING:
    import torch

WARM_UP = 3
"""Runs before the first one that counts, without the profiler."""
_TIMED = 10


def profile_eager(subject: Subject, steps: int, device: str, trace: Path | None) -> TorchProfile:
    """Run the model `steps` times under the profiler, and write the Chrome trace where one is wanted.

    Times are means over the faster half of the runs, and hold what the profiler and the modules' names cost.
    Raises ModelError, with the user's line, where the model fails."""
    import torch

    module = subject.model.module
    assert module is not None, "an .onnx file has no module"
    threads = torch.get_num_threads()
    torch.set_num_threads(subject.contract.target.threads)
    culprit = subject.contract.model or subject.contract.name
    try:
        with _quiet(), running(subject.contract.root, culprit, ModelError), torch.no_grad():
            if device != "cpu":
                module.to(device)
            inputs = tuple(tensor.to(device) for tensor in to_tensors(subject.contract.signature, subject.feeds))
            found = _profiled(subject, module, inputs, steps, device, trace)
    finally:
        if device != "cpu":
            module.to("cpu")
        torch.set_num_threads(threads)
    return found


def _profiled(
    subject: Subject,
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    steps: int,
    device: str,
    trace: Path | None,
) -> TorchProfile:
    run_us = _clean_time(lambda: module(*inputs), device)
    flops = count_flops(module, inputs)
    reset_cuda_peaks(device)
    with without_profiler_chatter(), annotated(module):
        session = _record(lambda: module(*inputs), steps, device)
    if trace is not None:
        _write_trace(session, trace)
    calls = Calls(session.events(), paths_of(module), on_cuda=device != "cpu")
    rows = module_rows(module, calls, flops)
    return TorchProfile(
        device=device if device == "cpu" else _device_name(),
        threads=subject.contract.target.threads,
        batch=subject.batch,
        steps=steps,
        counted=calls.steps,
        feeds={name: f"{array.dtype} {list(array.shape)}" for name, array in subject.feeds.items()},
        run_us=run_us,
        profiled_us=calls.step_us,
        parameters=rows[0].parameters,
        bytes=rows[0].bytes,
        flops=flops.total,
        uncounted=flops.uncounted,
        peak_bytes=held_at_once(session),
        cuda=cuda_memory(device),
        operators=operator_rows(calls),
        regions=region_rows(calls),
        modules=rows,
        flame=calls.flame(),
    )


def _clean_time(run: Callable[[], object], device: str) -> float:
    """Of the faster half of some runs without the profiler, in microseconds."""
    wait = _synchronise(device)
    for _ in range(WARM_UP):
        run()
    wait()
    times = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.fmean(sorted(times)[: _TIMED // 2]) * 1e6


def _record(run: Callable[[], object], steps: int, device: str) -> Any:
    """One warm-up step in the profiler, which starts it, and `steps` that it records."""
    from torch.profiler import ProfilerActivity, profile, schedule

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device != "cpu" else [])]
    wait = _synchronise(device)
    with profile(
        activities=activities,
        record_shapes=True,
        profile_memory=True,
        with_flops=True,
        schedule=schedule(wait=0, warmup=1, active=steps, repeat=1),
    ) as session:
        for _ in range(1 + steps):
            run()
            wait()
            session.step()
    return session


def _synchronise(device: str) -> Callable[[], object]:
    import torch

    return (lambda: None) if device == "cpu" else torch.cuda.synchronize


def _device_name() -> str:
    import torch

    return f"cuda ({torch.cuda.get_device_name()})"


def _write_trace(session: Any, path: Path) -> None:
    """The file appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".shipworthy-") as folder:
        unfinished = Path(folder) / "trace.json"
        session.export_chrome_trace(str(unfinished))
        unfinished.replace(path)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
