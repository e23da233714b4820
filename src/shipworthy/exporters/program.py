"""torch.export with the contract's dynamic dimensions, and its refusals in the contract's words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..contract import Dim, Signature
from ..model.dynamic import dynamic_axes
from ..runtime.guarded import first_line
from .job import Job, NoProgramError
from .positional import example_tensors, positional


def to_program(job: Job) -> torch.export.ExportedProgram:
    """The job's module as an ExportedProgram on the CPU, in its precision.

    Raises NoProgramError where a branch depends on data, or a dimension cannot be as free as the contract has it."""
    if job.model.source == "torchscript":
        raise NoProgramError("torch.export", "does not take TorchScript", "give the nn.Module that it was made from")
    return program_of(positional(job), example_tensors(job), job.signature)


def on_device(program: torch.export.ExportedProgram, device: str) -> torch.export.ExportedProgram:
    """The program with its weights and constants there, and every device that is written into the graph."""
    if device == "cpu":
        return program
    from torch.export.passes import move_to_device_pass

    return move_to_device_pass(program, device)


def program_of(
    module: nn.Module, example: tuple[torch.Tensor, ...], signature: Signature
) -> torch.export.ExportedProgram:
    """A Positional as an ExportedProgram, with the signature's dynamic dimensions. Raises as above."""
    shapes = (dynamic_axes(signature),)
    first: Exception | None = None
    for strict, patches in ((False, _no_patches), (True, _no_patches), (False, _recurrent_loops)):
        if patches is _recurrent_loops and not _is_recurrent(module):
            continue
        try:
            with torch.no_grad(), patches():
                return torch.export.export(module, example, dynamic_shapes=shapes, strict=strict)
        except Exception as error:  # noqa: BLE001 torch.export raises dozens of classes, and what forward raises
            first = first or error
    assert first is not None
    raise explained(first, signature) from first


@contextlib.contextmanager
def _no_patches() -> Iterator[None]:
    yield


@contextlib.contextmanager
def _recurrent_loops() -> Iterator[None]:
    """LSTM and GRU as loops. Otherwise torch.export unrolls them, which fixes the length of a sequence."""
    from torch.export._patches import (
        register_gru_while_loop_decomposition,
        register_lstm_while_loop_decomposition,
    )

    operators = (torch.ops.aten.lstm.input, torch.ops.aten.gru.input)
    with register_lstm_while_loop_decomposition(), register_gru_while_loop_decomposition():
        try:
            _forget(operators)
            yield
        finally:
            _forget(operators)


def _forget(operators: Iterable[Any]) -> None:
    """An operator that was exported before has its way of decomposing cached, which the registration does not clear."""
    for operator in operators:
        operator._dispatch_cache.clear()


def _is_recurrent(module: nn.Module) -> bool:
    return any(isinstance(layer, (nn.LSTM, nn.GRU)) for layer in module.modules())


_FIXED = re.compile(r"marked (\w+) as dynamic but your code specialized it to be a constant \((\d+)\)")
_SUGGESTED = re.compile(r"Suggested fixes:\s*\n((?:\s+\w+ = .*\n?)+)")
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\w+)(?:, code: (.*))?')
_NOT_THE_USERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def explained(error: Exception, signature: Signature) -> NoProgramError:
    """A refusal of torch.export, which names the dimension or the branch, and the remedy."""
    text = str(error)
    if (fixed := _FIXED.search(text)) is not None:
        name, size = fixed.groups()
        return NoProgramError(
            f"torch.export: dimension {name!r}",
            f"the model's code works for the size {size} of the example only{_at(text)}",
            f'make the code follow the size of its input, or fix it in the contract ("{name}" becomes {size})',
        )
    if (suggested := _SUGGESTED.search(text)) is not None:
        return _bounded([line.strip() for line in suggested[1].strip().splitlines()], text, signature)
    if "data-dependent" in text.lower() or "DataDependent" in type(error).__name__:
        return NoProgramError(
            "torch.export",
            f"a branch or a size depends on the values of a tensor{_at(text)}",
            "write it with torch.where or torch.cond; the engine torchscript can keep both branches as they are",
        )
    return NoProgramError("torch.export", f"{type(error).__name__}: {first_line(error)}", "use the engine torchscript")


def _bounded(fixes: list[str], text: str, signature: Signature) -> NoProgramError:
    """Torch's own suggestion, such as `tokens = Dim('tokens', max=512)`, as the contract would say it."""
    for fix in fixes:
        name, _, value = fix.partition(" = ")
        limits = {key: int(number) for key, number in re.findall(r"(min|max)=(\d+)", value)}
        stated = next((dim for dim in signature.dynamic() if dim.name == name), None)
        if limits and stated is not None:
            within = Dim(name, max(limits.get("min", 1), stated.min), limits.get("max", stated.max))
            return NoProgramError(
                f"torch.export: dimension {name!r}",
                f"the model does not take every size that the contract allows{_at(text)}",
                f'write "{within}" in the contract',
            )
    return NoProgramError(
        f"torch.export: dimension {fixes[0].partition(' = ')[0]!r}",
        f"is tied to another size by the model's code: {'; '.join(fixes)}{_at(text)}",
        "use one name for dimensions that are equal, or fix the dimension in the contract",
    )


def _at(text: str) -> str:
    """Where in the user's code, as far as torch says it."""
    for path, line, function, code in _FRAME.findall(text):
        if not path.startswith(_NOT_THE_USERS):
            return f" ({path.rsplit('/', 1)[-1]}:{line} in {function}{': ' + code.strip() if code else ''})"
    return ""
