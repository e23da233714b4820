"""The contract's dynamic dimensions, as torch.export takes them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ..contract import Dim, Signature
from ..contract.tensors import Shape

if TYPE_CHECKING:
    from torch import nn


def dynamic_axes(signature: Signature) -> tuple[dict[int, Any], ...]:
    """For each input, its dynamic axes and their torch.export.Dim. A name that several inputs share is one dimension;
    one with room for a single size is a constant."""
    import torch

    dims = {
        dim.name: torch.export.Dim(dim.name, min=dim.min, max=dim.max)
        for dim in signature.dynamic()
        if dim.max is None or dim.max > max(dim.min, 1)
    }
    return tuple(_axes(spec.shape, dims) for spec in signature.inputs.values())


def dynamic_shapes(module: nn.Module, signature: Signature) -> tuple[Any, ...]:
    """`dynamic_shapes` for torch.export.export(module, tensors in the order of the inputs).

    Inputs that forward collects with *args are nested, as torch.export asks for."""
    axes = dynamic_axes(signature)
    for position, parameter in enumerate(inspect.signature(module.forward).parameters.values()):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return (*axes[:position], axes[position:])
    return axes


def _axes(shape: Shape, dims: dict[str, Any]) -> dict[int, Any]:
    return {axis: dims[size.name] for axis, size in enumerate(shape) if isinstance(size, Dim) and size.name in dims}
