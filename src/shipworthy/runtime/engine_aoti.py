"""AOTInductor: a graph compiled ahead of time into a shared library, inside a .pt2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..contract import Array
from ..errors import EngineError
from .aoti_source import compiled_kernels, wrapper_source
from .cuda import CUDA, CudaRunner, need_cuda, taken_by
from .cuda_graphs import OnDevice
from .guarded import GuardedRunner, first_line
from .protocol import Artifact, Kernel, OperatingPoint, Runner
from .torch_tensors import ThreadLimit, need_torch, to_arrays, to_tensors


class AotiEngine:
    name = "aoti"
    extra = "build"
    module = "torch"
    executes_code = True
    precision_at_opening = False
    packable = True
    entry = "model.pt2"

    def open(self, artifact: Artifact, point: OperatingPoint) -> Runner:
        need_torch(self.name)
        path = artifact.directory / self.entry
        if artifact.device == CUDA:
            return _on_cuda(artifact, point, path)
        threads = ThreadLimit(point)
        return GuardedRunner(artifact, point, _Compiled(path, _load(path, num_runners=point.streams), threads))


def _load(path: Path, **settings: Any) -> Any:
    from torch._inductor.package.package import load_package

    try:
        return load_package(str(path), **settings)
    except (RuntimeError, ValueError, OSError) as error:
        raise EngineError(
            str(path), f"cannot be loaded: {first_line(error)}", "compile it on this kind of host"
        ) from error


_WAITS = re.compile(r"\baoti_torch_(?:cpu_|item_|(?:cuda_)?_local_scalar_dense|(?:cuda_)?(?:nonzero|masked_select))")
"""Calls of the generated code that need the CPU in the middle of a run: such a graph cannot be captured."""


def _on_cuda(artifact: Artifact, point: OperatingPoint, path: Path) -> Runner:
    """One copy of the weights for all streams. Without its threads' bookkeeping, which asks the device for events,
    AOTInductor's code can be captured; OnDevice then takes care that only one thread calls it at a time."""
    need_cuda(AotiEngine.name)
    threads = ThreadLimit(point)
    package, held = taken_by(lambda: _load(path, run_single_threaded=True))

    def call(inputs: list[Any]) -> list[Any]:
        threads.apply()
        return list(package.loader.boxed_run(inputs))

    capture = _WAITS.search(wrapper_source(path)) is None
    graph = OnDevice(call, lambda _: compiled_kernels(path), streams=point.streams, capture=capture, serial=True)
    return CudaRunner(artifact, point, graph, held)


class _Compiled:
    def __init__(self, path: Path, package: Any, threads: ThreadLimit) -> None:
        self._path = path
        self._loader = package.loader
        self._threads = threads

    def execute(self, feeds: dict[str, Array]) -> Sequence[Array]:
        # The loader itself takes and gives flat lists; calling the package would parse its call spec on every run.
        self._threads.apply()
        return to_arrays(self._loader.boxed_run(to_tensors(feeds.values())))

    def kernels(self) -> tuple[Kernel, ...]:
        return compiled_kernels(self._path)

    def release(self) -> None:
        self._loader = None
