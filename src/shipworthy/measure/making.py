"""The duties that make something new of a model: a graph in int8, or another module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..compress import AccuracyAware, Rest
from ..contract import Contract
from ..data import Dataset, read_cases, read_dataset
from ..evidence import Epoch
from ..model import LoadedModel
from ..runtime import Artifact, this_host
from . import messages as say
from .sources import opened, written

_GRAPHS = ("openvino", "onnxruntime")
"""Engines whose quantizers start from their own graph in fp32; the others start from the module."""


def quantize(command: say.QuantizeGraph) -> say.ExportReply:
    """The graph in int8, made of the engine's fp32 graph where the engine has one."""
    from ..compress.quantization.graph import GraphJob, quantize_graph

    contract, model = command.source.rooted(), opened(command.source)
    probes = tuple(feeds for _, feeds in read_cases(command.probes))
    job = GraphJob(
        model=model,
        contract=contract,
        directory=command.directory,
        base=_base(command, model, contract),
        calibration=_data(command.calibration),
        host=this_host(),
        probes=probes,
    )
    made = quantize_graph(job, command.method, command.engine, _drop(command, contract))
    return say.ExportReply(
        artifact=made.artifact, compression=made.report, findings=made.findings, arch=made.arch, isa=made.isa
    )


def _base(command: say.QuantizeGraph, model: LoadedModel, contract: Contract) -> Artifact | None:
    from ..exporters import export

    if command.base is not None or isinstance(command.method, Rest) or command.engine not in _GRAPHS:
        return command.base

    probes = [feeds for _, feeds in read_cases(command.probes)]
    folder = command.directory.parent / f"{command.directory.name}-fp32"
    return export(model, contract, command.engine, "fp32", folder, probes).artifact


def _drop(command: say.QuantizeGraph, contract: Contract) -> Callable[[Artifact], float] | None:
    from ..compress.drop import drop_on

    data = _data(command.validation) if isinstance(command.method, AccuracyAware) else None
    return None if data is None else drop_on(opened(command.oracle or command.source), contract, data)


def shape(command: say.ShapeModel, tell: Callable[[str], None]) -> say.ShapeReply:
    """The module that a recipe makes of the model."""
    from ..compress.reshaping import reshape

    contract, training = command.source.rooted(), command.method.training
    most = 0 if training is None else training.epochs
    made = reshape(
        opened(command.source),
        contract,
        command.method,
        train=_data(command.train),
        calibration=_data(command.calibration),
        validation=_data(command.validation),
        checkpoint=command.directory / "checkpoint.pt",
        told=lambda epoch: tell(_words(epoch, most)),
    )
    source = written(made.model, contract, command.directory, "shaped")
    return say.ShapeReply(source=source, compression=made.report, findings=made.findings)


def _data(path: Path | None) -> Dataset | None:
    return None if path is None else read_dataset(path)


def _words(epoch: Epoch, most: int) -> str:
    metric = "" if epoch.validation is None else f", metric {epoch.validation:.4g}"
    return f"epoch {epoch.number} of at most {most}, loss {epoch.loss:.4g}{metric}"
