"""A first contract, from a model and an example of its input: by running it, and saying what stays uncertain."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..contract import Contract, Dim, InputSpec, KeyPath, Reference, TaskSpec, TensorSpec, contract_toml
from .draft_example import argument_names, example_feeds
from .draft_sizes import Axis, Feeds, Sizes, find_sizes, resized, with_batch
from .draft_task import Guess, guess_task
from .draft_trial import Trial, dtype_of
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
    trial = Trial(model, model_ref)
    feeds = trial.settle(example_feeds(example_ref, root, argument_names(model, tuple(contract.inputs)), notes), notes)
    sizes = find_sizes(with_batch(feeds, 2), trial.accepts)
    inputs = {key: InputSpec(dtype=dtype_of(key, array), shape=sizes.shapes[key]) for key, array in feeds.items()}
    contract = contract.model_copy(update={"inputs": inputs})
    contract, guess = _with_task(contract, model, feeds, sizes)
    notes += [*_dynamic(contract), f"{guess.why} (task.kind = {guess.kind})"]
    return Draft(contract, tuple(notes), _text(contract, guess))


def _load(model_ref: str, root: Path, name: str | None) -> tuple[Contract, LoadedModel]:
    inputs: Mapping[str, TensorSpec] = {}
    if model_ref.lower().endswith(".onnx") and (root / model_ref).is_file():
        from ..runtime import describe

        signature = describe(root / model_ref).signature
        inputs = signature.inputs if signature is not None else {}
    # What is not known yet: nothing but an .onnx file is looked at before it runs.
    shown = {key: InputSpec(dtype=spec.dtype, shape=(Dim("batch"),)) for key, spec in inputs.items()}
    placeholder = shown or {"input": InputSpec(dtype="float32", shape=(Dim("batch"),))}
    contract = Contract(name=name or _slug(model_ref), model=model_ref, inputs=placeholder, root=root)
    return contract, load_model(contract)


def _slug(model_ref: str) -> str:
    reference = Reference.parse(model_ref)
    word = reference.module.rpartition(".")[2] if reference else Path(model_ref).stem
    return re.sub(r"[^a-z0-9._-]+", "-", word.lower()).strip("-._")[:63] or "model"


def _with_task(contract: Contract, model: LoadedModel, feeds: Feeds, sizes: Sizes) -> tuple[Contract, Guess]:
    small, large = with_batch(feeds, 2), resized(with_batch(feeds, 3), sizes.other)
    alone = (resized(small, axes) for axes in _axes_by_dimension(sizes))
    guess = guess_task(run_eager(model, contract.signature, with_batch(feeds, max(4, len(next(iter(feeds.values())))))))
    contract = contract.model_copy(update={"task": TaskSpec(kind=guess.kind)})
    return infer_outputs(model, contract, small, large, *alone), guess


def _axes_by_dimension(sizes: Sizes) -> list[dict[Axis, int]]:
    """For each dynamic dimension behind the batch, another size of all the axes that have its name."""
    named: dict[str, dict[Axis, int]] = {}
    for (name, axis), size in sizes.other.items():
        named.setdefault(str(sizes.shapes[name][axis]), {})[name, axis] = size
    return list(named.values())


def _dynamic(contract: Contract) -> Iterator[str]:
    dims = [str(dim) for dim in contract.signature.dynamic()][1:]
    if dims:
        yield f"the model ran at other sizes of {', '.join(dims)}; write a number where one should be fixed"


def _comments(contract: Contract, guess: Guess) -> Iterator[tuple[KeyPath, str]]:
    if Reference.parse(contract.model or ""):
        yield ("model",), 'Where the weights are in a file of their own: weights = "model.safetensors"'
    for name, spec in contract.inputs.items():
        dims = [str(dim) for dim in spec.shape[1:] if isinstance(dim, Dim)]
        if dims:
            text = f"The model ran at other sizes of {' and '.join(dims)}; write a number where it should be fixed."
            yield ("inputs", name), text
        elif (size := _image_size(spec)) is not None:
            accept = f'{{ kind = "image", size = {list(size)}, mode = "{"L" if spec.shape[1] == 1 else "RGB"}" }}'
            yield ("inputs", name), f"Where this is an image: accept = {accept}"
    lines = textwrap.wrap(f"Assumed: {guess.why}.", 108)
    if guess.classes:
        lines.append('Names of the classes, in the order of the scores: labels = ["...", "...", ...]')
    yield ("task",), "\n".join(lines)


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


def _text(contract: Contract, guess: Guess) -> str:
    comments = dict(_comments(contract, guess))
    text = contract_toml(contract, comments)
    if contract.task == TaskSpec():
        # A table that only has defaults is not written, and its comment would be lost.
        lines = [f"# {line}" for line in comments["task",].splitlines()]
        text += "\n" + "\n".join([*lines, "[task]", 'kind = "tensors"', ""])
    return text + _REST
