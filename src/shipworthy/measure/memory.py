"""How much memory a process holds, and the most that it has held."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from ..runtime.cuda import CudaRunner
from ..runtime.protocol import Runner
from .messages import DeviceMemory

MB = 1e6


def peak_rss_mb() -> float:
    """Peak resident memory of this process, in 10^6 bytes.

    Linux: VmHWM, which starts anew with the program; ru_maxrss there would include the parent's memory at the fork.
    macOS: ru_maxrss, which is in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / MB
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


def device_memory(runner: Runner | None) -> DeviceMemory | None:
    """What this process holds on the GPU; None where the runner's graph is not there.

    torch's allocator does not see the weights that AOTInductor's code holds: they were measured when it was loaded."""
    if not isinstance(runner, CudaRunner):
        return None
    import torch

    def mb(amount: int) -> float:
        return (amount + runner.held) / MB

    return DeviceMemory(
        allocated_mb=mb(torch.cuda.memory_allocated()),
        reserved_mb=mb(torch.cuda.memory_reserved()),
        peak_mb=mb(torch.cuda.max_memory_allocated()),
    )


def tree_rss_mb(pid: int, *, children: bool) -> float:
    """Resident memory of a process now, with all its descendants where asked (that look takes milliseconds)."""
    import psutil

    total = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        total += process.memory_info().rss
        for child in process.children(recursive=True) if children else ():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += child.memory_info().rss
    return total / MB


def available_mb() -> float:
    """Memory that processes can still take without swapping, in 10^6 bytes."""
    import psutil

    return float(psutil.virtual_memory().available) / MB
