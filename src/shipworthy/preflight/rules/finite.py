"""NaN and infinity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ...contract import Array, Arrays
from ...evidence import Finding, Severity
from ..context import Context

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 3


def finite_weights(context: Context) -> Iterator[Finding]:
    """Every weight is a number."""
    for name, value in list(context.module.state_dict().items()):
        if hasattr(value, "is_floating_point") and value.is_floating_point():
            bad = int((~value.isfinite()).sum())
            if bad:
                yield Finding(
                    rule="non-finite",
                    severity="error",
                    where=name,
                    why=f"{bad} of {value.numel()} weights are NaN or infinite",
                    remedy="take a checkpoint from before the training diverged",
                )


def non_finite(context: Context) -> Iterator[Finding]:
    """Valid input gives finite answers."""
    for feeds in context.probes:
        bad = _bad(context, feeds)
        if bad:
            yield _finding(context, feeds, bad, "error", "on a valid input")
            return
    first = context.probes[0]
    zeros = {name: np.zeros_like(array) if array.dtype.kind == "f" else array for name, array in first.items()}
    bad = _bad(context, zeros)
    if bad:
        yield _finding(context, zeros, bad, "warning", "on an input of zeros")


def _bad(context: Context, feeds: Arrays) -> list[str]:
    if not all(_is_finite(array) for array in feeds.values()):
        return []
    return [name for name, array in context.run(feeds).items() if not _is_finite(array)]


def _is_finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _finding(context: Context, feeds: Arrays, outputs: list[str], severity: Severity, when: str) -> Finding:
    where, how = _origin(context, feeds) if context.model.module is not None else (outputs[0], "")
    return Finding(
        rule="non-finite",
        severity=severity,
        where=where,
        why=f"{', '.join(outputs[:_SHOWN])} is NaN or infinite {when}{how}",
        remedy="keep denominators, logarithms and roots away from zero: x / (norm + 1e-6), log(x.clamp_min(1e-6))",
    )


def _origin(context: Context, feeds: Arrays) -> tuple[str, str]:
    """The layer and operation that make the first NaN of numbers; where there is no NaN, the first infinity.

    Infinities on the way may be meant, as in the mask of an attention; they count only where no NaN follows."""
    from ...usercode import calling_line
    from ..watch import ROOT, Op, ops_of

    first: dict[str, tuple[str, str]] = {}
    weights = {t.untyped_storage().data_ptr() for t in (*context.module.parameters(), *context.module.buffers())}

    def look(op: Op) -> None:
        given = [t for t in op.inputs if t.untyped_storage().data_ptr() not in weights]
        for kind in ("nan", "inf"):
            if kind not in first and _has(op.outputs, kind) and not _has(given, kind):
                line = calling_line()
                first[kind] = (op.layer, f": first from {op.name}" + (f" at {line}" if line else ""))

    with ops_of(context.module, look):
        context.module(*context.tensors(feeds))
    return first.get("nan") or first.get("inf") or (ROOT, "")


def _has(tensors: Iterable[Tensor], kind: str) -> bool:
    floats = (t for t in tensors if t.is_floating_point())
    return any(bool((t.isnan() if kind == "nan" else t.isinf()).any()) for t in floats)
