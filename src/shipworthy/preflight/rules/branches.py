"""Control flow that depends on data, which a trace would freeze."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from ...contract import Array, Arrays
from ...evidence import Finding
from ...model.run import named_outputs, to_numpy
from ...usercode import describe_line, is_user_file
from ..compare import differing, show
from ..context import Context
from ..explanations import explain


def branches(context: Context) -> Iterator[Finding]:
    """What is computed does not depend on the values that are computed with."""
    error = context.export.error
    told = explain(error) if error is not None else None
    blocked = told is not None and told.kind == "branch"
    lines, gaps = _frozen(context)
    if not blocked and not gaps:
        return
    wrong = f"; a trace of one input is wrong for another of the same shape: {show(gaps)}" if gaps else ""
    at = next(
        (line.removeprefix("at ") for line in (told.evidence if told and blocked else ()) if line.startswith("at ")),
        None,
    )
    where = ", ".join(lines) or at or "forward"
    yield Finding(
        rule="branches",
        severity="warning" if blocked else "note",
        where=where,
        why="what is computed depends on the values of a tensor"
        + (", which torch.export cannot follow" if blocked else ", which torch.export follows and tracing does not")
        + wrong,
        remedy="choose between results with torch.where, or branch with torch.cond; "
        "otherwise only TorchScript by scripting keeps the branch",
    )


def _frozen(context: Context) -> tuple[list[str], dict[str, float]]:
    """The lines that the tracer warns of, and by how much a trace differs from the model on other values."""
    import torch

    inputs = context.tensors(context.probes[0])
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        try:
            traced = torch.jit.trace(context.module, inputs, check_trace=False, strict=False)  # type: ignore[no-untyped-call]
        except Exception:  # noqa: BLE001 - a model that cannot be traced is no trace to compare; exportable tells of it
            traced = None
    lines = {
        describe_line(w.filename, w.lineno)
        for w in caught
        if w.category.__name__ == "TracerWarning" and is_user_file(w.filename)
    }
    worst: dict[str, float] = {}
    for feeds in context.variants if traced is not None and not context.unrest else ():
        expected = context.run(feeds)
        try:
            gaps = differing(expected, _run(traced, context, feeds))
        except Exception:  # noqa: BLE001 - a trace that fails where the model runs is as wrong as one can be
            gaps = dict.fromkeys(expected, float("inf"))
        worst = max(worst, gaps, key=lambda found: max(found.values(), default=0.0))
    return sorted(lines), worst


def _run(traced: object, context: Context, feeds: Arrays) -> dict[str, Array]:
    import torch

    assert callable(traced)
    with torch.inference_mode():
        result = traced(*context.tensors(feeds))
    return {name: to_numpy(tensor) for name, tensor in named_outputs(result).items()}
