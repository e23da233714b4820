"""Find a model's outputs by running it: names, dtypes, shapes with their dynamic dimensions, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast, get_args

import numpy as np

from ..contract import BATCH, Array, Arrays, Contract, Dim, OutputSpec
from ..contract.spec import Kind
from ..contract.tensors import DType
from ..errors import ContractError, ModelError
from .loaded import LoadedModel
from .run import run_eager

Sizes: TypeAlias = tuple[int, ...]
"""Of one dimension, run by run."""

_TOLERANCE = 1e-3


def infer_outputs(model: LoadedModel, contract: Contract, *feeds: Arrays) -> Contract:
    """The contract with its outputs filled in, from runs in which every dynamic dimension has different sizes.

    A dimension of an output that has the size of one of the inputs' dimensions in every run gets its name, which two
    of them can only both have if no run tells them apart; one that changes otherwise gets a name of its own; the rest
    is fixed. Outputs that the contract states already are compared with what the runs give.
    Raises ModelError where the runs differ in their outputs, ContractError where the stated ones do not fit."""
    runs = [run_eager(model, contract.signature, one) for one in feeds]
    for run in runs[1:]:
        if list(run) != list(runs[0]):
            raise ModelError(
                "the model's result",
                f"is {', '.join(runs[0])} for one input and {', '.join(run)} for another",
                "return the same outputs for every input",
            )
    if contract.outputs:
        for run in runs:
            _compare(contract, run)
        return contract
    sizes = {name: tuple(_size(contract, one, name) for one in feeds) for name in _dims(contract)}
    specs = {name: _spec(contract, name, [run[name] for run in runs], sizes) for name in runs[0]}
    specs = _with_kinds(contract, specs, max(runs, key=lambda run: sum(array.size for array in run.values())))
    return contract.with_outputs(_renamed(specs))


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


def _spec(contract: Contract, name: str, arrays: Sequence[Array], sizes: Mapping[str, Sizes]) -> OutputSpec:
    first = arrays[0]
    for other in arrays[1:]:
        if first.ndim != other.ndim or first.dtype != other.dtype:
            raise ModelError(
                f"output {name}",
                f"is {first.dtype} {list(first.shape)} for one input and {other.dtype} {list(other.shape)} for another",
                "return the same dtype and number of dimensions for every input (squeeze() drops a batch of one)",
            )
    if first.dtype.name not in get_args(DType):
        raise ModelError(
            f"output {name}",
            f"is of dtype {first.dtype}, which no package holds",
            "cast it in task.post, as with .float()",
        )
    found = zip(*(array.shape for array in arrays), strict=True)
    shape = tuple(_dim(contract, name, axis, tuple(seen), sizes) for axis, seen in enumerate(found))
    return OutputSpec(dtype=cast(DType, first.dtype.name), shape=shape)


def _dim(contract: Contract, output: str, axis: int, seen: Sizes, sizes: Mapping[str, Sizes]) -> int | Dim:
    """What an output's axis is, whose size was `seen` in each run."""
    if axis == 0 and seen == sizes[BATCH]:
        return Dim(BATCH)
    if len(set(seen)) == 1:
        return seen[0]
    given = {dim.name: dim for dim in contract.signature.dynamic()}
    following = [name for name, of_input in sizes.items() if of_input == seen]
    if not following:
        return Dim(f"{output}_{axis}")
    return given[next((name for name in following if name != BATCH), following[0])]


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
