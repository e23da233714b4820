"""Run a loaded model on arrays, exactly as PyTorch computes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract import Array, Arrays, Signature
from ..errors import MissingExtra, ModelError
from .loaded import LoadedModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def run_eager(model: LoadedModel, signature: Signature, feeds: Arrays) -> dict[str, Array]:
    """Outputs by name for inputs by name, in inference mode.

    The outputs are those of `signature`, in its order; without any there, they are named as `named_outputs` does.
    bfloat16 is returned as float32, which holds every value of it. An exception of the module's own comes through.
    Raises ModelError where the result is not made of tensors, or of another number than the signature says."""
    if model.module is None:
        found = _run_onnx(model, feeds)
    else:
        found = {name: to_numpy(tensor) for name, tensor in named_outputs(call(model.module, signature, feeds)).items()}
    if not signature.outputs:
        return found
    return _as_signed(found, signature)


def call(module: torch.nn.Module, signature: Signature, feeds: Arrays) -> object:
    """What the module itself returns for arrays, in inference mode."""
    import torch

    with torch.inference_mode():
        return module(*to_tensors(signature, feeds))


def to_tensors(signature: Signature, feeds: Arrays) -> tuple[Tensor, ...]:
    """The feeds as tensors of their own memory, in the order of the signature's inputs."""
    import torch

    return tuple(torch.from_numpy(np.array(feeds[name], order="C")) for name in signature.inputs)


def to_numpy(tensor: Tensor) -> Array:
    """A tensor's values; bfloat16, which NumPy lacks, as float32."""
    import torch

    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if plain.dtype == torch.bfloat16:
        plain = plain.float()
    return plain.numpy()


def named_outputs(result: object) -> dict[str, Tensor]:
    """The tensors of a module's result, by name: a dict's keys or a dataclass' fields, else output, or output_0 and on.

    Nested names are joined with an underscore; None is left out. Raises ModelError for anything else but tensors."""
    leaves = list(_leaves(result, ()))
    if not leaves:
        raise ModelError("the model's result", "has no tensor in it", "return a tensor, or a tuple or dict of tensors")
    if len(leaves) == 1 and not leaves[0][0]:
        return {"output": leaves[0][1]}
    names = [_joined(path) for path, _ in leaves]
    if len(set(names)) < len(names):
        names = [f"output_{number}" for number in range(len(leaves))]
    return dict(zip(names, (tensor for _, tensor in leaves), strict=True))


def _joined(path: Sequence[str]) -> str:
    text = "_".join(path)
    return f"output_{text}" if text[:1].isdigit() else text


def _leaves(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield path, value
    elif value is None:
        return
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for key, inner in zip(value._fields, value, strict=True):
            yield from _leaves(inner, (*path, str(key)))
    elif isinstance(value, (tuple, list)):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*path, str(number)))
    elif is_dataclass(value) and not isinstance(value, type):
        for item in fields(value):
            yield from _leaves(getattr(value, item.name), (*path, item.name))
    else:
        where = f" at {'.'.join(path)}" if path else ""
        raise ModelError(
            "the model's result",
            f"has a {type(value).__name__}{where} where a tensor is needed",
            "return tensors only; what is constant belongs into the contract",
        )


def _as_signed(found: dict[str, Array], signature: Signature) -> dict[str, Array]:
    if set(found) == set(signature.outputs):
        return {name: found[name] for name in signature.outputs}
    if len(found) != len(signature.outputs):
        raise ModelError(
            "the model's result",
            f"has {len(found)} outputs ({', '.join(found)}); the contract has {', '.join(signature.outputs)}",
            "correct the contract's outputs, or leave them out: they are found by running the model",
        )
    return dict(zip(signature.outputs, found.values(), strict=True))


def _run_onnx(model: LoadedModel, feeds: Arrays) -> dict[str, Array]:
    assert model.path is not None, "an ONNX model is a file"
    session = _session(model.path, model.path.stat().st_mtime_ns)
    names = [output.name for output in session.get_outputs()]
    needed = [value.name for value in session.get_inputs()]
    values = session.run(names, {name: np.ascontiguousarray(feeds[name]) for name in needed})
    return dict(zip(names, values, strict=True))


@lru_cache(maxsize=4)
def _session(path: Path, changed: int) -> Any:
    """A session without graph optimisations: the file's own arithmetic, which everything else is compared with.

    `changed` makes a file that was written again a new one."""
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ModuleNotFoundError as exc:
        raise MissingExtra(f"running {path.name}", "onnxruntime", "onnxruntime") from exc
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
