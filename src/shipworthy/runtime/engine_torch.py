"""Eager torch: the oracle. It needs the user's own code, so it is never packed."""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..contract import Array
from ..errors import EngineError
from .cuda import CUDA, CudaRunner, need_cuda
from .cuda_graphs import OnDevice
from .feeds import example_feeds
from .guarded import GuardedRunner, first_line
from .protocol import Artifact, Kernel, OperatingPoint, Runner
from .torch_profile import profiled_kernels
from .torch_tensors import ThreadLimit, flat_tensors, need_torch, to_arrays, to_tensors


class TorchEngine:
    name = "torch"
    extra = "build"
    module = "torch"
    executes_code = True
    precision_at_opening = False
    packable = False
    entry = "module.pkl"

    def open(self, artifact: Artifact, point: OperatingPoint) -> Runner:
        """Opens module.pkl, or module.pt or module.pt2 where the model came as one of these."""
        need_torch(self.name)
        if artifact.device == CUDA:
            need_cuda(self.name)
        return callable_runner(artifact, point, _load(artifact.directory, artifact.device))


def callable_runner(artifact: Artifact, point: OperatingPoint, module: Any) -> GuardedRunner:
    """Over a module whose weights are on the artifact's device."""
    threads = ThreadLimit(point)
    if artifact.device != CUDA:
        return GuardedRunner(artifact, point, CallableGraph(artifact, module, threads))
    import torch

    def call(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        threads.apply()
        with torch.inference_mode():
            return flat_tensors(module(*inputs))

    def kernels(graph: OnDevice) -> tuple[Kernel, ...]:
        feeds = example_feeds(artifact.signature)
        graph.execute(feeds)
        return profiled_kernels(lambda: graph.execute(feeds))

    return CudaRunner(artifact, point, OnDevice(call, kernels, streams=point.streams, capture=False))


class CallableGraph:
    """A module that takes tensors in the order of the signature's inputs and returns one tensor or a tuple."""

    def __init__(self, artifact: Artifact, module: Any, threads: ThreadLimit) -> None:
        self._signature = artifact.signature
        self._module = module
        self._threads = threads

    def execute(self, feeds: dict[str, Array]) -> Sequence[Array]:
        import torch

        self._threads.apply()
        with torch.inference_mode():
            return to_arrays(flat_tensors(self._module(*to_tensors(feeds.values()))))

    def kernels(self) -> tuple[Kernel, ...]:
        feeds = example_feeds(self._signature)
        self.execute(feeds)
        return profiled_kernels(lambda: self.execute(feeds))

    def release(self) -> None:
        self._module = None


def _load(directory: Path, device: str) -> Any:
    import torch

    if (directory / "module.pt").exists():
        return load_script(directory / "module.pt", device)
    if (directory / "module.pt2").exists():
        program = torch.export.load(str(directory / "module.pt2"))
        if device != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        return program.module()
    return _unpickle(directory / TorchEngine.entry).to(device)


def load_script(path: Path, device: str = "cpu") -> Any:
    """A TorchScript module on a device. Raises EngineError where the file is none."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise EngineError(str(path), f"cannot be loaded: {first_line(error)}", "export the model again") from error


def _unpickle(path: Path) -> Any:
    """Two pickles in a row: the sys.path that the module's classes were imported with, then the module.

    Only a build's own work folder holds such a file; a package never does."""
    try:
        with path.open("rb") as file:
            sys.path.extend(entry for entry in pickle.load(file) if entry not in sys.path)
            return pickle.load(file)
    except (ImportError, AttributeError) as error:
        raise EngineError(
            str(path), f"the module's class cannot be imported here: {first_line(error)}", "keep its file in place"
        ) from error
    except Exception as error:  # unpickling what is damaged raises anything
        raise EngineError(str(path), f"cannot be read: {first_line(error)}", "export the model again") from error
