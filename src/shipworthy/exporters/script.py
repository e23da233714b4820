"""TorchScript by tracing and by scripting, and which of the two is right."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..contract import Array
from ..errors import ExportError
from ..evidence import Finding
from ..model.run import named_outputs
from ..runtime.guarded import first_line
from .agreement import Gap, gap
from .job import MAY_FREEZE, Job
from .positional import NARROW, example_tensors, positional, valid_names

_TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to TorchScript, tried on every case in fp32. `make` gives the frozen module in a job's precision."""

    name: str
    make: Callable[[Job], Any]
    module: Any = None
    error: str | None = None
    gap: Gap | None = None
    frozen_at: tuple[str, ...] = ()
    """Where a trace has taken one side of a branch."""

    @property
    def agrees(self) -> bool:
        return self.error is None and self.gap is None

    @property
    def runs(self) -> bool:
        """Usable, if nothing better is: it answers what eager does, only less exactly than fp32 should."""
        return self.error is None and (self.gap is None or not self.gap.gross)

    @property
    def why_not(self) -> str:
        return self.error or (self.gap.reason if self.gap else "")


def tried(job: Job, name: str, make: Callable[[Job], Any]) -> Way:
    try:
        with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module = make(job.as_precision("fp32"))
    except Exception as error:  # noqa: BLE001 TorchScript's compiler raises many classes
        return Way(name, make, error=compiler_reason(error))
    return Way(name, make, module, gap=_gap(module, job), frozen_at=frozen_places(caught))


def _gap(module: Any, job: Job) -> Gap | None:
    try:
        with torch.no_grad():
            answers = [_answers(module, job, case.feeds.values()) for case in job.cases]
    except Exception as error:  # noqa: BLE001 the interpreter raises many classes; eager took the same feeds
        return Gap(f"fails where eager does not: {compiler_reason(error)}", gross=True)
    return gap(job.cases, answers, low_precision=False)


def frozen_places(caught: Sequence[warnings.WarningMessage]) -> tuple[str, ...]:
    """Where the user's code turned a tensor into a Python number while it was traced: what follows is a constant."""
    return tuple(
        dict.fromkeys(
            f"{Path(warning.filename).name}:{warning.lineno}"
            for warning in caught
            if warning.category.__name__ == "TracerWarning" and not warning.filename.startswith(_TORCH)
        )
    )


def may_freeze(job: Job, where: str, places: Sequence[str]) -> tuple[Finding, ...]:
    if not places:
        return ()
    return (
        Finding(
            rule=MAY_FREEZE,
            severity="warning",
            where=f"{job.engine}, {where}",
            why=f"the trace has taken one side of what the code decides at {', '.join(places)}; no probe shows another",
            remedy="write it with torch.where, or so that torch.jit.script takes it",
        ),
    )


def traced(job: Job) -> Any:
    module, example = positional(job), example_tensors(job)
    with torch.no_grad():
        inner = torch.jit.trace(module, example, check_trace=False, strict=False)  # type: ignore[no-untyped-call]
    # The trace of a Positional has cast and flattened already.
    return _frozen(_shelled(inner, job, list(job.signature.outputs), cast=None))


def scripted(job: Job) -> Any:
    assert job.model.module is not None, "an .onnx file has no module"
    module = job.model.module
    with torch.no_grad():
        keys = list(named_outputs(module(*example_tensors(job))))
    if (dtype := NARROW.get(job.precision)) is not None:
        module = copy.deepcopy(module).to(dtype)
    inner = module if isinstance(module, torch.jit.ScriptModule) else torch.jit.script(module)
    return _frozen(_shelled(inner, job, keys, cast=dtype))


def _shelled(inner: Any, job: Job, keys: Sequence[str], *, cast: torch.dtype | None) -> Any:
    """`inner` behind a forward with the contract's names; keys are the names that the module gives its outputs."""
    arguments = valid_names(job.signature)
    specs = list(job.signature.inputs.values())
    passed = [
        f"{name}.to({cast})" if cast is not None and spec.dtype.startswith("float") else name
        for name, spec in zip(arguments, specs, strict=True)
    ]
    wanted = list(job.signature.outputs)
    order = wanted if set(wanted) == set(keys) else list(keys)
    results = [_access(inner, keys, key) for key in order]
    if cast is not None:
        floats = [spec.dtype.startswith("float") for spec in job.signature.outputs.values()]
        results = [f"{r}.to(torch.float32)" if f else r for r, f in zip(results, floats, strict=True)]
    code = (
        f"def forward(self, {', '.join(f'{name}: Tensor' for name in arguments)}):\n"
        f"    y = self.inner({', '.join(passed)})\n"
        f"    return {results[0] if len(results) == 1 else '(' + ', '.join(results) + ')'}\n"
    )

    class Graph(torch.jit.ScriptModule):
        """Defined anew each time: a class of a script can be given its forward only once."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

    shell = Graph()
    shell.define(code)
    return shell.eval()


def _access(inner: Any, keys: Sequence[str], key: str) -> str:
    """The expression that takes one output from what `inner` returns, by the type that TorchScript found for it."""
    kind = inner.forward.schema.returns[0].type
    if kind.kind() == "TensorType":
        return "y"
    if kind.kind() == "DictType":
        return f"y[{key!r}]"
    if kind.kind() in ("TupleType", "ListType"):
        return f"y[{list(keys).index(key)}]"
    if kind.kind() == "ClassType":
        return f"y.{key}"
    raise ExportError("TorchScript", f"forward returns {kind}", "return a tensor, or a tuple or dict of tensors")


def _frozen(module: Any) -> Any:
    """Weights become constants, and branches on them disappear. What writes to its attributes stays as it is."""
    try:
        return torch.jit.freeze(module)
    except RuntimeError:
        return module


def _answers(module: Any, job: Job, arrays: Any) -> dict[str, Array]:
    result = module(*(torch.from_numpy(array.copy()) for array in arrays))
    values: Sequence[Tensor] = result if isinstance(result, tuple) else (result,)
    return {
        name: value.numpy().astype(spec.numpy, copy=False)
        for (name, spec), value in zip(job.signature.outputs.items(), values, strict=True)
    }


def compiler_reason(error: Exception) -> str:
    """TorchScript's compiler begins many messages with an empty heading and puts the place below."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" ~<>-")]
    useful = [line for line in lines if not line.startswith(("The following operation failed", "Traceback"))]
    last = next((line for line in reversed(useful) if "Error" in line), None)
    return (last or (useful[0] if useful else first_line(error)))[:300]


def conditions(module: Any) -> int:
    """How many branches and loops of a frozen script depend on data or on sizes (not on what the contract fixes)."""
    return sum(1 for node in _nodes(module.inlined_graph) if _depends(node))


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _depends(node: Any) -> bool:
    if node.kind() == "prim::Loop":
        return _vary(list(node.inputs())[:2])
    if node.kind() != "prim::If":
        return False
    if any(inner.kind() == "prim::RaiseException" for block in node.blocks() for inner in _nodes(block)):
        return False
    return _vary(list(node.inputs()))


_FIXED_KINDS = """
    prim::Constant prim::GetAttr prim::dtype prim::device prim::layout prim::is_cuda prim::is_nested prim::requires_grad
    aten::dim aten::is_floating_point aten::is_complex aten::is_grad_enabled aten::__is__ aten::__isnot__"""
_FIXED = frozenset(_FIXED_KINDS.split())
"""What a contract fixes of a tensor (rank, dtype, device), attributes, and whether two names mean one value."""


def _vary(values: list[Any]) -> bool:
    """Whether any of the values comes from an input, past what the contract fixes of it."""
    seen: set[int] = set()
    while values:
        value = values.pop()
        node = value.node()
        if value.unique() in seen or node.kind() in _FIXED:
            continue
        if node.kind() == "prim::Param":
            return True
        seen.add(value.unique())
        values.extend(node.inputs())
    return False


def chosen_way(job: Job) -> tuple[Way, tuple[Way, ...]]:
    """The way that agrees with eager on every case, and all that were tried.

    Where both agree the script is taken if there is a branch or loop that depends on data or sizes, for the cases may
    not have taken each side of it; else the trace, which is plainer. Raises ExportError where neither agrees."""
    if job.model.source == "torchscript":
        ways: tuple[Way, ...] = (tried(job, "as it is", scripted),)
    else:
        ways = (tried(job, "trace", traced), tried(job, "script", scripted))
    agreeing = [way for way in ways if way.agrees] or [way for way in ways if way.runs]
    if not agreeing:
        reasons = "; ".join(f"{way.name}: {way.why_not}" for way in ways)
        raise ExportError(
            "TorchScript",
            f"no graph answers as eager does ({reasons})",
            "write branches on data so that torch.jit.script takes them, or with torch.where",
        )
    if len(agreeing) == 2 and (agreeing[0].frozen_at or conditions(agreeing[1].module)):
        return agreeing[1], ways
    return agreeing[0], ways
