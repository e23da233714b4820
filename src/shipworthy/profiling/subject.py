"""What is profiled: a model with its contract and feeds, from whatever names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..contract import BATCH, Array, Arrays, Contract
from ..errors import ContractError, ModelError, ShipworthyError
from ..package import Package

if TYPE_CHECKING:
    from torch import nn

    from ..data import Dataset
    from ..model import LoadedModel

    Model: TypeAlias = nn.Module | LoadedModel
else:
    Model: TypeAlias = Any

ContractLike: TypeAlias = Contract | Mapping[str, Any] | str | Path

_BATCH = 8


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that nobody else holds, its contract, probes for exports, and what is fed."""

    model: LoadedModel
    contract: Contract
    probes: tuple[dict[str, Array], ...]
    feeds: dict[str, Array]
    batch: int


def is_package(subject: object) -> bool:
    """A package, or the path of one: a folder, or a file that ends in .ship."""
    if isinstance(subject, str | Path):
        path = Path(subject)
        return path.is_dir() or path.suffix == ".ship"
    return isinstance(subject, Package)


def subject_of(
    given: Model | ContractLike,
    contract: ContractLike | None,
    data: object,
    batch: int | None,
    *,
    outputs: bool,
    mend: bool,
) -> Subject:
    """Load the model and its data. `outputs` finds those too, which an export needs, by running the model.

    Raises ContractError, ModelError, WeightsError or DataError for what was given; a model that fails names its line
    in a ModelError."""
    from ..data import probes
    from ..model import infer_outputs
    from ..usercode import running

    model, spec = _model(given, contract, mend=mend)
    dataset = _dataset(spec, data)
    rows = _batch(spec, batch)
    tries = probes(spec, dataset, spec.search.seed)
    if outputs:
        with running(spec.root, _name(spec)):
            spec = infer_outputs(model, spec, *tries)
    return Subject(model, spec, tries, _feeds(spec, dataset, tries[0], rows), rows)


def _model(given: Model | ContractLike, contract: ContractLike | None, *, mend: bool) -> tuple[LoadedModel, Contract]:
    from ..model import LoadedModel, from_module, load_model
    from ..model.live import private_copy

    if isinstance(given, Contract | Mapping | str | Path):
        if contract is not None:
            got = type(given).__name__
            raise ModelError("profile", f"expected an nn.Module before the contract, got a {got}", "give one of them")
        spec = _contract(given)
        return load_model(spec, mend=mend), spec
    if contract is None:
        raise ContractError("profile", "a live module needs a contract", "give profile(module, contract)")
    spec = _contract(contract)
    if not isinstance(given, LoadedModel):
        return from_module(given, spec), spec
    if given.source == "module" and given.module is not None:
        return replace(given, module=private_copy(given.module, "the model").eval()), spec
    return given, spec


def _contract(given: ContractLike) -> Contract:
    from ..contract import parse_contract, read_contract

    if isinstance(given, Contract):
        return given
    return read_contract(Path(given)) if isinstance(given, str | Path) else parse_contract(given)


def _dataset(contract: Contract, data: object) -> Dataset | None:
    from ..data import as_dataset, load_splits

    if data is not None:
        return as_dataset(data, contract)
    if contract.data.validation is None and contract.data.calibration is None:
        return None
    splits = load_splits(contract)
    return splits.validation or splits.calibration


def _batch(contract: Contract, wanted: int | None) -> int:
    """The batch asked for; where none is, the nearest to 8 that the model takes."""
    dim = next(dim for dim in contract.signature.dynamic() if dim.name == BATCH)
    if wanted is None:
        most = _BATCH if dim.max is None else min(dim.max, _BATCH)
        return max(1, dim.min, most)
    if wanted < 1 or not dim.holds(wanted):
        raise ContractError("batch", f"{wanted} is outside of {dim}", "give one that the contract's inputs take")
    return wanted


def _feeds(contract: Contract, dataset: Dataset | None, probe: Arrays, batch: int) -> dict[str, Array]:
    """A batch of real samples of one shape where there is data, else of the first probe; repeated where too few."""
    chunk = None if dataset is None or not len(dataset) else max(dataset.chunks, key=len)
    arrays = probe if chunk is None else chunk.inputs
    return {name: resized(arrays[name], batch) for name in contract.inputs}


def resized(array: Array, batch: int) -> Array:
    """The first `batch` rows, from the start again where there are fewer."""
    return np.ascontiguousarray(array[np.arange(batch) % len(array)])


def device_for(wanted: str | None, contract: Contract) -> str:
    """`cpu` or `cuda`. Raises ShipworthyError where PyTorch has no such device here."""
    import torch

    device = wanted or contract.target.device
    if device not in ("cpu", "cuda"):
        raise ShipworthyError("device", f"{device!r} is none", "use cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ShipworthyError("device", "PyTorch sees no CUDA device here", "profile with device cpu (--device cpu)")
    return device


def _name(contract: Contract) -> str:
    return contract.model or contract.name
