"""A first contract, from a model and an example of its input: by running it, and saying what stays uncertain."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from ..contract import (
    Array,
    Contract,
    Dim,
    InputSpec,
    KeyPath,
    Reference,
    Signature,
    TaskSpec,
    TensorSpec,
    contract_toml,
)
from ..contract.tensors import DType
from ..data.gather import to_array
from ..data.usercode import imported, project_code
from ..errors import DataError, ModelError
from .draft_sizes import Feeds, Sizes, find_sizes, resized, with_batch
from .draft_task import Guess, guess_task
from .infer import infer_outputs
from .load import load_model
from .loaded import LoadedModel
from .run import run_eager


@dataclass(frozen=True, slots=True)
class Draft:
    """A contract to start from."""

    contract: Contract
    notes: tuple[str, ...]
    """What was assumed, and what the author should look at."""
    toml: str
    """The contract's text, with the notes as comments beside what they are about."""


def draft_contract(model_ref: str, example_ref: str, root: Path, name: str | None = None) -> Draft:
    """Run the model of `model_ref` on the input of `example_ref`, at several sizes, and write down what it takes.

    `model_ref` is `module:callable` or a model file, `example_ref` a `module:callable` that returns an array, a tuple
    or a dict of them, or an .npz file; both start from `root`. A sample without a batch axis is taken too.
    Raises ModelError where the model cannot be loaded, fails on the example, or takes no other batch than it has,
    DataError where the example cannot be read."""
    contract, model = _load(model_ref, root, name)
    notes: list[str] = []
    feeds = _example(example_ref, root, _argument_names(model, contract), notes)
    trial = _Trial(model, model_ref)
    feeds = trial.settle(feeds, notes)
    sizes = find_sizes(with_batch(feeds, 2), trial.accepts)
    inputs = {key: InputSpec(dtype=_dtype(key, array), shape=sizes.shapes[key]) for key, array in feeds.items()}
    contract = contract.model_copy(update={"inputs": inputs})
    contract, guess = _with_task(contract, model, feeds, sizes)
    comments = dict(_comments(contract, guess))
    notes += [text for texts in comments.values() for text in texts]
    return Draft(contract, tuple(notes), _text(contract, comments))


def _load(model_ref: str, root: Path, name: str | None) -> tuple[Contract, LoadedModel]:
    inputs: Mapping[str, TensorSpec] = {}
    if model_ref.lower().endswith(".onnx") and (root / model_ref).is_file():
        from ..runtime import describe

        inputs = describe(root / model_ref).signature.inputs
    # What is not known yet: nothing but an .onnx file is looked at before it runs.
    shown = {key: InputSpec(dtype=spec.dtype, shape=(Dim("batch"),)) for key, spec in inputs.items()}
    placeholder = shown or {"input": InputSpec(dtype="float32", shape=(Dim("batch"),))}
    contract = Contract(name=name or _slug(model_ref), model=model_ref, inputs=placeholder, root=root)
    return contract, load_model(contract)


def _slug(model_ref: str) -> str:
    reference = Reference.parse(model_ref)
    word = reference.module.rpartition(".")[2] if reference else Path(model_ref).stem
    return re.sub(r"[^a-z0-9._-]+", "-", word.lower()).strip("-._")[:63] or "model"


@dataclass(frozen=True, slots=True)
class _Arguments:
    """Names of the model's arguments that an input can go to, in order; `open` where it takes any number of them."""

    names: tuple[str, ...]
    required: int
    open: bool = False

    def name(self, position: int) -> str:
        return self.names[position] if position < len(self.names) else f"input_{position}"


def _argument_names(model: LoadedModel, contract: Contract) -> _Arguments:
    if model.module is None:
        return _Arguments(tuple(contract.inputs), len(contract.inputs))
    if model.source == "torchscript":
        schema = [argument.name for argument in cast(Any, model.module.forward).schema.arguments[1:]]
        return _Arguments(tuple(schema), len(schema))
    if model.source == "exported":
        names = tuple(cast(Any, model.module).program.graph_signature.user_inputs)
        return _Arguments(names, len(names))
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.module.forward).parameters.values()
    positional = [parameter for parameter in parameters if parameter.kind in kinds]
    required = sum(parameter.default is parameter.empty for parameter in positional)
    is_open = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    return _Arguments(tuple(parameter.name for parameter in positional), required, is_open)


def _example(example_ref: str, root: Path, arguments: _Arguments, notes: list[str]) -> Feeds:
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
    found = imported(reference, root)
    if callable(found) and not hasattr(found, "shape"):
        with project_code(root, example_ref):
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


def _by_name(value: Mapping[Any, Any], culprit: str, arguments: _Arguments, notes: list[str]) -> Feeds:
    arrays = {str(key): to_array(item, f"{culprit}: {key}") for key, item in value.items()}
    order = [name for name in arguments.names if name in arrays]
    if len(order) < len(arrays):
        targets = [name for name in arrays if name in ("label", "target", "labels", "targets") and name not in order]
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


class _Trial:
    """Runs of the model that may fail: whether it takes a size is found by trying."""

    def __init__(self, model: LoadedModel, culprit: str) -> None:
        self._model = model
        self._culprit = culprit

    def run(self, feeds: Feeds) -> dict[str, Array]:
        specs = {name: TensorSpec(dtype=_dtype(name, array), shape=()) for name, array in feeds.items()}
        return run_eager(self._model, Signature(inputs=specs), feeds)

    def accepts(self, feeds: Feeds) -> bool:
        """Whether the model runs, with the batch as the first size of an output."""
        return self._failure(feeds) is None

    def _failure(self, feeds: Feeds) -> BaseException | None:
        try:
            outputs = self.run(feeds)
        except ModelError:
            raise
        # A model that does not take a size says so with whatever its layers raise.
        except Exception as error:  # noqa: BLE001
            return error
        batch = len(next(iter(feeds.values())))
        follows = any(array.ndim > 0 and len(array) == batch for array in outputs.values())
        return None if follows else ValueError(f"no output has {batch} rows for {batch} samples")

    def settle(self, feeds: Feeds, notes: list[str]) -> Feeds:
        """The example in the dtype and with the batch axis that the model takes."""
        attempts: list[tuple[Feeds, str]] = [(feeds, "")]
        doubles = [name for name, array in feeds.items() if array.dtype == np.float64]
        if doubles:
            single = {name: array.astype(np.float32) if name in doubles else array for name, array in feeds.items()}
            attempts.insert(0, (single, f"the example's {', '.join(doubles)} is float64; the model takes float32"))
        if all(array.ndim > 0 for array in feeds.values()):
            attempts += [(_batch_of_one(tried), said) for tried, said in attempts]
        else:
            attempts = [(_batch_of_one(tried), said) for tried, said in attempts]
        for tried, said in attempts:
            if len({len(array) for array in tried.values()}) == 1 and all(
                self.accepts(with_batch(tried, batch)) for batch in (2, 3)
            ):
                notes += [said] if said else []
                if next(iter(tried.values())).ndim > next(iter(feeds.values())).ndim:
                    notes.append("the example is one sample; a batch axis was put in front")
                return tried
        raise self._refusal(attempts[0][0])

    def _refusal(self, feeds: Feeds) -> ModelError:
        shown = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in feeds.items())
        failure = self._failure(feeds)
        if failure is not None:
            reason = f"fails on the example ({shown}): {type(failure).__name__}: {_first_line(failure)}"
            return ModelError(self._culprit, reason, "give an input that it takes, with the batch as the first axis")
        failure = self._failure(with_batch(feeds, 2)) or self._failure(with_batch(feeds, 3))
        reason = f"takes the example ({shown}), and no other batch: {_first_line(failure)}"
        return ModelError(self._culprit, reason, "use x.shape[0] in place of a number, or -1 in view and reshape")


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _batch_of_one(feeds: Feeds) -> Feeds:
    return {name: array[None] for name, array in feeds.items()}


def _dtype(name: str, array: Array) -> DType:
    if array.dtype.name not in get_args(DType):
        raise DataError(name, f"is of dtype {array.dtype}", f"give one of {', '.join(get_args(DType))}")
    return cast(DType, array.dtype.name)


def _with_task(contract: Contract, model: LoadedModel, feeds: Feeds, sizes: Sizes) -> tuple[Contract, Guess]:
    small, large = with_batch(feeds, 2), resized(with_batch(feeds, 3), sizes.other)
    guess = guess_task(run_eager(model, contract.signature, with_batch(feeds, max(4, len(next(iter(feeds.values())))))))
    contract = contract.model_copy(update={"task": TaskSpec(kind=guess.kind)})
    return infer_outputs(model, contract, small, large), guess


def _comments(contract: Contract, guess: Guess) -> Iterator[tuple[KeyPath, list[str]]]:
    if Reference.parse(contract.model or ""):
        yield ("model",), ['Weights that are in a file of their own: weights = "model.safetensors"']
    for name, spec in contract.inputs.items():
        texts = []
        dims = [dim for dim in spec.shape[1:] if isinstance(dim, Dim)]
        if dims:
            listed = ", ".join(map(str, dims))
            texts.append(f"The model ran at other sizes of {listed}; write a number where it should be fixed.")
        if (size := _image_size(spec)) is not None:
            mode = "L" if spec.shape[1] == 1 else "RGB"
            texts.append(f'Where this is an image: accept = {{ kind = "image", size = {list(size)}, mode = "{mode}" }}')
        if texts:
            yield ("inputs", name), texts
    labels = "Names of the classes, in their order: labels = [" + '"...", ' * min(guess.classes or 0, 2) + "...]"
    yield ("task",), [f"Assumed: {guess.why}.", *([labels] if guess.classes else [])]


def _image_size(spec: InputSpec) -> tuple[int, int] | None:
    if len(spec.shape) != 4 or spec.shape[1] not in (1, 3) or not spec.dtype.startswith("float"):
        return None
    height, width = spec.shape[2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


_REST = """
# What it is measured with: arrays named like the inputs, and "label" or "target".
# [data]
# validation = "validation.npz"

# What it must keep. What is not stated is not judged.
# [limits]
# max_metric_drop = 0.005
# p99_ms = 10.0
"""


def _text(contract: Contract, comments: Mapping[KeyPath, list[str]]) -> str:
    text = contract_toml(contract, {path: "\n".join(texts) for path, texts in comments.items()})
    if contract.task == TaskSpec():
        # A table that only has defaults is not written, and its comment would be lost.
        text += "\n" + "\n".join(f"# {line}" for line in comments["task",]) + '\n[task]\nkind = "tensors"\n'
    return text + _REST
