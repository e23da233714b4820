"""Find a model's outputs by running it: names, dtypes, shapes with their dynamic dimensions, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

import numpy as np

from ..contract import BATCH, Array, Arrays, Contract, Dim, OutputSpec
from ..contract.spec import Kind
from ..contract.tensors import DType
from ..errors import ContractError, ModelError
from .loaded import LoadedModel
from .run import run_eager

_TOLERANCE = 1e-3


def infer_outputs(model: LoadedModel, contract: Contract, feeds_small: Arrays, feeds_large: Arrays) -> Contract:
    """The contract with its outputs filled in, from two runs whose dynamic dimensions all differ in size.

    A dimension whose size follows one of the inputs gets its name; one that changes otherwise gets a name of its own;
    the rest is fixed. Outputs that the contract states already are compared with what the runs give.
    Raises ModelError where the two runs differ in their outputs, ContractError where the stated ones do not fit."""
    signature = contract.signature
    small = run_eager(model, signature, feeds_small)
    large = run_eager(model, signature, feeds_large)
    if list(small) != list(large):
        raise ModelError(
            "the model's result",
            f"is {', '.join(small)} for one input and {', '.join(large)} for another",
            "return the same outputs for every input",
        )
    if contract.outputs:
        _compare(contract, small)
        _compare(contract, large)
        return contract
    sizes = {name: (_size(contract, feeds_small, name), _size(contract, feeds_large, name)) for name in _dims(contract)}
    specs = {name: _spec(contract, name, small[name], large[name], sizes) for name in small}
    specs = _with_kinds(contract, specs, large)
    return contract.model_copy(update={"outputs": _renamed(specs)})


def _compare(contract: Contract, found: Mapping[str, Array]) -> None:
    for name, array in found.items():
        misfit = contract.outputs[name].misfit(array)
        if misfit is not None:
            raise ContractError(
                f"outputs.{name}", f"{misfit} from the model", "correct it, or leave outputs out: they are found"
            )


def _dims(contract: Contract) -> list[str]:
    return [dim.name for dim in contract.signature.dynamic()]


def _size(contract: Contract, feeds: Arrays, dim: str) -> int:
    for name, spec in contract.inputs.items():
        for axis, size in enumerate(spec.shape):
            if isinstance(size, Dim) and size.name == dim:
                return int(feeds[name].shape[axis])
    raise AssertionError(f"{dim} is no dimension of the inputs")


def _spec(
    contract: Contract, name: str, small: Array, large: Array, sizes: Mapping[str, tuple[int, int]]
) -> OutputSpec:
    if small.ndim != large.ndim or small.dtype != large.dtype:
        raise ModelError(
            f"output {name}",
            f"is {small.dtype} {list(small.shape)} for one input and {large.dtype} {list(large.shape)} for another",
            "return the same dtype and number of dimensions for every input (squeeze() drops a batch of one)",
        )
    if small.dtype.name not in get_args(DType):
        raise ModelError(
            f"output {name}",
            f"is of dtype {small.dtype}, which no package holds",
            "cast it in task.post, as with .float()",
        )
    pairs = enumerate(zip(small.shape, large.shape, strict=True))
    shape = tuple(_dim(contract, name, axis, pair, sizes) for axis, pair in pairs)
    return OutputSpec(dtype=cast(DType, small.dtype.name), shape=shape)


def _dim(
    contract: Contract, output: str, axis: int, pair: tuple[int, int], sizes: Mapping[str, tuple[int, int]]
) -> int | Dim:
    matching = [name for name, both in sizes.items() if both == pair and both[0] != both[1]]
    if axis == 0 and BATCH in matching:
        return Dim(BATCH)
    if matching:
        given = {dim.name: dim for dim in contract.signature.dynamic()}
        return given[next((name for name in matching if name != BATCH), matching[0])]
    return pair[0] if pair[0] == pair[1] else Dim(f"{output}_{axis}")


def _with_kinds(contract: Contract, specs: dict[str, OutputSpec], arrays: Arrays) -> dict[str, OutputSpec]:
    """Give the output that the task reads its kind: the first with one score per label, or the first that could be."""
    task = contract.task
    if task.kind not in ("classification", "multilabel"):
        return specs
    fitting = [name for name, spec in specs.items() if _could_score(spec, task.labels)]
    if not fitting:
        return specs
    name = fitting[0]
    kind: Kind = "probabilities" if _probabilities(arrays[name], exclusive=task.kind == "classification") else "logits"
    return {**specs, name: specs[name].model_copy(update={"kind": kind})}


def _could_score(spec: OutputSpec, labels: tuple[str, ...] | None) -> bool:
    if not spec.dtype.startswith("float") or len(spec.shape) < 2:
        return False
    return labels is None or spec.shape[-1] == len(labels)


def _probabilities(scores: Array, *, exclusive: bool) -> bool:
    """All within 0 and 1, and where the classes exclude each other, each row's sum is 1."""
    if scores.size == 0 or scores.min() < 0 or scores.max() > 1 + _TOLERANCE:
        return False
    return not exclusive or bool(np.allclose(scores.sum(-1), 1, atol=_TOLERANCE))


def _renamed(specs: dict[str, OutputSpec]) -> dict[str, OutputSpec]:
    """A single unnamed output of scores is called what it is."""
    if list(specs) != ["output"] or specs["output"].kind == "values":
        return specs
    return {specs["output"].kind: specs["output"]}
