"""Weights that nothing uses, and weights that several layers share."""

from __future__ import annotations

from collections.abc import Iterator

from ...evidence import Finding
from ..context import Context

_SHOWN = 3


def unused_weights(context: Context) -> Iterator[Finding]:
    """Every parameter takes part in an answer."""
    from ..watch import Op, ops_of

    seen: set[int] = set()

    def look(op: Op) -> None:
        seen.update(tensor.untyped_storage().data_ptr() for tensor in op.inputs)

    with ops_of(context.module, look):
        for feeds in (*context.probes, *context.variants):
            context.module(*context.tensors(feeds))
    unused = {
        name: parameter.numel() * parameter.element_size()
        for name, parameter in context.module.named_parameters()
        if parameter.numel() and parameter.untyped_storage().data_ptr() not in seen
    }
    if unused:
        names = ", ".join(list(unused)[:_SHOWN]) + (f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else "")
        yield Finding(
            rule="unused-weights",
            severity="warning",
            where=next(iter(unused)),
            why=f"{len(unused)} parameters ({sum(unused.values()) / 1e6:.3g} MB) take part in no answer "
            f"over {len(context.probes) + len(context.variants)} inputs: {names}",
            remedy="delete the layers that only training needs, or look whether forward forgets them",
        )


def shared_weights(context: Context) -> Iterator[Finding]:
    """Says which parameters are one and the same."""
    places: dict[int, list[str]] = {}
    for name, parameter in context.module.named_parameters(remove_duplicate=False):
        if parameter.numel():
            places.setdefault(parameter.untyped_storage().data_ptr(), []).append(name)
    for names in places.values():
        if len(names) > 1:
            yield Finding(
                rule="shared-weights",
                severity="note",
                where=names[0],
                why=f"{' and '.join(names)} share their values: a change of one is a change of all, "
                "and safetensors keeps only one",
                remedy="nothing, if it is meant; save with safetensors.torch.save_model, which knows of ties",
            )
