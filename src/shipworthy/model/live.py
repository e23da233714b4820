"""Take a live nn.Module over: a private copy on the CPU, in evaluation mode."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .loaded import LoadedModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_WRAPPERS = {
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
}
"""Wrappers that add nothing to a prediction, and the attribute that holds what they wrap."""


def take_over(module: nn.Module, origin: str, *, live: bool) -> LoadedModel:
    """A LoadedModel of an nn.Module or a ScriptModule.

    A `live` module belongs to the user: it is copied, parameters and all, and never touched itself. One that a factory
    has just built is taken as it is. Wrappers (DataParallel, torch.compile) are taken off.
    Raises ModelError where the module cannot be copied, or has parameters without values."""
    import torch

    inner, notes = _unwrap(module)
    devices = _devices(inner)
    training = mode_sensitive(inner, training=True) if live else ()
    _refuse_meta(inner, origin)
    private = private_copy(inner, origin) if live else inner.to("cpu")
    if devices:
        notes.append(f"moved from {', '.join(devices)} to the CPU")
    notes.extend(_dtype_notes(private))
    private.eval()
    source = "torchscript" if isinstance(private, torch.jit.ScriptModule) else "module"
    return LoadedModel(source, private, notes=tuple(notes), training=training, devices=devices)  # type: ignore[arg-type]


def mode_sensitive(module: nn.Module, *, training: bool) -> tuple[str, ...]:
    """Paths of the layers whose results depend on the mode (dropout, batch and instance norm) and are in it."""
    from torch import nn

    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase, nn.RReLU)
    return tuple(
        path or "the model itself"
        for path, layer in module.named_modules()
        if isinstance(layer, kinds) and layer.training == training
    )


def _unwrap(module: nn.Module) -> tuple[nn.Module, list[str]]:
    notes: list[str] = []
    while True:
        kind = type(module)
        attribute = _WRAPPERS.get(f"{kind.__module__}.{kind.__qualname__}")
        if attribute is None:
            return module, notes
        notes.append(f"taken out of its {kind.__name__} wrapper")
        module = getattr(module, attribute)


def _devices(module: nn.Module) -> tuple[str, ...]:
    found = {str(t.device) for t in (*module.parameters(), *module.buffers())}
    return tuple(sorted(found - {"cpu", "meta"}))


def _refuse_meta(module: nn.Module, origin: str) -> None:
    empty = [name for name, p in (*module.named_parameters(), *module.named_buffers()) if p.is_meta]
    if empty:
        raise ModelError(
            origin,
            f"{len(empty)} of its parameters are on the meta device and have no values: {', '.join(empty[:3])}",
            "name the weights in the contract, or build the module on the CPU",
        )


def _dtype_notes(module: nn.Module) -> list[str]:
    kinds = {str(p.dtype).removeprefix("torch.") for p in module.parameters() if p.is_floating_point()}
    return [f"has {kind} parameters, which are kept" for kind in sorted(kinds - {"float32"})]


def private_copy(module: nn.Module, origin: str) -> nn.Module:
    """Deep copy with every tensor on the CPU; ties between parameters stay.

    Tensors that are results of a computation (an old-style weight_norm keeps one) refuse to be deep-copied, so every
    tensor is copied here and handed to deepcopy as already done."""
    memo: dict[int, Any] = {}
    for layer in module.modules():
        for value in (*layer._parameters.values(), *layer._buffers.values(), *vars(layer).values()):
            if value is not None and id(value) not in memo and _is_tensor(value):
                memo[id(value)] = _copy_tensor(value)
    try:
        return copy.deepcopy(module, memo)
    except Exception as exc:  # a user's class may raise anything at all from its __deepcopy__
        raise ModelError(
            origin,
            f"cannot be copied ({type(exc).__name__}: {exc})",
            "keep open files, locks, loggers and trainers out of the module's attributes, "
            'or name what builds it in the contract: model = "module:callable"',
        ) from exc


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and not torch.nn.parameter.is_lazy(value)


def _copy_tensor(tensor: Tensor) -> torch.Tensor:
    import torch

    data = tensor.detach().to("cpu", copy=True)
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(data, requires_grad=tensor.requires_grad)
    return data
