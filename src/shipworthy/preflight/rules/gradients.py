"""Gradients that inference does not need, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...evidence import Finding
from ..context import Context

if TYPE_CHECKING:
    from torch import Tensor


def gradients(context: Context) -> Iterator[Finding]:
    """Nothing is kept for a backward pass."""
    import torch

    with torch.no_grad():
        forced = _kept_bytes(context)
    if forced:
        yield Finding(
            rule="gradients",
            severity="warning",
            where="forward",
            why=f"forward switches gradients on: under no_grad it still keeps {_size(forced)} for {_batch(context)}",
            remedy="take torch.enable_grad() out of forward",
        )
        return
    with torch.enable_grad():
        kept = _kept_bytes(context)
    if kept:
        yield Finding(
            rule="gradients",
            severity="note",
            where="the model itself",
            why=f"called as it is, it records gradients and keeps {_size(kept)} of activations for {_batch(context)}",
            remedy="call it under torch.inference_mode() in Python; the exported engines record none",
        )


def _kept_bytes(context: Context) -> int:
    """Bytes of the tensors that autograd keeps in one forward pass, without weights and inputs, each storage once."""
    import torch

    module, inputs = context.module, context.tensors(context.probes[0])
    own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers(), *inputs)}
    kept: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            # The tensor is held so that no later one gets its address.
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = module(*inputs)
    del result
    return sum(size for size, _ in kept.values())


def _size(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count} B"


def _batch(context: Context) -> str:
    return f"a batch of {context.sizes(context.probes[0])['batch']}"
