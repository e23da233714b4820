"""Answers that depend on the batch, and sizes that are written into the model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...contract import BATCH, Array, Arrays
from ...evidence import Finding
from ..compare import differing, show
from ..context import Context
from ..explanations import explain


def batch_coupling(context: Context) -> Iterator[Finding]:
    """A sample's answer does not depend on what else is in its batch, nor on its place in it."""
    if not context.takes_batches:
        return
    alone, others = context.probes[0], _companions(context)
    gaps: dict[str, float] = {}
    base = _rows(context, context.run(alone), 0)
    for other in others:
        gaps = differing(base, _rows(context, context.run(other), 0))
        if gaps:
            break
    if not gaps:
        return
    layer = _first_layer(context, alone, other) if context.model.source == "module" else None
    yield Finding(
        rule="batch-coupling",
        severity="error",
        where=layer or next(iter(gaps)),
        why=f"a sample's answer changes with the others in its batch: {show(gaps)}"
        + (f", first in {layer}" if layer else ""),
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


def _rows(context: Context, outputs: Arrays, row: int) -> dict[str, Array]:
    """One sample's part of every output that has a batch axis."""
    batch = context.sizes(context.probes[0])[BATCH]
    return {name: array[row] for name, array in outputs.items() if array.ndim and array.shape[0] == batch}


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


def fixed_size(context: Context) -> Iterator[Finding]:
    """The model takes every size that the contract allows, and answers once per sample."""
    base = context.sizes(context.probes[0])
    ranks = {name: array.ndim for name, array in context.run(context.probes[0]).items()}
    told: set[str] = set()
    for feeds in context.probes:
        sizes = context.sizes(feeds)
        changed = [name for name, size in sizes.items() if size != base[name]]
        fault = _fault(context, feeds, ranks)
        name = (changed or [BATCH])[0]
        if fault is not None and name not in told:
            told.add(name)
            at = ", ".join(f"{n} = {sizes[n]}" for n in changed or [BATCH])
            works = ", ".join(str(base[n]) for n in changed)
            yield Finding(
                rule="fixed-size",
                severity="error",
                where=name,
                why=f"at {at}{f' (with {works} it runs)' if changed else ''}: {fault}",
                remedy="take sizes from the input: x.flatten(1), x.reshape(x.shape[0], -1), squeeze(dim) with its dim; "
                "or say in the contract what the model takes, as name:min..max",
            )
    if not told and context.model.source == "module":
        yield from _specialised(context)


def _fault(context: Context, feeds: Arrays, ranks: dict[str, int]) -> str | None:
    try:
        outputs = context.run(feeds)
    except Exception as exc:  # noqa: BLE001 - it is the user's code: whatever it raises is the finding
        told = explain(exc)
        where = next((f" {line}" for line in told.evidence if line.startswith("at ")), "")
        return f"{told.cause}{where}"
    batch = context.sizes(feeds)[BATCH]
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != batch or array.ndim != ranks.get(name):
            return f"output {name} is {list(array.shape)}, where the first dimension should be the batch, {batch}"
    return None


def _specialised(context: Context) -> Iterator[Finding]:
    """torch.export says where code that runs at every size would still become a graph of one size."""
    import re

    message = str(context.export.error or "")
    for name, size in re.findall(
        r"You marked (\w+) as dynamic but your code specialized it to be a constant \((\d+)\)", message
    ):
        yield Finding(
            rule="fixed-size",
            severity="warning",
            where=name,
            why=f"the model runs at every size of {name}, but its exported graph would be fixed to {size}",
            remedy="loop over no dimension in Python, and convert no size to a number of its own (int, range, list)",
        )
