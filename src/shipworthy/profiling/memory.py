"""Memory while a model runs: the most held at once on the processor, and what the CUDA allocator says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .report import CudaMemory

if TYPE_CHECKING:
    from torch.profiler import profile


def held_at_once(session: profile) -> int:
    """The largest sum of bytes that runs had allocated on the processor and not yet freed.

    What was there before, such as weights and inputs, is no part of it."""
    from torch._C._autograd import DeviceType

    assert session.profiler is not None and session.profiler.kineto_results is not None
    events: list[Any] = list(session.profiler.kineto_results.events())
    changes = [
        (event.start_ns(), event.nbytes())
        for event in events
        if event.name() == "[memory]" and event.device_type() == DeviceType.CPU
    ]
    held = most = 0
    for _, change in sorted(changes, key=lambda change: change[0]):
        held += change
        most = max(most, held)
    return most


def reset_cuda_peaks(device: str) -> None:
    import torch

    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()


def cuda_memory(device: str) -> CudaMemory | None:
    """Of the current CUDA device; None where the processor was profiled."""
    import torch

    if device == "cpu":
        return None
    return CudaMemory(
        device=torch.cuda.get_device_name(),
        allocated=torch.cuda.memory_allocated(),
        reserved=torch.cuda.memory_reserved(),
        peak_allocated=torch.cuda.max_memory_allocated(),
        peak_reserved=torch.cuda.max_memory_reserved(),
    )
