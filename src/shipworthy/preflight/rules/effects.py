"""What forward changes besides making its result."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from ...evidence import Finding
from ...usercode import is_user_file
from ..context import Context
from ..source import methods, user_classes

_DEPTH = 3
_ITEMS = 200
_INTERNAL = frozenset(vars(nn.Module())) - {"training"}
_GONE = object()


def side_effects(context: Context) -> Iterator[Finding]:
    """forward leaves its attributes, its buffers, globals and its inputs as they are, and prints nothing."""
    module = context.module
    before = _state(module)
    written, printed = _run(context)
    for where in _changed(before, _state(module)):
        kind, _, name = where.partition(" ")
        yield Finding(
            rule="side-effects",
            severity="warning",
            where=name,
            why=f"forward changes {_WORDS[kind]}: an exported graph either freezes it or loses it",
            remedy="return it as an output and feed it back as an input, or compute it in __init__",
        )
    for name in written:
        yield Finding(
            rule="side-effects",
            severity="warning",
            where=name,
            why="forward writes into its input, in the caller's own memory",
            remedy="use the form that makes a new tensor: x = x + 1 for x += 1 and x.add_(1)",
        )
    if printed:
        yield Finding(
            rule="side-effects",
            severity="note",
            where="forward",
            why=f"forward prints, which an exported graph does not: {printed.splitlines()[0][:60]!r}",
            remedy="take the print out",
        )


_WORDS = {"attribute": "an attribute", "buffer": "a buffer", "parameter": "a parameter", "global": "a global variable"}


def _run(context: Context) -> tuple[list[str], str]:
    """Run two sizes; the inputs that were written to, and what was printed. A lazily filled cache is full by then."""
    out = io.StringIO()
    written: dict[str, None] = {}
    with torch.no_grad(), contextlib.redirect_stdout(out):
        for feeds in context.probes[:2]:
            inputs = context.tensors(feeds)
            kept = [tensor.clone() for tensor in inputs]
            context.module(*inputs)
            for name, tensor, old in zip(context.signature.inputs, inputs, kept, strict=True):
                if not torch.equal(tensor.nan_to_num(), old.nan_to_num()):
                    written[name] = None
    return list(written), out.getvalue().strip()


def _state(module: nn.Module) -> dict[str, object]:
    """A fingerprint of everything that forward could change, by kind and name."""
    found: dict[str, object] = {}
    for path, layer in module.named_modules():
        for name, value in vars(layer).items():
            if name not in _INTERNAL:
                found[f"attribute {path}.{name}".replace(" .", " ")] = _fingerprint(value, _DEPTH)
    found |= {f"buffer {name}": _fingerprint(value, 0) for name, value in module.named_buffers()}
    found |= {f"parameter {name}": _fingerprint(value, 0) for name, value in module.named_parameters()}
    return found | _globals(module)


def _changed(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    names = [*before, *(name for name in after if name not in before)]
    return [name for name in names if before.get(name, _GONE) != after.get(name, _GONE)]


def _fingerprint(value: object, depth: int) -> object:
    """Equal for an unchanged value. A tensor's version counts what is written into it in place."""
    if isinstance(value, int | float | complex | str | bytes | bool | None):
        return value if value == value else "nan"
    if isinstance(value, Tensor):
        return (id(value), value._version)
    if isinstance(value, np.ndarray):
        return (id(value), hash(value.tobytes()))
    if depth == 0 or isinstance(value, nn.Module | ModuleType | type | FunctionType):
        return id(value)
    if isinstance(value, Mapping):
        return (len(value), tuple((str(k), _fingerprint(v, depth - 1)) for k, v in list(value.items())[:_ITEMS]))
    if isinstance(value, list | tuple | set | frozenset):
        return (len(value), tuple(_fingerprint(item, depth - 1) for item in list(value)[:_ITEMS]))
    held = vars(value) if hasattr(value, "__dict__") else {}
    return (id(value), _fingerprint(held, depth - 1) if held else None)


def _globals(module: nn.Module) -> dict[str, object]:
    """The global variables that the user's methods, and the user's functions that they call, speak of."""
    found: dict[str, object] = {}
    pending = [method for _, kind in user_classes(module) for method in methods(kind)]
    seen: set[FunctionType] = set()
    while pending:
        function = pending.pop()
        if function in seen or not is_user_file(function.__code__.co_filename):
            continue
        seen.add(function)
        for name in _names(function.__code__):
            value = function.__globals__.get(name, _GONE)
            if isinstance(value, FunctionType):
                pending.append(value)
            elif value is not _GONE and not isinstance(value, ModuleType | type):
                found[f"global {function.__module__}.{name}"] = _fingerprint(value, _DEPTH)
    return found


def _names(code: CodeType) -> set[str]:
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)
