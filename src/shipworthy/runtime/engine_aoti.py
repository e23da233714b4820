"""AOTInductor: a graph compiled ahead of time into a shared library, inside a .pt2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..contract import Array
from ..errors import EngineError
from .aoti_source import compiled_kernels
from .guarded import GuardedRunner, first_line
from .protocol import Artifact, Kernel, OperatingPoint, Runner
from .torch_tensors import ThreadLimit, need_torch, to_arrays, to_tensors


class AotiEngine:
    name = "aoti"
    extra = "build"
    module = "torch"
    executes_code = True
    packable = True
    entry = "model.pt2"

    def open(self, artifact: Artifact, point: OperatingPoint) -> Runner:
        need_torch(self.name)
        from torch._inductor.package.package import load_package

        path = artifact.directory / self.entry
        threads = ThreadLimit(point)
        try:
            package = load_package(str(path), num_runners=point.streams)
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(
                str(path), f"cannot be loaded: {first_line(error)}", "compile it on this kind of host"
            ) from error
        return GuardedRunner(artifact, point, _Compiled(path, package, threads))


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
