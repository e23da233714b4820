"""int8 for OpenVINO: NNCF finds the ranges, operations go back to float in the graph, weights are stored as int8."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...contract import Array, Arrays
from ...errors import CompressError, EngineError
from ...exporters.openvino_ir import compress_weights
from ...runtime import Artifact
from ...runtime.engine_openvino import HINTS, REST, executed_layers, need_openvino, stably_named
from ...runtime.guarded import first_line
from ..made import Quantized
from ..methods import Rest, Static
from .graph import GraphJob, RestPrecision
from .openvino_graph import HEAVY, RECURRENT, Operation, biases_of, graphs, make_float, operations
from .openvino_probe import signal_to_noise
from .openvino_ranges import calibrated
from .report import compression, int8_artifact


@dataclass(frozen=True, slots=True)
class OpenVinoGraph:
    """A calibrated graph in which the quantized values still pass through FakeQuantize nodes."""

    job: GraphJob
    model: Any
    biases: Mapping[str, Array]
    """Before they were corrected, by the operation's name."""
    operations: tuple[str, ...]
    kinds: Mapping[str, str]
    ranges: Mapping[str, Array]
    notes: tuple[str, ...]

    def sensitivity(self, feeds: Sequence[Arrays]) -> dict[str, float]:
        """An operation inside a branch is not measured: it is missing in the result."""
        return signal_to_noise(self.model, self.biases, feeds, self.job.contract.target.threads)

    def save(self, keep_float: Collection[str], rest: RestPrecision) -> Artifact:
        model = self.model.clone()
        for operation in operations(model):
            if operation.name in keep_float:
                make_float(operation, self.biases)
        compress_weights(model)
        if rest == "bf16":
            model.set_rt_info("bf16", REST)
        return write_int8(model, self.job)


def static(job: GraphJob, method: Static) -> OpenVinoGraph:
    """Calibrate the fp32 graph on the job's calibration data, of which a few samples may be held back to judge by.

    Raises CompressError where there is no data, or no operation that could be int8."""
    if job.calibration is None or not len(job.calibration):
        remedy = "give calibration=..., or name some hundred samples in data.calibration"
        raise CompressError("static quantization", "there is no calibration data to find ranges with", remedy)
    model = read_base(job)
    biases = biases_of(model)
    if not any(
        node.get_type_name() in HEAVY - RECURRENT for _, graph in graphs(model) for node in graph.get_ordered_ops()
    ):
        raise nothing_to_quantize(job)
    calibration = calibrated(model, job)
    quantized, notes = calibration.model, calibration.notes
    found = operations(quantized)
    able = _executed_in_int8(quantized, found, job.contract.target.threads)
    for operation in found:
        if operation.name not in able:
            make_float(operation, biases)
    names = tuple(operation.name for operation in found if operation.name in able)
    if not names:
        raise nothing_to_quantize(job)
    kinds = {operation.name: operation.kind for operation in found}
    if left := [kinds[name] for name in kinds if name not in able]:
        notes += (f"OpenVINO has no int8 for {len(left)} operations here ({', '.join(sorted(set(left)))})",)
    return OpenVinoGraph(
        job, quantized, biases, names, {name: kinds[name] for name in names}, calibration.extremes, notes
    )


def restated(job: GraphJob, method: Rest) -> Quantized:
    """The int8 graph that `job.base` is, with what it leaves in float executed in another precision.

    Raises CompressError where that graph holds no weights in int8."""
    model = read_base(job)
    if not any(holds_int8(node) for _, graph in graphs(model) for node in graph.get_ordered_ops()):
        remedy = "give the finished int8 graph as the base"
        raise CompressError(
            f"rest in {method.rest}", "starts from an int8 graph, and this one has no weights so", remedy
        )
    model.set_rt_info(method.rest, REST)
    artifact = write_int8(model, job)
    note = f"the same graph; what it leaves in float is executed in {method.rest}"
    return Quantized(artifact, compression(job, f"rest in {method.rest}", artifact, notes=(note,)))


def holds_int8(node: Any) -> bool:
    """Whether a node is a constant of integers of 8 bits that something makes floats of."""
    if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() not in ("i8", "u8"):
        return False
    readers = [target.get_node() for target in node.output(0).get_target_inputs()]
    return any(reader.get_type_name() == "Convert" and len(node.get_output_shape(0)) > 1 for reader in readers)


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


def _executed_in_int8(model: Any, found: Sequence[Operation], threads: int) -> set[str]:
    """Without those that the engine computes in float all the same, such as LSTMs and some transposed convolutions.

    An operation may be fused into a layer of another kind, which tells nothing of it."""
    stored = model.clone()
    compress_weights(stored)
    config = {"INFERENCE_PRECISION_HINT": HINTS["fp32"], "INFERENCE_NUM_THREADS": threads}
    compiled = need_openvino("quantizing").Core().compile_model(stored, "CPU", config)
    in_float = [
        part
        for layer in executed_layers(compiled, stored)
        if layer.heavy and layer.precision != "int8"
        for part in layer.parts
    ]
    return {operation.name for operation in found if not any(belongs(part, operation) for part in in_float)}


def belongs(part: str, operation: Operation) -> bool:
    """Whether a part of an executed layer is the operation; the engine puts words of its own behind the name."""
    name = operation.name.removeprefix(operation.body)
    return not operation.body and (part == name or part.startswith(f"{name}/Dequantization"))


def write_int8(model: Any, job: GraphJob) -> Artifact:
    openvino = need_openvino("writing an OpenVINO graph")
    assert job.base is not None
    stably_named(model)
    artifact = int8_artifact(job.base, job.directory)
    openvino.save_model(model, str(job.directory / "model.xml"), compress_to_fp16=False)
    return artifact
