"""The verb: a model and a contract in, a graph in int8 with its report out."""

from __future__ import annotations

import difflib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from ...contract import Contract, read_contract
from ...data import Dataset, Splits, load_splits, probes
from ...errors import CompressError, ContractError
from ...exporters import export
from ...model import LoadedModel, infer_outputs
from ...runtime import this_host
from ..made import Quantized, Reshaped
from ..methods import AccuracyAware, Dynamic, GraphQuantization, Qat, Quantization, Static, TrainStep
from .calibration import unlike_validation
from .graph import GraphJob, quantize_graph, quantizer_of

if TYPE_CHECKING:
    import torch

    ModelLike: TypeAlias = torch.nn.Module | LoadedModel | Contract | str | Path
else:
    ModelLike: TypeAlias = Any
"""A live module, a loaded model, or a contract (or its path) that names one."""

METHODS = ("dynamic", "static", "accuracy-aware", "qat")
_FROM_MODULE = frozenset({"aoti", "torchscript"})
"""Engines whose quantizers start from the module, not from a graph in fp32."""


@overload
def quantize(
    model: ModelLike,
    contract: Contract | str | Path | None = ...,
    method: str | Dynamic | Static | AccuracyAware = ...,
    *,
    engine: str = ...,
    calibration: object = ...,
    validation: object = ...,
    directory: str | Path | None = ...,
) -> Quantized: ...


@overload
def quantize(
    model: ModelLike,
    contract: Contract | str | Path | None,
    method: Qat,
    *,
    engine: str = ...,
    calibration: object = ...,
    validation: object = ...,
    train: object = ...,
    train_step: TrainStep | None = ...,
    directory: str | Path | None = ...,
) -> Reshaped: ...


def quantize(
    model: ModelLike,
    contract: Contract | str | Path | None = None,
    method: str | Quantization = "static",
    *,
    engine: str = "openvino",
    calibration: object = None,
    validation: object = None,
    train: object = None,
    train_step: TrainStep | None = None,
    directory: str | Path | None = None,
) -> Quantized | Reshaped:
    """`model` in int8 for `engine`, with a report of what became of each operation.

    * `model`: a live module (never changed), a loaded model, or a contract or its path, which names one
    * `method`: `dynamic`, `static`, `accuracy-aware` (to the contract's max_metric_drop), `qat`, or their settings
    * `calibration`, `validation`, `train`: what `data.as_dataset` takes, or paths; else what the contract names.
      Without calibration data, the validation data is used for it
    * `directory`: where the graphs go, in `fp32` and `int8`; a new temporary folder where there is none

    `qat` trains the module and returns it, for any engine. Raises CompressError where the recipe cannot be carried
    out, and what reading data and exporting raise."""
    from ..subject import loaded_of

    stated = _contract(model, contract)
    settings = _method(method, stated)
    if isinstance(settings, Qat):
        return _trained(model, stated, settings, calibration, validation, train, train_step)
    quantizer_of(engine)
    data = load_splits(stated, calibration=calibration, validation=validation)
    # The two are halves of one data set; what calibrates here need not be the half that the search looks at.
    calibrating = data.calibration if data.calibration is not None else data.validation
    if calibrating is None and not isinstance(settings, Dynamic):
        remedy = "give calibration=..., or name some hundred samples in data.calibration"
        raise CompressError(f"{settings.kind} quantization", "there is no calibration data to find ranges with", remedy)
    loaded = loaded_of(model, stated)
    tried = probes(stated, data.validation, stated.search.seed)
    if not stated.outputs:
        stated = infer_outputs(loaded, stated, *tried)
    folder = Path(tempfile.mkdtemp(prefix="shipworthy-")) if directory is None else Path(directory)
    base = None if engine in _FROM_MODULE else export(loaded, stated, engine, "fp32", folder / "fp32", tried).artifact
    job = GraphJob(loaded, stated, folder / "int8", base, calibrating, this_host(), tried)
    made = quantize_graph(job, settings, engine, _drop(loaded, stated, settings, data.validation))
    findings = (*made.findings, *_calibration_findings(settings, calibrating, data, stated))
    return replace(made, findings=findings)


def _contract(model: ModelLike, contract: Contract | str | Path | None) -> Contract:
    named = model if contract is None and isinstance(model, Contract | str | Path) else contract
    if named is None:
        raise CompressError("contract", "is missing", "give the model's contract, or the path of its shipworthy.toml")
    return named if isinstance(named, Contract) else read_contract(Path(named))


def _method(method: str | Quantization, contract: Contract) -> Quantization:
    if not isinstance(method, str):
        return method
    if method == "accuracy-aware":
        if contract.limits.max_metric_drop is None:
            reason = "needs limits.max_metric_drop, within which it is to stay"
            raise ContractError("accuracy-aware quantization", reason, "state it, or give AccuracyAware(max_drop=...)")
        return AccuracyAware(max_drop=contract.limits.max_metric_drop)
    plain: dict[str, Quantization] = {"dynamic": Dynamic(), "static": Static(), "qat": Qat()}
    if method not in plain:
        near = difflib.get_close_matches(method, METHODS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise CompressError(f"the method {method!r}", "is unknown", f"{hint}there is {', '.join(METHODS)}")
    return plain[method]


def _drop(model: LoadedModel, contract: Contract, method: GraphQuantization, validation: Dataset | None) -> Any:
    if not isinstance(method, AccuracyAware) or validation is None:
        return None
    from ..drop import drop_on

    return drop_on(model, contract, validation)


def _calibration_findings(
    method: GraphQuantization, calibration: Dataset | None, data: Splits, contract: Contract
) -> tuple[Any, ...]:
    apart = calibration is not None and data.validation is not None and calibration is not data.validation
    if isinstance(method, Dynamic) or not apart:
        return ()
    assert calibration is not None and data.validation is not None
    return unlike_validation(calibration, data.validation, contract)


def _trained(
    model: ModelLike,
    contract: Contract,
    method: Qat,
    calibration: object,
    validation: object,
    train: object,
    train_step: TrainStep | None,
) -> Reshaped:
    from .qat import qat

    samples = load_splits(contract, calibration=calibration).calibration if _named(calibration, contract) else None
    return qat(model, contract, method, calibration=samples, train=train, validation=validation, train_step=train_step)


def _named(calibration: object, contract: Contract) -> bool:
    return calibration is not None or contract.data.calibration is not None
