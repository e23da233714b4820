"""The verb: a model and a contract in, a graph in int8 with its report out."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

from ...contract import Contract
from ...data import Dataset, probes
from ...errors import CompressError, ContractError
from ...exporters import export
from ...model import LoadedModel, infer_outputs
from ...runtime import Artifact, this_host
from ..drop import drop_on
from ..made import Quantized, Reshaped
from ..methods import AccuracyAware, Dynamic, GraphQuantization, Qat, Quantization, Static, TrainStep
from ..subject import ModelLike, calibration_data, contract_of, loaded_of, validation_data
from .calibration import unlike_validation
from .graph import GraphJob, quantize_graph, quantizer_of
from .qat import qat

if TYPE_CHECKING:
    from ...evidence import Finding
    from ..progress import Shown

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
    checkpoint: Path | None = ...,
    progress: Shown = ...,
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
    checkpoint: Path | None = None,
    progress: Shown = True,
    directory: str | Path | None = None,
) -> Quantized | Reshaped:
    """`model` in int8 for `engine`, with a report of what became of each operation.

    * `model`: a live module (never changed), a loaded model, or a contract or its path, which names one
    * `method`: `dynamic`, `static`, `accuracy-aware` (to the contract's max_metric_drop), `qat`, or their settings
    * `calibration`, `validation`, `train`: what `data.as_dataset` takes, or paths; else what the contract names (of
      its validation data, the half that is not held out). Without calibration data, the validation data is used for it
    * `train_step`, `checkpoint`, `progress`: of `qat` alone; the file that an interrupted training goes on from, and
      whether it shows itself, or a function that hears of each epoch
    * `directory`: where the graphs go, in `fp32` and `int8`; a new temporary folder where there is none

    `qat` trains the module and returns it, for any engine; it is the form that can be tuned: `Qat(training=...)` sets
    epochs and learning rate, `quantization.qat.qat` takes an optimizer, a schedule and a host besides. Raises
    CompressError where the recipe cannot be carried out, ContractError for a target that is not this host, and what
    reading data and exporting raise."""
    stated = contract_of(model, contract)
    settings = _method(method, stated)
    _check_target(stated)
    named = calibration_data(calibration, stated)
    if isinstance(settings, Qat):
        return qat(
            model,
            stated,
            settings,
            calibration=named,
            train=train,
            validation=validation,
            train_step=train_step,
            checkpoint=checkpoint,
            progress=progress,
        )
    return _quantized(model, stated, settings, engine, (named, validation), directory)


def _quantized(
    model: ModelLike,
    stated: Contract,
    settings: Dynamic | Static | AccuracyAware,
    engine: str,
    data: tuple[Dataset | None, object],
    directory: str | Path | None,
) -> Quantized:
    """`data`: for calibration, where it was named, and what was given for validation."""
    named, validation = data
    quantizer_of(engine)
    validating = validation_data(validation, stated)
    calibrating = named if named is not None else validating
    if calibrating is None and not isinstance(settings, Dynamic):
        remedy = "give calibration=..., or name some hundred samples in data.calibration"
        raise CompressError(f"{settings.kind} quantization", "there is no calibration data to find ranges with", remedy)
    loaded = loaded_of(model, stated)
    tried = probes(stated, validating, stated.search.seed)
    if not stated.outputs:
        stated = infer_outputs(loaded, stated, *tried)
    folder = Path(tempfile.mkdtemp(prefix="shipworthy-")) if directory is None else Path(directory)
    base = None if engine in _FROM_MODULE else export(loaded, stated, engine, "fp32", folder / "fp32", tried).artifact
    job = GraphJob(loaded, stated, folder / "int8", base, calibrating, this_host(), tried)
    made = quantize_graph(job, settings, engine, _drop(loaded, stated, settings, validating))
    if named is None or validating is None or isinstance(settings, Dynamic):
        return made
    unlike: tuple[Finding, ...] = unlike_validation(named, validating, stated)
    return replace(made, findings=(*made.findings, *unlike))


def _check_target(contract: Contract) -> None:
    """Grids of integers and compiled code are those of the processor here."""
    target, here = contract.target, this_host().arch
    if target.arch is not None and target.arch != here:
        raise ContractError("target.arch", f"{target.arch!r} is not this host, which is {here}", "build on such a host")


def _method(method: str | Quantization, contract: Contract) -> Quantization:
    if not isinstance(method, str):
        return _settings(method)
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


def _settings(method: object) -> Quantization:
    if isinstance(method, Dynamic | Static | AccuracyAware | Qat):
        return method
    remedy = f"give one of {', '.join(METHODS)}, or Dynamic(), Static(), AccuracyAware(max_drop=...), Qat()"
    if isinstance(method, type):
        raise CompressError(f"the method {method.__name__}", "is a class without its settings", remedy)
    raise CompressError(f"the method {type(method).__name__}", "does not quantize a model", remedy)


def _drop(
    model: LoadedModel, contract: Contract, method: GraphQuantization, validation: Dataset | None
) -> Callable[[Artifact], float] | None:
    if not isinstance(method, AccuracyAware) or validation is None:
        return None
    return drop_on(model, contract, validation)
