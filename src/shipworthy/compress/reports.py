"""What a recipe did to a module, counted: multiply-accumulates, and how far the outputs moved."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..contract import Array, Arrays, Contract
from ..data import Dataset
from ..model.run import named_outputs
from .steps import device_of

Answers: TypeAlias = Callable[[Dataset], Arrays]
"""Every output for every sample."""


def macs_of(module: nn.Module, contract: Contract, feeds: Arrays) -> int:
    """Multiply-accumulate operations of one sample: of convolutions, matrix products and attention, half their FLOPs.

    `feeds` has any number of samples, which are the sizes that it is counted for. Fused kernels that the counter does
    not know (attention, LSTM, transformer layers) are taken apart for it."""
    tensors = [torch.tensor(feeds[name], device=device_of(module)) for name in contract.inputs]
    counter = FlopCounterMode(display=False)
    with _taken_apart(), torch.no_grad(), counter:
        module.eval()(*tensors)
    return round(counter.get_total_flops() / 2 / max(1, len(tensors[0])))


@contextlib.contextmanager
def _taken_apart() -> Iterator[None]:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # Leaving oneDNN warns of GPUs that are not there.
        with (
            warnings.catch_warnings(action="ignore", category=UserWarning),
            torch.backends.mkldnn.flags(enabled=False),
            sdpa_kernel(SDPBackend.MATH),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def one_feed(contract: Contract, data: Dataset) -> dict[str, Array]:
    """Feeds of two samples (an exporter and some layers take 1 for a constant) in the middle of the data's sizes."""
    chunk = data.chunks[len(data.chunks) // 2]
    rows = np.resize(np.arange(len(chunk)), 2)
    return {name: chunk.inputs[name][rows] for name in contract.inputs}


def mean_abs_diff(before: Answers, after: Answers, data: Dataset) -> dict[str, float]:
    """mean|Δ| of each output over `data`."""
    total: dict[str, float] = {}
    count: dict[str, int] = {}
    for chunk in data.chunks:
        one = Dataset((chunk,))
        other = after(one)
        for name, value in before(one).items():
            delta = np.abs(value.astype(np.float64) - other[name].astype(np.float64))
            total[name] = total.get(name, 0.0) + float(delta.sum())
            count[name] = count.get(name, 0) + delta.size
    return {name: total[name] / max(1, count[name]) for name in total}


def relative_error(wanted: Arrays, found: Arrays) -> float:
    """‖Δ‖ / ‖y‖ over all outputs that are floats."""
    names = [name for name in wanted if wanted[name].dtype.kind == "f"]
    delta = sum(float(np.square(wanted[n].astype(np.float64) - found[n]).sum()) for n in names)
    scale = sum(float(np.square(wanted[n].astype(np.float64)).sum()) for n in names)
    return float(np.sqrt(delta / scale)) if scale else float(delta > 0)


def output_shapes(module: nn.Module, contract: Contract, feeds: Arrays) -> dict[str, tuple[int, ...]]:
    """Shape of each output for these feeds, as the module names them."""
    tensors = (torch.tensor(feeds[name], device=device_of(module)) for name in contract.inputs)
    with torch.no_grad():
        return {name: tuple(tensor.shape) for name, tensor in named_outputs(module(*tensors)).items()}
