"""Answers that depend on what else is in the batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...contract import BATCH, Array, Arrays
from ...evidence import Finding
from ..compare import differing, show
from ..context import Context


def batch_coupling(context: Context) -> Iterator[Finding]:
    """A sample's answer does not depend on what else is in its batch."""
    if not context.takes_batches or context.unrest:
        return
    first = context.probes[0]
    base = _first_rows(context, first)
    for other in _companions(context):
        gaps = differing(base, _first_rows(context, other))
        if gaps:
            yield _coupled(context, first, other, gaps)
            return


def _coupled(context: Context, first: Arrays, other: Arrays, gaps: dict[str, float]) -> Finding:
    layer = _first_layer(context, first, other) if context.model.source == "module" else None
    at = f", first in {layer}" if layer else ""
    return Finding(
        rule="batch-coupling",
        severity="error",
        where=layer or next(iter(gaps)),
        why=f"a sample's answer changes with the others in its batch: {show(gaps)}{at}",
        remedy="normalise over the features of a sample and not over the batch (dim=0); use eval() and the running "
        "statistics of a batch norm (track_running_stats=True)",
    )


def _companions(context: Context) -> list[dict[str, Array]]:
    """The first probe, with its first sample kept and the others replaced: by other samples, and by larger values."""
    first = context.probes[0]
    found = []
    for feeds in (*context.probes[1:], *context.variants):
        if all(feeds[name].shape[1:] == first[name].shape[1:] for name in first) and len(next(iter(feeds.values()))):
            rest = {name: np.resize(feeds[name][-1:], first[name][1:].shape) for name in first}
            found.append({name: np.concatenate([first[name][:1], rest[name]]) for name in first})
    return found


def _first_rows(context: Context, feeds: Arrays) -> dict[str, Array]:
    """The first sample's part of every output that has a batch axis."""
    batch = context.sizes(feeds)[BATCH]
    return {name: array[0] for name, array in context.run(feeds).items() if array.ndim and array.shape[0] == batch}


def _first_layer(context: Context, first: Arrays, second: Arrays) -> str | None:
    """The first layer to end that is given the same for the sample and gives something else."""
    for (path, given, made), (other_path, other_given, other_made) in zip(
        _passes(context, first), _passes(context, second), strict=False
    ):
        if path != other_path:
            return None
        if not differing(given, other_given) and differing(made, other_made):
            return path or "the model itself"
    return None


def _passes(context: Context, feeds: Arrays) -> list[tuple[str, dict[str, Array], dict[str, Array]]]:
    """What each layer is given and gives for the first sample, in the order in which they end."""
    import torch
    from torch.utils._pytree import tree_iter

    from ...model.run import to_numpy

    batch = context.sizes(feeds)[BATCH]
    passes: list[tuple[str, dict[str, Array], dict[str, Array]]] = []

    def sample(tree: object) -> dict[str, Array]:
        tensors = [leaf for leaf in tree_iter(tree) if isinstance(leaf, torch.Tensor)]
        rows = [tensor[0] for tensor in tensors if tensor.ndim and tensor.shape[0] == batch]
        return {str(number): to_numpy(row).copy() for number, row in enumerate(rows)}

    handles = [
        layer.register_forward_hook(lambda _, args, out, path=path: passes.append((path, sample(args), sample(out))))
        for path, layer in context.module.named_modules()
        if not isinstance(layer, torch.jit.ScriptModule)
    ]
    try:
        context.run(feeds)
    finally:
        for handle in handles:
            handle.remove()
    return passes
