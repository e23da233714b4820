"""What a verb of this room works on: the model, its contract with outputs filled in, and its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from torch import nn
from torch.utils.data import DataLoader

from ..contract import Arrays, Contract, read_contract
from ..data import Chunk, Dataset, as_dataset, load_splits, probes, read_data
from ..errors import CompressError
from ..model import LoadedModel, from_module, infer_outputs, load_model
from ..model.live import private_copy
from .steps import outputs_of
from .training import Loader

ModelLike: TypeAlias = nn.Module | LoadedModel | Contract | str | Path
"""A live module, a loaded model, or a contract (or its path) that names one."""

_SAMPLES = 256
"""Of real data, at most, that outputs are compared on."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model of the user's that can be trained and changed, as a private copy in evaluation mode."""

    module: nn.Module
    contract: Contract
    train: Dataset | Loader | None
    validation: Dataset | None

    @property
    def samples(self) -> Dataset:
        """Real samples, evenly taken, for comparing outputs; made up ones where there is no data."""
        return samples_of(self.contract, self.train, self.validation)

    def answers_of(self, module: nn.Module) -> Callable[[Dataset], Arrays]:
        return partial(outputs_of, module, self.contract)


def subject_of(model: ModelLike, contract: Contract | str | Path | None, train: object, validation: object) -> Subject:
    """The subject of a verb. The user's module is copied and never touched.

    `train` and `validation` are what `data.as_dataset` takes, or paths; where they are None, what the contract names
    (of the validation data only the half that is not held out). A DataLoader of training data is iterated over in
    each epoch. Raises CompressError for a model that is no module, and what loading raises."""
    stated = contract_of(model, contract)
    loaded = loaded_of(model, stated)
    module = trainable_module(loaded, stated)
    if isinstance(model, LoadedModel):
        module = private_copy(module, stated.name)
    training, validating = training_data(train, stated), validation_data(validation, stated)
    stated = with_outputs(LoadedModel("module", module.eval()), stated, training, validating)
    return Subject(module, stated, training, validating)


def with_outputs(
    model: LoadedModel, contract: Contract, train: Dataset | Loader | None, validation: Dataset | None
) -> Contract:
    """The contract with its outputs filled in."""
    if contract.outputs:
        return contract
    data = train if isinstance(train, Dataset) else validation
    return infer_outputs(model, contract, *probes(contract, data, contract.search.seed))


def samples_of(contract: Contract, train: Dataset | Loader | None, validation: Dataset | None) -> Dataset:
    """Some samples of the validation data, else of the training data, else made up ones."""
    data = validation if validation is not None else train
    if not isinstance(data, Dataset) or not len(data):
        return _made_up(contract)
    return evenly(data, _SAMPLES)


def evenly(data: Dataset, count: int) -> Dataset:
    """At most `count` samples, at equal distances."""
    size = len(data)
    return data if size <= count else data.take(np.linspace(0, size - 1, count).round().astype(np.int64))


def loaded_of(model: ModelLike, contract: Contract) -> LoadedModel:
    """The model itself; a live module as a private copy."""
    if isinstance(model, LoadedModel):
        return model
    return from_module(model, contract) if isinstance(model, nn.Module) else load_model(contract)


def trainable_module(model: LoadedModel, contract: Contract) -> nn.Module:
    """The nn.Module of a model. Raises CompressError for a graph, whose layers are not there to be changed."""
    if model.source == "module" and model.module is not None:
        return model.module
    kinds = {"torchscript": "TorchScript", "exported": "an ExportedProgram", "onnx": "an .onnx file"}
    raise CompressError(
        contract.name,
        f"is {kinds.get(model.source, model.source)}, whose layers can be neither trained nor removed",
        'name what builds the nn.Module: model = "module:callable", with weights of its own',
    )


def contract_of(model: ModelLike, contract: Contract | str | Path | None) -> Contract:
    """The contract that is given, or that the model is. Raises CompressError without one."""
    stated = model if contract is None and isinstance(model, Contract | str | Path) else contract
    if stated is None:
        raise CompressError("contract", "is missing", "give the model's contract, or the path of its shipworthy.toml")
    return stated if isinstance(stated, Contract) else read_contract(Path(stated))


def training_data(given: object, contract: Contract) -> Dataset | Loader | None:
    """What is given, else what the contract names. A DataLoader is iterated over anew in each epoch."""
    if isinstance(given, Loader):
        return given
    if isinstance(given, DataLoader):
        return Loader(given, contract)
    return _dataset(given if given is not None else contract.data.train, contract, "train")


def validation_data(given: object, contract: Contract) -> Dataset | None:
    """What is given, else of what the contract names the part that is not held out."""
    if given is None and contract.data.validation is not None:
        return load_splits(contract).validation
    return _dataset(given, contract, "validation")


def calibration_data(given: object, contract: Contract) -> Dataset | None:
    """What is given, else what the contract names."""
    return _dataset(given if given is not None else contract.data.calibration, contract, "calibration")


def _dataset(given: object, contract: Contract, split: Literal["train", "calibration", "validation"]) -> Dataset | None:
    if given is None or isinstance(given, Dataset):
        return given
    if isinstance(given, str | Path):
        return read_data(str(given), contract)
    return as_dataset(given, contract, split)


def _made_up(contract: Contract) -> Dataset:
    return Dataset(tuple(Chunk(dict(feeds)) for feeds in probes(contract, None, contract.search.seed)))
