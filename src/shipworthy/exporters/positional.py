"""A module with flat inputs and outputs, in fp32 or a narrower float: what all exporters of torch see."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..contract import Signature
from ..contract.spec import Precision
from ..model.run import named_outputs
from .job import Job

NARROW: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions that a model is cast to as a whole."""


class Positional(nn.Module):
    """Calls a module with tensors in the order of the contract's inputs; returns its outputs in the contract's order.

    One output is returned as a tensor, several as a tuple, whatever the module itself returns."""

    def __init__(self, module: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self._outputs = tuple(outputs)

    def forward(self, *args: Tensor) -> Any:
        return self._flat(self.module(*args))

    def _flat(self, result: Any) -> Any:
        found = named_outputs(result)
        values = tuple(found[name] for name in (self._outputs if set(found) == set(self._outputs) else tuple(found)))
        return values[0] if len(values) == 1 else values


class Lowered(Positional):
    """The same with weights and float inputs in `dtype`, and float32 outputs. The module given is left as it is."""

    def __init__(self, module: nn.Module, outputs: Sequence[str], dtype: torch.dtype) -> None:
        super().__init__(copy.deepcopy(module).to(dtype), outputs)
        self._dtype = dtype

    def forward(self, *args: Tensor) -> Any:
        lowered = [arg.to(self._dtype) if arg.is_floating_point() else arg for arg in args]
        result = self._flat(self.module(*lowered))
        return tuple(map(_raised, result)) if isinstance(result, tuple) else _raised(result)


def _raised(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def positional(job: Job) -> Positional:
    """The job's module in the job's precision."""
    assert job.model.module is not None, "an .onnx file has no module"
    outputs = tuple(job.signature.outputs)
    if (dtype := NARROW.get(job.precision)) is not None:
        return Lowered(job.model.module, outputs, dtype).eval()
    return Positional(job.model.module, outputs).eval()


def example_tensors(job: Job) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(array.copy()) for array in job.example.values())


def valid_names(signature: Signature) -> list[str]:
    """The inputs' names where Python takes them as arguments, else numbered ones."""
    import keyword

    return [
        name if name.isidentifier() and not keyword.iskeyword(name) and name not in ("self", "y") else f"input_{number}"
        for number, name in enumerate(signature.inputs)
    ]
