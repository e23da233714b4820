"""The model runs at all, and gets its inputs in the right order."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from ...evidence import Finding
from ...model.post import WithPost
from ..context import Context
from ..explanations import explain


def runs(context: Context) -> Iterator[Finding]:
    """The model runs on an input of the contract."""
    try:
        context.run(context.probes[0])
    except Exception as exc:  # noqa: BLE001 - it is the user's code: whatever it raises is the finding
        told = explain(exc)
        layer = next((line.removeprefix("in layer ") for line in told.evidence if line.startswith("in layer ")), "")
        where = layer or next((line for line in told.evidence if line.startswith("at ")), "the model itself")
        yield Finding(
            rule=told.kind if told.kind in ("dtype", "device") else "runs",
            severity="error",
            where=where,
            why=f"the model fails on an input of the contract: {told.cause} ({told.evidence[0]})",
            remedy=told.remedy,
        )


def input_order(context: Context) -> Iterator[Finding]:
    """The contract lists the inputs in the order of forward's arguments."""
    module = context.module
    inner = module.model if isinstance(module, WithPost) else module
    arguments = [
        p.name
        for p in inspect.signature(inner.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    named = list(context.contract.inputs)
    taken = arguments[: len(named)]
    if set(named) == set(taken) and named != taken:
        yield Finding(
            rule="input-order",
            severity="error",
            where="inputs",
            why=f"the contract lists {', '.join(named)}; forward, which gets them in order, takes {', '.join(taken)}",
            remedy=f"write the inputs in the order {', '.join(taken)}",
        )
