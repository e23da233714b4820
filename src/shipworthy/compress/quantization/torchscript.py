"""int8 for TorchScript: torch's own quantized modules, and FX graph mode for static ranges, scripted or traced."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...contract import Arrays
from ...data import Dataset
from ...errors import CompressError, ExportError
from ...evidence import Finding, QuantizedOperation
from ...exporters.int8 import float_reason
from ...exporters.job import Case, Job, cases_of
from ...exporters.noise import collected
from ...exporters.positional import example_tensors
from ...exporters.torchscript import export_torchscript
from ...model import LoadedModel
from ...model.run import to_tensors
from ...runtime import Artifact, Host
from ...runtime.guarded import first_line
from ..made import Quantized
from ..methods import Static
from .graph import GraphJob
from .report import compression
from .scheme import Scheme, scheme_for

_ROWS = 32
"""Calibration samples that run at once."""


def dynamic(job: GraphJob) -> Quantized:
    """model.pt with linear layers, LSTM, GRU and tables of embeddings in int8, activations measured in each run.

    Raises CompressError where there is none of these, or where no graph of the quantized module can be made."""
    module = _module(job)
    with collected(), _plain_attention():
        quantized = _dynamically(module, job)
        operations = _replaced(module, quantized)
        if not operations:
            reason = "has no linear layer, LSTM, GRU or embedding, which alone can be dynamic here"
            raise CompressError(job.contract.name, reason, "use static quantization")
        artifact, findings = _written(job, quantized)
    notes = ("weights of linear layers have one scale per output channel, embeddings one per row",)
    report = compression(job, "dynamic", artifact, operations=operations, notes=notes)
    return Quantized(artifact, report, findings)


def static(job: GraphJob, method: Static) -> Quantized:
    """model.pt with convolutions and linear layers in int8, from ranges that are found on the calibration data.

    Raises CompressError where the module's forward cannot be followed symbolically, which FX graph mode does, or
    where nothing of the graph executes in int8."""
    if job.calibration is None:
        remedy = "give calibration=..., or name some hundred samples in data.calibration"
        raise CompressError("static quantization", "there is no calibration data to find ranges with", remedy)
    module, scheme = _module(job), scheme_for(job.host)
    with collected(), _plain_attention():
        quantized = _statically(module, job, job.calibration, scheme, method.keep_float)
        operations = _integers(module, quantized, method.keep_float)
        if not any(operation.precision == "int8" for operation in operations):
            reason = "has no convolution or linear layer that FX graph mode sees"
            raise CompressError(job.contract.name, reason, "use openvino or onnxruntime for int8")
        artifact, findings = _written(job, quantized)
    notes = [_NARROW if scheme.narrow_weights else scheme.reason]
    if method.rest == "bf16":
        notes.append("what stays in float is executed in fp32: quantized tensors mix with no other float")
    report = compression(job, "static", artifact, operations=operations, notes=notes, samples=len(job.calibration))
    return Quantized(artifact, report, findings)


_NARROW = "unsigned activations of 7 bits: without VNNI, sums of 8-bit products saturate in 16 bits"


def _module(job: GraphJob) -> nn.Module:
    module = job.model.module
    if job.model.source != "module" or module is None:
        raise CompressError(
            "torchscript int8",
            f"starts from the layers of an nn.Module, and the model is of the kind {job.model.source!r}",
            "use openvino or onnxruntime for int8",
        )
    return module


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """nn.TransformerEncoderLayer has a fused path that reads the weights of its layers, which quantized ones hide."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _dynamically(module: nn.Module, job: GraphJob) -> nn.Module:
    from torch.ao import quantization as ao

    arm = job.host.arch == "aarch64"
    linear = ao.default_dynamic_qconfig if arm else ao.per_channel_dynamic_qconfig
    kinds: dict[Any, Any] = {
        nn.Linear: linear,
        nn.LSTM: ao.default_dynamic_qconfig,
        nn.GRU: ao.default_dynamic_qconfig,
        **{
            name: ao.float_qparams_weight_only_qconfig
            for name, part in module.named_modules()
            if type(part) in (nn.Embedding, nn.EmbeddingBag) and part.max_norm is None
        },
    }
    try:
        return ao.quantize_dynamic(module, kinds).eval()  # type: ignore[no-any-return, no-untyped-call]
    except Exception as error:  # what a module holds decides what copying and replacing its parts raises
        raise _refused("quantize_dynamic", error) from error


def _statically(
    module: nn.Module, job: GraphJob, calibration: Dataset, scheme: Scheme, keep_float: Collection[str]
) -> nn.Module:
    from torch.ao.quantization import quantize_fx

    signature = job.contract.signature
    feeds = [batch.inputs for batch in calibration.batches(_ROWS)]
    mapping = _mapping(job.host, scheme)
    for name in keep_float:
        mapping.set_module_name(name, None)
    try:
        with torch.no_grad():
            prepared = quantize_fx.prepare_fx(module, mapping, _example(job, feeds))
            for feed in feeds:
                prepared(*to_tensors(signature, feed))
            return quantize_fx.convert_fx(prepared).eval()
    except Exception as error:  # torch.fx and the module's own code raise dozens of classes
        raise _refused("FX graph mode", error) from error


def _mapping(host: Host, scheme: Scheme) -> Any:
    from torch.ao import quantization as ao

    if host.arch == "aarch64":
        return ao.get_default_qconfig_mapping("qnnpack")
    mapping = ao.get_default_qconfig_mapping("x86")
    observer = ao.HistogramObserver.with_args(dtype=torch.quint8, reduce_range=scheme.narrow_weights)
    whole = ao.QConfig(activation=observer, weight=ao.default_per_channel_weight_observer)  # type: ignore[no-untyped-call]
    return mapping.set_global(whole)


def _example(job: GraphJob, feeds: Sequence[Arrays]) -> tuple[torch.Tensor, ...]:
    return example_tensors(_job(job, job.model, (Case(dict(feeds[0]), {}),)))


def _job(job: GraphJob, model: LoadedModel, cases: tuple[Case, ...]) -> Job:
    """Compared as fp32 is: the graph executes the same integer kernels as the module does."""
    return Job(model, job.contract, "torchscript", "fp32", job.directory, cases)


def _written(job: GraphJob, quantized: nn.Module) -> tuple[Artifact, tuple[Finding, ...]]:
    job.directory.mkdir(parents=True, exist_ok=True)
    model = LoadedModel("module", quantized)
    probes = tuple(job.probes) or tuple(_two(job))
    try:
        cases = cases_of(model, job.contract.signature, probes)
        done = export_torchscript(_job(job, model, cases))
    except ExportError as error:
        raise CompressError(error.culprit, error.reason, error.remedy) from error
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:  # the user's code meets other modules
        raise _refused("the quantized module", error) from error
    artifact = replace(_job(job, model, cases).artifact, precision="int8")
    if (reason := float_reason(artifact)) is not None:
        raise CompressError("torchscript int8", reason, "use openvino or onnxruntime for int8")
    return artifact, done.findings


def _two(job: GraphJob) -> Iterator[Arrays]:
    if job.calibration is None:
        raise CompressError(job.contract.name, "there are no inputs to follow the model with", "give probes")
    yield job.calibration.chunks[0].rows(0, 2).inputs


def _refused(culprit: str, error: Exception) -> CompressError:
    reason = f"fails: {type(error).__name__}: {first_line(error)}"
    return CompressError(culprit, reason, "use openvino or onnxruntime for int8")


def _replaced(before: nn.Module, after: nn.Module) -> tuple[QuantizedOperation, ...]:
    """The layers that became others; a linear layer that stays is part of another, such as attention."""
    kinds = (nn.Linear, nn.LSTM, nn.GRU, nn.Embedding, nn.EmbeddingBag)
    parts = dict(after.named_modules())
    return tuple(
        QuantizedOperation(name=name, op=type(part).__name__, precision="int8")
        for name, part in before.named_modules()
        if type(part) in kinds and name in parts and type(parts[name]).__module__.startswith("torch.ao.nn")
    )


def _integers(before: nn.Module, after: nn.Module, keep_float: Collection[str]) -> tuple[QuantizedOperation, ...]:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)
    parts = dict(after.named_modules())
    found = []
    for name, part in before.named_modules():
        if not isinstance(part, kinds):
            continue
        int8 = name in parts and type(parts[name]).__module__.startswith("torch.ao.nn")
        asked = "it was asked for in float" if name in keep_float else "FX graph mode does not see into its layer"
        found.append(
            QuantizedOperation(
                name=name,
                op=type(part).__name__,
                precision="int8" if int8 else "fp32",
                reason="" if int8 else asked,
            )
        )
    return tuple(found)
