"""int8 for OpenVINO: NNCF finds the ranges, operations go back to float in the graph, weights are stored as int8."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...contract import Array, Arrays
from ...errors import CompressError, EngineError
from ...runtime import Artifact
from ...runtime.engine_openvino import REST, need_openvino, stably_named
from ...runtime.guarded import first_line
from ..methods import Static
from .calibration import feeds_of
from .graph import GraphJob, Rest
from .openvino_graph import biases_of, graphs, make_float, operations
from .openvino_nncf import quiet_nncf
from .openvino_probe import observed_ranges, signal_to_noise
from .report import int8_artifact
from .scheme import Scheme, scheme_for

_SIGNED = frozenset({"Swish", "Gelu", "HSwish", "PRelu", "Elu", "LeakyRelu", "Tanh", "Mish", "Selu", "SoftPlus"})
"""Activations whose negative values matter: a zero point spends the 256 steps on the range that there is."""


@dataclass(frozen=True, slots=True)
class OpenVinoGraph:
    """A calibrated graph in which the quantized values still pass through FakeQuantize nodes."""

    job: GraphJob
    model: Any
    biases: Mapping[str, Array]
    """Before they were corrected, by the operation's name."""
    operations: tuple[str, ...]
    kinds: Mapping[str, str]
    notes: tuple[str, ...]

    def sensitivity(self, feeds: Sequence[Arrays]) -> dict[str, float]:
        """An operation inside a branch is not measured: it is missing in the result."""
        return signal_to_noise(self.model, self.biases, feeds, self.job.contract.target.threads)

    def ranges(self, feeds: Sequence[Arrays]) -> dict[str, Array]:
        return observed_ranges(self.model, self.biases, feeds, self.job.contract.target.threads)

    def save(self, keep_float: Collection[str], rest: Rest) -> Artifact:
        model = self.model.clone()
        for operation in operations(model):
            if operation.name in keep_float:
                make_float(operation, self.biases)
        _store_weights(model)
        if rest == "bf16":
            model.set_rt_info("bf16", REST)
        return write_int8(model, self.job)


def static(job: GraphJob, method: Static) -> OpenVinoGraph:
    """Calibrate the fp32 graph on all samples of the job's calibration data.

    Raises CompressError where there is no data, or no operation that could be int8."""
    if job.calibration is None:
        remedy = "give calibration=..., or name some hundred samples in data.calibration"
        raise CompressError("static quantization", "there is no calibration data to find ranges with", remedy)
    model = read_base(job)
    biases = biases_of(model)
    quantized, notes = _calibrated(model, job)
    found = operations(quantized)
    if not found:
        raise nothing_to_quantize(job)
    return OpenVinoGraph(
        job,
        quantized,
        biases,
        tuple(operation.name for operation in found),
        {operation.name: operation.kind for operation in found},
        notes,
    )


def nothing_to_quantize(job: GraphJob) -> CompressError:
    reason = "has nothing to quantize: no convolution, matrix product or table of embeddings with weights"
    return CompressError(job.contract.name, reason, "keep it in fp32")


def read_base(job: GraphJob) -> Any:
    """The fp32 graph under names that are the same in every run."""
    assert job.base is not None, "OpenVINO quantizes its own fp32 graph"
    openvino = need_openvino("quantizing for OpenVINO")
    path = job.base.directory / "model.xml"
    try:
        model = openvino.Core().read_model(str(path))
    except RuntimeError as error:
        raise EngineError(str(path), f"OpenVINO refuses it: {first_line(error)}", "export the model again") from error
    stably_named(model)
    return model


def _calibrated(model: Any, job: GraphJob) -> tuple[Any, tuple[str, ...]]:
    with quiet_nncf() as nncf:
        scheme = scheme_for(job.host)
        attention, signed = _traits(model)
        transformer = nncf.ModelType.TRANSFORMER if attention else None
        mixed = not scheme.symmetric_activations and (signed or attention)
        preset = nncf.QuantizationPreset.MIXED if mixed else nncf.QuantizationPreset.PERFORMANCE
        assert job.calibration is not None
        names = {name for port in model.inputs for name in port.get_names()}
        feeds = [{k: v for k, v in feed.items() if k in names} for feed in feeds_of(job.calibration, job.contract)]
        try:
            quantized = nncf.quantize(
                model,
                nncf.Dataset(feeds),
                preset=preset,
                target_device=nncf.TargetDevice.CPU,
                subset_size=len(feeds),
                fast_bias_correction=True,
                model_type=transformer,
                advanced_parameters=_advanced(nncf, scheme),
            )
        except Exception as error:  # noqa: BLE001 - NNCF raises whatever a graph that it does not know leads it to
            raise CompressError(
                "nncf.quantize", first_line(error), "use dynamic quantization, another engine, or more varied samples"
            ) from error
    stably_named(quantized)
    return quantized, (scheme.reason, _choice(attention, mixed))


def _choice(attention: bool, mixed: bool) -> str:
    ranges = "with a zero point" if mixed else "symmetric, or from 0 where nothing is negative"
    how = "attention: outliers of activations are moved into the weights (SmoothQuant), and " if attention else ""
    return f"{how}ranges of activations are {ranges}; weights have one scale per output channel"


def _advanced(nncf: Any, scheme: Scheme) -> Any:
    from nncf.quantization.advanced_parameters import (  # type: ignore[import-untyped]
        AdvancedQuantizationParameters,
        OverflowFix,
        QuantizationParameters,
    )

    signed = QuantizationParameters(signedness_to_force=True) if scheme.signed_activations else None
    return AdvancedQuantizationParameters(
        overflow_fix=OverflowFix.ENABLE if scheme.narrow_weights else OverflowFix.DISABLE,
        activations_quantization_params=signed,
        backend_params={"compress_weights": False},
    )


def _traits(model: Any) -> tuple[bool, bool]:
    """Whether there is attention (a softmax and products of two activations), and activations that go below 0."""
    kinds: set[str] = set()
    product = False
    for _, graph in graphs(model):
        for node in graph.get_ordered_ops():
            kind = node.get_type_name()
            kinds.add(kind)
            product |= kind == "MatMul" and all(
                node.input_value(port).get_node().get_type_name() not in ("Constant", "Convert") for port in (0, 1)
            )
    attention = "ScaledDotProductAttention" in kinds or ("Softmax" in kinds and product)
    return attention, bool(kinds & _SIGNED)


def _store_weights(model: Any) -> None:
    """Weights that pass through a quantizer become int8 constants; so does what is large and left."""
    from openvino._offline_transformations import (  # type: ignore[import-untyped]
        compress_quantize_weights_transformation,
    )

    compress_quantize_weights_transformation(model)


def write_int8(model: Any, job: GraphJob) -> Artifact:
    openvino = need_openvino("writing an OpenVINO graph")
    assert job.base is not None
    stably_named(model)
    artifact = int8_artifact(job.base, job.directory)
    openvino.save_model(model, str(job.directory / "model.xml"), compress_to_fp16=False)
    return artifact
