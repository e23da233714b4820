"""TorchScript by tracing and by scripting, and which of the two is right."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..contract import Array
from ..errors import ExportError
from ..model.run import named_outputs
from ..runtime.guarded import first_line
from .agreement import Gap, gap
from .job import Job
from .positional import example_tensors, positional, valid_names


@dataclass(frozen=True, slots=True)
class Way:
    """One way to TorchScript, tried on every case in fp32. `make` gives the frozen module in a job's precision."""

    name: str
    make: Callable[[Job], Any]
    module: Any = None
    error: str | None = None
    gap: Gap | None = None

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


class _Shell(torch.jit.ScriptModule):
    """Gives a script the contract's argument names and flat outputs, by code that is written for it."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner


def tried(job: Job, name: str, make: Callable[[Job], Any]) -> Way:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = make(job.as_precision("fp32"))
            answers = [_answers(module, job, case.feeds.values()) for case in job.cases]
    except Exception as error:  # noqa: BLE001 TorchScript's compiler and interpreter raise many classes
        return Way(name, make, error=_reason(error))
    return Way(name, make, module, gap=gap(job.cases, answers, low_precision=False))


def traced(job: Job) -> Any:
    module, example = positional(job), example_tensors(job)
    with torch.no_grad():
        inner = torch.jit.trace(module, example, check_trace=False, strict=False)  # type: ignore[no-untyped-call]
    # The trace of a Positional has cast and flattened already.
    return _frozen(_shelled(inner, job, list(job.signature.outputs), cast=False))


def scripted(job: Job) -> Any:
    assert job.model.module is not None, "an .onnx file has no module"
    module = job.model.module
    with torch.no_grad():
        keys = list(named_outputs(module(*example_tensors(job))))
    if job.precision == "bf16":
        module = copy.deepcopy(module).to(torch.bfloat16)
    inner = module if isinstance(module, torch.jit.ScriptModule) else torch.jit.script(module)  # type: ignore[no-untyped-call]
    return _frozen(_shelled(inner, job, keys, cast=job.precision == "bf16"))


def _shelled(inner: Any, job: Job, keys: Sequence[str], *, cast: bool) -> Any:
    """`inner` behind a forward with the contract's names; keys are the names that the module gives its outputs."""
    arguments = valid_names(job.signature)
    specs = list(job.signature.inputs.values())
    passed = [
        f"{name}.to(torch.bfloat16)" if cast and spec.dtype.startswith("float") else name
        for name, spec in zip(arguments, specs, strict=True)
    ]
    wanted = list(job.signature.outputs)
    order = wanted if set(wanted) == set(keys) else list(keys)
    results = [_access(inner, keys, key) for key in order]
    if cast:
        floats = [spec.dtype.startswith("float") for spec in job.signature.outputs.values()]
        results = [f"{r}.to(torch.float32)" if f else r for r, f in zip(results, floats, strict=True)]
    code = (
        f"def forward(self, {', '.join(f'{name}: Tensor' for name in arguments)}):\n"
        f"    y = self.inner({', '.join(passed)})\n"
        f"    return {results[0] if len(results) == 1 else '(' + ', '.join(results) + ')'}\n"
    )
    shell = _Shell(inner)
    shell.define(code)  # type: ignore[no-untyped-call]
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
        return torch.jit.freeze(module)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return module


def _answers(module: Any, job: Job, arrays: Any) -> dict[str, Array]:
    result = module(*(torch.from_numpy(array.copy()) for array in arrays))
    values: Sequence[Tensor] = result if isinstance(result, tuple) else (result,)
    return {
        name: value.numpy().astype(spec.numpy, copy=False)
        for (name, spec), value in zip(job.signature.outputs.items(), values, strict=True)
    }


def _reason(error: Exception) -> str:
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
        return any(_varies(operand, {}) for operand in list(node.inputs())[:2])
    if node.kind() != "prim::If":
        return False
    if any(inner.kind() == "prim::RaiseException" for block in node.blocks() for inner in _nodes(block)):
        return False
    return _varies(next(iter(node.inputs())), {})


_FIXED = frozenset(
    {"prim::Constant", "aten::dim", "prim::dtype", "prim::device", "prim::is_cuda", "prim::requires_grad"}
    | {"aten::is_floating_point", "prim::layout", "aten::is_complex", "prim::is_nested", "aten::is_grad_enabled"}
)
"""What a contract fixes of a tensor: its rank, dtype and device."""


def _varies(value: Any, seen: dict[int, bool]) -> bool:
    """Whether a value depends on anything but constants and what the contract fixes."""
    key = value.unique()
    if key not in seen:
        seen[key] = False
        node = value.node()
        if node.kind() not in _FIXED:
            inputs = list(node.inputs())
            seen[key] = node.kind() == "prim::Param" or any(_varies(operand, seen) for operand in inputs)
    return seen[key]


def chosen_way(job: Job) -> tuple[Way, tuple[Way, ...]]:
    """The way that agrees with eager on every case, and all that were tried.

    Where both agree the script is taken if it keeps a branch or loop that depends on data or sizes, for the cases may
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
    if len(agreeing) == 2 and conditions(agreeing[1].module):
        return agreeing[1], ways
    return agreeing[0], ways
