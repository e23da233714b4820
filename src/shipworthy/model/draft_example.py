"""The example that a draft starts from: the arrays that the user's code or file gives, by the model's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..contract import Array, Reference
from ..data.gather import TARGETS, to_array
from ..errors import DataError
from ..usercode import resolve, running
from .loaded import LoadedModel


@dataclass(frozen=True, slots=True)
class Arguments:
    """Names of the model's arguments that an input can go to, in order; `open` where it takes any number of them."""

    names: tuple[str, ...]
    required: int
    open: bool = False

    def name(self, position: int) -> str:
        return self.names[position] if position < len(self.names) else f"input_{position}"


def argument_names(model: LoadedModel, graph_inputs: tuple[str, ...]) -> Arguments:
    """The arguments of the model; those of an .onnx file are its graph's inputs."""
    if model.module is None:
        return Arguments(graph_inputs, len(graph_inputs))
    if model.source == "torchscript":
        schema = [argument.name for argument in cast(Any, model.module.forward).schema.arguments[1:]]
        return Arguments(tuple(schema), len(schema))
    if model.source == "exported":
        names = tuple(cast(Any, model.module).program.graph_signature.user_inputs)
        return Arguments(names, len(names))
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.module.forward).parameters.values()
    positional = [parameter for parameter in parameters if parameter.kind in kinds]
    required = sum(parameter.default is parameter.empty for parameter in positional)
    is_open = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    return Arguments(tuple(parameter.name for parameter in positional), required, is_open)


def example_feeds(example_ref: str, root: Path, arguments: Arguments, notes: list[str]) -> dict[str, Array]:
    """The example's arrays by input name. `notes` gets what was assumed. Raises DataError."""
    value = _example_value(example_ref, root)
    if isinstance(value, Mapping):
        return _by_name(value, example_ref, arguments, notes)
    values = value if isinstance(value, tuple) else (value,)
    if isinstance(value, list) and value and hasattr(value[0], "shape"):
        values = tuple(value)
    if len(values) < arguments.required or (len(values) > len(arguments.names) and not arguments.open):
        takes = ", ".join(arguments.names)
        reason = f"gives {len(values)} inputs, and the model takes {arguments.required} ({takes})"
        raise DataError(example_ref, reason, "return only the inputs: a tensor, a tuple in this order, or a dict")
    return {arguments.name(place): to_array(item, example_ref) for place, item in enumerate(values)}


def _example_value(example_ref: str, root: Path) -> object:
    if example_ref.lower().endswith(".npz"):
        return _npz(root / example_ref)
    reference = Reference.parse(example_ref)
    if reference is None:
        raise DataError(example_ref, "is neither module:callable nor an .npz file", 'such as "train:example_input"')
    found = resolve(str(reference), root, DataError)
    if callable(found) and not hasattr(found, "shape"):
        with running(root, example_ref, DataError):
            found = found()
    if found is None:
        raise DataError(example_ref, "returns nothing", "return the input: a tensor, a tuple or a dict")
    return found


def _npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataError(str(path), "there is no such file", "write it with np.savez(path, name=array)") from None
    # NumPy's readers raise nearly anything for a damaged file.
    except Exception as error:
        remedy = "write it with np.savez(path, name=array), arrays of numbers only"
        raise DataError(str(path), f"cannot be read: {error}", remedy) from error


def _by_name(value: Mapping[Any, Any], culprit: str, arguments: Arguments, notes: list[str]) -> dict[str, Array]:
    arrays = {str(key): to_array(item, f"{culprit}: {key}") for key, item in value.items()}
    order = [name for name in arguments.names if name in arrays]
    if len(order) < len(arrays):
        targets = [name for name in arrays if name in TARGETS and name not in order]
        arrays = {name: array for name, array in arrays.items() if name not in targets}
    if len(order) == len(arrays):
        if order != list(arguments.names[: len(order)]):
            gap = next(name for name in arguments.names if name not in arrays)
            remedy = f"give {gap} too, or wrap the model in one that takes only these"
            raise DataError(culprit, f"leaves {gap} out, and inputs are given by their position", remedy)
        return {name: arrays[name] for name in order}
    if not order and arguments.required <= len(arrays) and (arguments.open or len(arrays) <= len(arguments.names)):
        notes.append(f"the inputs are named as in {culprit}, and given to {', '.join(arguments.names)} in this order")
        return arrays
    unknown = ", ".join(name for name in arrays if name not in order)
    raise DataError(culprit, f"names {unknown}, and the model takes {', '.join(arguments.names)}", "use these names")
