"""Runners on a CUDA device, and whether there is one.

A runner here can also say how long the device itself computes, and what memory it holds there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..contract import Arrays
from ..errors import EngineError
from .cuda_graphs import RUNS_UNTIL_CAPTURED, OnDevice
from .guarded import GuardedRunner
from .host import Host, cuda_lacking, this_host
from .protocol import Artifact, OperatingPoint

CUDA = "cuda"


class CudaRunner(GuardedRunner):
    """A runner that can say how long the device itself computes, and what it holds there."""

    def __init__(self, artifact: Artifact, point: OperatingPoint, graph: OnDevice, held: int = 0) -> None:
        super().__init__(artifact, point, graph)
        self._on_device = graph
        self.held = held
        """Bytes of device memory that the engine took past torch's allocator when it was loaded."""

    @property
    def not_captured(self) -> str | None:
        """Why no CUDA graphs are used, where the first attempt has failed."""
        return next((lane.refusal for lane in self._on_device.lanes if lane.refusal is not None), None)

    def compute_times(self, feeds: Arrays, runs: int) -> tuple[float, ...]:
        """Seconds that the device computes in each of `runs`, by its own events: no copies, no waiting in Python."""
        arrays = self._gate.accept(feeds)
        stream = self._enter()
        try:
            for _ in range(RUNS_UNTIL_CAPTURED * len(self._on_device.lanes)):
                self._on_device.execute(arrays)
            return tuple(self._on_device.compute_seconds(arrays) for _ in range(runs))
        finally:
            self._streams.put(stream)


def need_cuda(engine: str, host: Host | None = None) -> None:
    """Raises EngineError where there is no GPU that torch can use; else makes fp32 mean fp32.

    TF32, which cuDNN uses for fp32 convolutions unless told otherwise, keeps 10 bits of a mantissa: further from fp32
    than parity allows."""
    if (lacking := cuda_lacking(host or this_host())) is not None:
        raise EngineError(f"the engine {engine!r} on cuda", *lacking)
    import torch

    if not torch.cuda.is_available():
        raise EngineError(
            f"the engine {engine!r} on cuda",
            f"torch {torch.__version__} sees no CUDA device",
            "compare the driver's CUDA version (nvidia-smi) with torch.version.cuda, and look at CUDA_VISIBLE_DEVICES",
        )
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def cuda_refusal(host: Host | None = None) -> tuple[str, str] | None:
    """Why nothing can be measured on a GPU here, and the remedy; None where it can. Imports torch."""
    try:
        need_cuda("torch", host)
    except EngineError as error:
        return error.reason, error.remedy
    return None


def taken_by(load: Callable[[], Any]) -> tuple[Any, int]:
    """What `load` gives, and the bytes of device memory that it took past torch's allocator.

    The device counts for all processes, so that this is exact only where no other one uses it meanwhile."""
    import torch

    torch.cuda.init()  # type: ignore[no-untyped-call]
    free, _ = torch.cuda.mem_get_info()
    reserved = torch.cuda.memory_reserved()
    loaded = load()
    torch.cuda.synchronize()
    after, _ = torch.cuda.mem_get_info()
    return loaded, max(0, free - after - (torch.cuda.memory_reserved() - reserved))
