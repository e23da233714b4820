"""How a model comes from one process to another: again from its contract, or as a file of this build."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..contract import Contract
from ..errors import ModelError
from .messages import ModelSource

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from ..model import LoadedModel


def written(model: LoadedModel, contract: Contract, folder: Path, name: str) -> ModelSource:
    """Write the model where worker processes find it: graphs in their own format, the rest as a cloudpickle.

    The files bear `name` and appear whole, so that no build takes away the model of another."""
    import cloudpickle  # type: ignore[import-untyped]
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    kept, module = model, model.module
    if model.source == "torchscript" and isinstance(module, torch.jit.ScriptModule):
        file = folder / f"model-{name}.pt"
        kept = replace(model, module=None, path=file)
        with _whole(file) as unfinished:
            torch.jit.save(module, unfinished)
    elif model.source == "exported" and module is not None:
        file = folder / f"model-{name}.pt2"
        kept = replace(model, module=None, path=file)
        with _whole(file) as unfinished:
            torch.export.save(cast("ExportedProgram", module.program), unfinished)
    path = folder / f"model-{name}.pkl"
    try:
        pickled = cloudpickle.dumps(kept)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ModelError(
            "the module",
            f"cannot be handed to another process: {error}",
            'name what builds it in the contract: model = "module:callable"',
        ) from error
    with _whole(path) as unfinished:
        unfinished.write_bytes(pickled)
    return ModelSource(contract=contract, root=contract.root, pickle=path)


def opened(source: ModelSource) -> LoadedModel:
    """The model, in this process."""
    from ..model import load_model

    contract = source.rooted()
    if source.pickle is None:
        return load_model(contract, mend=source.mend)
    live = _unpickled(source.pickle, contract.root)
    if live.module is not None or live.path is None:
        return live
    # What stands behind the model by task.post is in the file already.
    task = contract.task.model_copy(update={"post": None})
    named = contract.model_copy(update={"model": str(live.path), "weights": None, "task": task})
    return replace(live, module=load_model(named).module)


def _unpickled(path: Path, root: Path) -> LoadedModel:
    """The live model of this build's own user, which this build itself has written."""
    from ..model import LoadedModel
    from ..usercode import importing_from

    with importing_from(root), path.open("rb") as stream:
        model = pickle.load(stream)
    assert isinstance(model, LoadedModel), "the build writes nothing else there"
    return model


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name of this process's own, with the same ending; what is written there gets its right name at the end."""
    unfinished = path.with_name(f"{os.getpid()}-{path.name}")
    yield unfinished
    unfinished.replace(path)
