"""The modules of a model: names for the profiler, parameters and bytes, floating-point operations, times."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from ..runtime.torch_profile import is_heavy
from .calls import Call, Calls
from .report import ModuleRow

if TYPE_CHECKING:
    from torch import Tensor, nn

_MARK = "module: "


def _named(module: nn.Module) -> dict[str, nn.Module]:
    """Every module once, at the first path to it. TorchScript calls no hooks inside, so there it is one module."""
    import torch

    found: dict[str, nn.Module] = {}
    script: tuple[str, ...] = ()
    for path, one in module.named_modules():
        if script and path.startswith(script):
            continue
        found[path] = one
        if isinstance(one, torch.jit.ScriptModule):
            script = (*script, f"{path}." if path else "")
    return found


def _label(path: str, module: nn.Module) -> str:
    return f"{_MARK}{path or type(module).__name__}"


def paths_of(module: nn.Module) -> dict[str, str]:
    """The path of each module (its class for the model itself) by the name that its events have."""
    return {_label(path, found): path or type(found).__name__ for path, found in _named(module).items()}


@contextmanager
def annotated(module: nn.Module) -> Iterator[None]:
    """Let every call of a module be an event of the profiler, named after its path."""
    from torch.profiler import record_function

    opened: list[Any] = []

    def entering(path: str, one: nn.Module) -> None:
        opened.append(record_function(_label(path, one)))
        opened[-1].__enter__()

    def leaving(path: str) -> None:
        opened.pop().__exit__(None, None, None)

    with _told(module, entering, leaving):
        yield


@contextmanager
def _told(
    module: nn.Module, entering: Callable[[str, nn.Module], None], leaving: Callable[[str], None]
) -> Iterator[None]:
    """Call these two around every call of a module of the tree.

    Hooks of the modules' own would take the fused path of nn.TransformerEncoderLayer away, so they are global ones."""
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    paths = {id(one): path for path, one in _named(module).items()}
    # What a forward runs in threads of its own ends in any order, and has no place in the tree.
    thread = threading.get_ident()

    def before(one: nn.Module, _: object) -> None:
        if id(one) in paths and threading.get_ident() == thread:
            entering(paths[id(one)], one)

    def after(one: nn.Module, *_: object) -> None:
        if id(one) in paths and threading.get_ident() == thread:
            leaving(paths[id(one)])

    handles = [register_module_forward_pre_hook(before), register_module_forward_hook(after, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, slots=True)
class Flops:
    """Floating-point operations of one run, a multiply-add being two."""

    total: int
    by_path: dict[str, int]
    """With those of its children."""
    uncounted: tuple[str, ...]


def count_flops(module: nn.Module, inputs: tuple[Tensor, ...]) -> Flops:
    """Run the model once with torch.utils.flop_counter, which has formulas for products, convolutions and attention."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False, custom_mapping=_formulas())
    by_path: defaultdict[str, int] = defaultdict(int)
    before: list[int] = []

    def entering(*_: object) -> None:
        before.append(counter.get_total_flops())

    def leaving(path: str) -> None:
        by_path[path] += counter.get_total_flops() - before.pop()

    fast = torch.backends.mha.get_fastpath_enabled()
    # The fused path of attention is one operation that no formula counts.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        counted = set(counter.flop_registry)
        with _told(module, entering, leaving), _heavy_without(counted) as uncounted, counter:
            module(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return Flops(counter.get_total_flops(), dict(by_path), tuple(sorted(uncounted)))


def _formulas() -> dict[Any, Callable[..., int]]:
    """Of operations on the processor that torch.utils.flop_counter has none for; they get the arguments' shapes."""
    import torch
    from torch.utils.flop_counter import sdpa_flop_count

    def attention(query: Any, key: Any, value: Any, *_: object, **__: object) -> int:
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]

    def recurrent(series: Any, from_input: Any, from_state: Any, *_: object, **__: object) -> int:
        """[steps, batch, inputs], and the weights of all gates; what the gates do to single numbers is left out."""
        return int(2 * series[0] * series[1] * (prod(from_input) + prod(from_state)))

    ops = torch.ops.aten
    return {ops._scaled_dot_product_flash_attention_for_cpu: attention, ops.mkldnn_rnn_layer: recurrent}


@contextmanager
def _heavy_without(counted: set[Any]) -> Iterator[set[str]]:
    """The heavy operations that are called meanwhile and have no formula."""
    from torch.utils._python_dispatch import TorchDispatchMode

    found: set[str] = set()

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func._overloadpacket not in counted and is_heavy(func._overloadpacket.__name__):
                found.add(f"{func.namespace}::{func._overloadpacket.__name__}")
            return func(*args, **(kwargs or {}))

    with Watch():  # type: ignore[no-untyped-call]
        yield found


def module_rows(module: nn.Module, calls: Calls, flops: Flops) -> tuple[ModuleRow, ...]:
    """One row for each module, the model itself first; one that was never called has no time."""
    named = _named(module)
    events: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls.all():
        if call.kind == "module":
            events[call.name].append(call)
    owners = Counter(id(tensor) for one in named.values() for tensor in {id(t): t for t in _own(one)}.values())
    rows, seen = [], set[int]()
    for path, one in named.items():
        own = [tensor for tensor in _own(one) if id(tensor) not in seen]
        seen.update(map(id, own))
        weights = _weights(one, path, own, shared=any(owners[id(tensor)] > 1 for tensor in _own(one)))
        rows.append(_timed(weights, calls, events[_label(path, one)], flops.by_path.get(path, 0)))
    return tuple(rows)


def _own(module: nn.Module) -> list[Tensor]:
    """What a module holds itself. TorchScript's inner modules have no rows of their own, so it holds all of theirs."""
    import torch

    inner = isinstance(module, torch.jit.ScriptModule)
    return [*module.parameters(recurse=inner), *module.buffers(recurse=inner)]


def _weights(module: nn.Module, path: str, own: list[Tensor], *, shared: bool) -> ModuleRow:
    # Not by their class: those of TorchScript are plain tensors.
    learned = {id(tensor) for tensor in module.parameters()}
    everything = [*module.parameters(), *module.buffers()]
    return ModuleRow(
        path=path,
        kind=type(module).__name__,
        calls=0.0,
        us=0.0,
        own_us=0.0,
        parameters=sum(tensor.numel() for tensor in everything if id(tensor) in learned),
        own_parameters=sum(tensor.numel() for tensor in own if id(tensor) in learned),
        bytes=sum(tensor.nbytes for tensor in everything),
        own_bytes=sum(tensor.nbytes for tensor in own),
        shared=shared,
        flops=0,
    )


def _timed(row: ModuleRow, calls: Calls, events: list[Call], flops: int) -> ModuleRow:
    times = {
        "calls": len(events) / calls.steps,
        "us": sum(call.us for call in events) / calls.steps,
        "own_us": sum(call.us - _in_modules(call) for call in events) / calls.steps,
        "cuda_us": sum(call.cuda_us for call in events) / calls.steps if calls.on_cuda else None,
        "flops": flops,
    }
    return row.model_copy(update=times)


def _in_modules(call: Call) -> float:
    """The time of the modules that a module calls, whatever regions are in between."""
    return sum(inner.us if inner.kind == "module" else _in_modules(inner) for inner in call.inside)
