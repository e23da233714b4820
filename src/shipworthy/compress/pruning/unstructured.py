"""The weights of least magnitude set to zero, in each layer or in all of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from ...errors import CompressError
from ...evidence import Finding, PrunedLayer
from ...model.live import private_copy
from ..methods import Unstructured
from ..reports import mean_abs_diff
from ..steps import validator
from ..subject import Subject

_PACKED = 2**20

Masks: TypeAlias = dict[str, Tensor]
"""For each layer's path, True where its weight stays."""


def masks_for(module: nn.Module, share: float, scope: Literal["layer", "global"]) -> Masks:
    """The masks that set `share` of the weights of all convolutions and linear layers to zero, the least first.

    A weight that several layers use counts once. Raises CompressError where there is no such layer."""
    layers = weights_of(module)
    if not layers:
        remedy = "there is nothing to prune: leave pruning out"
        raise CompressError("the model", "has neither convolutions nor linear layers", remedy)
    if scope == "layer":
        return {name: _keeping(weight.detach().abs(), share) for name, weight in layers.items()}
    flat = torch.cat([weight.detach().abs().flatten() for weight in layers.values()])
    parts = torch.split(_keeping(flat, share), [weight.numel() for weight in layers.values()])
    return {name: part.reshape(layers[name].shape) for name, part in zip(layers, parts, strict=True)}


def weights_of(module: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of all convolutions and linear layers, by the path of their layer."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear) and isinstance(layer.weight, nn.Parameter):
            found.setdefault(id(layer.weight), (name, layer.weight))
    return dict(found.values())


def _keeping(magnitudes: Tensor, share: float) -> Tensor:
    """True but for exactly the nearest whole number of `share` of them, the smallest; of equals the first ones."""
    flat = magnitudes.flatten()
    count = round(share * flat.numel())
    if not count:
        return torch.ones_like(magnitudes, dtype=torch.bool)
    limit = torch.kthvalue(flat, count).values
    mask = flat > limit
    equal = (flat == limit).nonzero().flatten()
    mask[equal[count - int((flat < limit).sum()) :]] = True
    return mask.reshape(magnitudes.shape)


def apply_masks(module: nn.Module, masks: Masks) -> None:
    """Set the weights that do not stay to zero, for good."""
    weights = weights_of(module)
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].mul_(mask)


@contextmanager
def zeros_held(module: nn.Module, masks: Masks) -> Iterator[None]:
    """Weights that are zero stay so in training: they get no gradient, and what is zero does not decay.

    An optimiser that moves them all the same is corrected at the end."""
    weights = weights_of(module)
    kept = {name: parameter.requires_grad for name, parameter in weights.items()}
    hooks = []
    for name, mask in masks.items():
        weights[name].requires_grad_(True)
        hook = _times(mask.to(weights[name].dtype))
        hooks.append(weights[name].register_hook(hook))  # type: ignore[no-untyped-call]
        weights[name].requires_grad_(kept[name])
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        apply_masks(module, masks)


def _times(mask: Tensor) -> object:
    return lambda gradient: gradient * mask


def masked_layers(module: nn.Module, masks: Masks) -> tuple[PrunedLayer, ...]:
    """The report of each layer: an output channel without any weight left is pruned."""
    return tuple(_layer(name, module.get_submodule(name), mask) for name, mask in masks.items())


def _layer(name: str, layer: nn.Module, mask: Tensor) -> PrunedLayer:
    axis = 1 if getattr(layer, "transposed", False) else 0
    alive = mask.transpose(0, axis).flatten(1).any(1)
    ones, kept = int(mask.sum()), int(alive.sum())
    return PrunedLayer(
        name=name,
        kind=type(layer).__name__,
        mask_shape=tuple(mask.shape),
        zeros=mask.numel() - ones,
        ones=ones,
        neurons_kept=kept,
        neurons_pruned=len(alive) - kept,
    )


def emptied(layers: Mapping[str, Tensor]) -> list[Finding]:
    return [
        Finding(
            rule="layer-pruned-away",
            severity="warning",
            where=name,
            why="none of its weights is left, so that what it computes no longer depends on its input",
            remedy='prune less, or in each layer: scope = "layer"',
        )
        for name, mask in layers.items()
        if not mask.any()
    ]


def scopes_compared(subject: Subject, method: Unstructured) -> str:
    """Global against per-layer masks of the same share, both before any fine-tuning."""
    validate = validator(subject.contract, subject.validation, subject.module)
    said = []
    for scope, words in (("global", "the smallest of all"), ("layer", "the smallest of each layer")):
        module = private_copy(subject.module, subject.contract.name).eval()
        apply_masks(module, masks_for(module, method.share, scope))  # type: ignore[arg-type]
        moved = mean_abs_diff(subject.answers_of(subject.module), subject.answers_of(module), subject.samples)
        outputs = ", ".join(f"{name} by {value:.4g}" for name, value in moved.items())
        metric = "" if validate is None else f" and leaves the metric at {validate(module):.4f}"
        said.append(f"{words} moves {outputs} on average{metric}")
    before = "" if validate is None else f", from {validate(subject.module):.4f}"
    return f"without fine-tuning, {method.share:.0%} zeros by {'; by '.join(said)}{before}"


def packed_bytes(module: nn.Module) -> int:
    """Of the weights after Deflate, which is what zeros save where no engine skips them; of large ones an estimate
    from their first million."""
    total = 0.0
    for weight in module.parameters():
        some = weight.detach().flatten()[:_PACKED]
        # numpy has no bfloat16.
        packed = zlib.compress(some.contiguous().view(torch.uint8).numpy().tobytes(), 1)
        total += len(packed) * weight.numel() / max(1, some.numel())
    return round(total)
