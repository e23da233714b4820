"""Load the model that a contract names."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from ..contract import Contract
from ..errors import MissingExtra, ModelError
from ..usercode import importing_from, raised_at, resolve
from .fit import Fitted, fit_weights
from .kinds import file_kind
from .live import take_over
from .loaded import LoadedModel
from .weights import load_weights

if TYPE_CHECKING:
    from torch import nn


def load_model(contract: Contract, *, mend: bool = False) -> LoadedModel:
    """The model of `contract.model` with `contract.weights`, and `task.post` behind it.

    `mend` takes known prefixes (`module.`, `_orig_mod.`, `model.`, `net.`) off keys that do not fit otherwise.
    Raises ModelError where it cannot be loaded, WeightsError where the weights do not fit, UnsafePickle where reading
    a file would execute code, MissingExtra without torch."""
    _need_torch()
    if contract.model is None:
        raise ModelError(
            "the contract", "names no model", 'write model = "module:callable" or the path of a model file'
        )
    is_file = ":" not in contract.model
    loaded = _load_file(contract, contract.path(contract.model)) if is_file else _load_built(contract, mend=mend)
    return _with_post(loaded, contract)


def from_module(module: nn.Module, contract: Contract | None = None) -> LoadedModel:
    """A live module, as a private deep copy on the CPU in evaluation mode; `module` itself is not touched.

    Wrappers of DataParallel and torch.compile are taken off; an ExportedProgram is taken as well.
    With a contract, its `task.post` is put behind the copy. Raises ModelError where the module cannot be copied."""
    _need_torch()
    from torch import nn
    from torch.export import ExportedProgram

    from .graphs import ExportedModule

    if isinstance(module, ExportedProgram):
        loaded = LoadedModel("exported", ExportedModule(module))
    elif isinstance(module, nn.Module):
        loaded = take_over(module, type(module).__name__, live=True)
    else:
        raise _no_module(f"a {_kind(module)}", module)
    return loaded if contract is None else _with_post(loaded, contract)


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as exc:
        raise MissingExtra("loading a model", "torch", "build") from exc


def _load_file(contract: Contract, path: Path) -> LoadedModel:
    from .graphs import load_exported, load_onnx, load_torchscript

    kind = file_kind(path)
    if kind in ("safetensors", "tensors"):
        raise ModelError(
            str(path),
            "is a state_dict, which has weights but no model",
            f'name what builds the model too: model = "module:callable", weights = "{path.name}"',
        )
    if kind == "onnx":
        return load_onnx(path, contract)
    return load_torchscript(path) if kind == "torchscript" else load_exported(path)


def _load_built(contract: Contract, *, mend: bool) -> LoadedModel:
    reference = str(contract.model)
    module, live = _build(reference, contract.root)
    fitted = Fitted()
    if contract.weights is not None:
        path = contract.path(contract.weights)
        private = take_over(module, reference, live=True).module if live else module
        assert private is not None
        fitted = fit_weights(private, load_weights(path), str(path), mend=mend)
        module, live = private, False
    taken = take_over(module, reference, live=live)
    return LoadedModel(
        taken.source, taken.module, None, fitted.mended, (*fitted.notes, *taken.notes), taken.training, taken.devices
    )


def _build(reference: str, root: Path) -> tuple[nn.Module, bool]:
    """The module that a reference gives, and whether it is a live one of the user's own (not freshly built)."""
    from torch import nn

    found = resolve(reference, root)
    if isinstance(found, nn.Module):
        return found, True
    if not callable(found):
        raise _no_module(reference, found)
    _takes_no_arguments(reference, found)
    try:
        with importing_from(root):
            built = found()
    except Exception as exc:  # a user's factory may raise anything at all
        raise ModelError(
            reference, f"raises when it is called: {raised_at(exc)}", "correct it, or call it in Python to see"
        ) from exc
    if not isinstance(built, nn.Module):
        raise _no_module(reference, built)
    return built, False


def _takes_no_arguments(reference: str, found: object) -> None:
    try:
        parameters = inspect.signature(found).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]
    if needed:
        raise ModelError(
            reference,
            f"needs arguments ({', '.join(needed)}), but is called without any",
            "name a function that builds the model with all its settings, such as def build_model(): return Net(...)",
        )


def _no_module(reference: str, value: object) -> ModelError:
    if isinstance(value, tuple):
        hint = "return the model alone"
    elif isinstance(value, dict):
        hint = "that looks like a state_dict: name what builds the model, and give the file as weights"
    elif isinstance(value, type):
        hint = "return an instance, not the class"
    else:
        hint = "name a function or a class that gives an nn.Module"
    return ModelError(reference, f"gives {_kind(value)}, not an nn.Module", hint)


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _with_post(model: LoadedModel, contract: Contract) -> LoadedModel:
    if contract.task.post is None:
        return model
    from .post import put_behind

    post, live = _build(contract.task.post, contract.root)
    taken = take_over(post, contract.task.post, live=live).module
    assert taken is not None
    return put_behind(model, taken, contract)
