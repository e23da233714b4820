"""Number formats that do not go together, or cost twice."""

from __future__ import annotations

from collections.abc import Iterator

from ...evidence import Finding
from ..context import Context


def dtype(context: Context) -> Iterator[Finding]:
    """Weights, inputs and outputs are of one floating-point format."""
    weights: dict[str, str] = {}
    for name, parameter in context.module.named_parameters():
        if parameter.is_floating_point():
            weights.setdefault(str(parameter.dtype).removeprefix("torch."), name)
    if len(weights) > 1:
        yield Finding(
            rule="dtype",
            severity="warning",
            where=list(weights.values())[1],
            why="weights are of several formats: " + ", ".join(f"{kind} (as {name})" for kind, name in weights.items()),
            remedy="bring all to one with model.float()",
        )
    elif weights and "float32" not in weights:
        kind, name = next(iter(weights.items()))
        yield Finding(
            rule="dtype",
            severity="warning",
            where=name,
            why=f"the weights are {kind}; " + _cost(kind),
            remedy="use model.float(), and lower precision by search.precisions",
        )
    yield from _promoted(context)


def _cost(kind: str) -> str:
    if kind == "float64":
        return "twice the memory and less than half the speed of float32, which engines are made for"
    return "engines are compared with float32, and processors compute it slowly or not at all"


def _promoted(context: Context) -> Iterator[Finding]:
    """Outputs of float64 from inputs and weights that are not: a constant of NumPy's default dtype slipped in."""
    import torch

    from ...usercode import calling_line
    from ..watch import Op, ops_of

    wide = [name for name, array in context.run(context.probes[0]).items() if array.dtype == "float64"]
    given = {spec.dtype for spec in context.contract.inputs.values()}
    if not wide or "float64" in given or any(p.dtype == torch.float64 for p in context.module.parameters()):
        return
    first: list[str] = []

    def look(op: Op) -> None:
        doubled = any(t.dtype == torch.float64 for t in op.outputs)
        if not first and doubled and any(t.dtype == torch.float32 for t in op.inputs):
            first.extend([op.layer, calling_line() or op.name])

    with ops_of(context.module, look):
        context.module(*context.tensors(context.probes[0]))
    where, line = first or ["the model itself", "an operation of the model"]
    yield Finding(
        rule="dtype",
        severity="warning",
        where=where,
        why=f"output {wide[0]} is float64 though nothing that goes in is; it becomes so at {line}",
        remedy="make constants float32: torch.tensor(values, dtype=torch.float32), or array.astype(np.float32)",
    )
