"""Sizes that are written into the model."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...contract import BATCH, Arrays
from ...evidence import Finding
from ..context import Context
from ..explanations import explain


def fixed_size(context: Context) -> Iterator[Finding]:
    """The model takes every size that the contract allows, and answers once per sample."""
    base = context.sizes(context.probes[0])
    ranks = {name: array.ndim for name, array in context.run(context.probes[0]).items()}
    told: set[str] = set()
    for feeds in context.probes:
        changed = [name for name, size in context.sizes(feeds).items() if size != base[name]] or [BATCH]
        fault = None if changed[0] in told else _fault(context, feeds, ranks)
        if fault is not None:
            told.add(changed[0])
            yield _fixed(changed, base, context.sizes(feeds), fault)
        if fault is not None and feeds is context.probes[0]:
            return
    if not told and context.model.source == "module":
        yield from _specialised(context)


def _fixed(changed: list[str], base: dict[str, int], sizes: dict[str, int], fault: str) -> Finding:
    at = ", ".join(f"{name} = {sizes[name]}" for name in changed)
    works = ", ".join(str(base[name]) for name in changed)
    return Finding(
        rule="fixed-size",
        severity="error",
        where=changed[0],
        why=f"at {at}{f' (with {works} it runs)' if sizes != base else ''}: {fault}",
        remedy="take sizes from the input: x.flatten(1), x.reshape(x.shape[0], -1), squeeze(dim) with its dim; "
        "or say in the contract what the model takes, as name:min..max",
    )


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
    error = context.export.error
    told = None if error is None else explain(error)
    if told is None or told.kind != "size":
        return
    fixed = _SPECIALISED.findall(str(error))
    for name, size in fixed:
        loop = _has_loop_form(context)
        yield Finding(
            rule="fixed-size",
            severity="note" if loop else "warning",
            where=name,
            why=f"the model runs at every size of {name}, but torch.export alone would fix its graph to {size}",
            remedy=_RECURRENT if loop else told.remedy,
        )
    if not fixed:
        yield Finding(
            rule="fixed-size",
            severity="warning",
            where=str(error).split(")")[0].split("(")[-1],
            why=told.cause,
            remedy=told.remedy,
        )


_SPECIALISED = re.compile(r"You marked (\w+) as dynamic but your code specialized it to be a constant \((\d+)\)")
_RECURRENT = (
    "nothing: torch.export unrolls LSTM and GRU layers, and is asked for loops instead; "
    "a length that is fixed in the contract, with padding to it, may be faster"
)


def _has_loop_form(context: Context) -> bool:
    from torch import nn

    return any(isinstance(layer, nn.LSTM | nn.GRU) for layer in context.module.modules())
