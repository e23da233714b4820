"""OpenVINO IR: from an ExportedProgram, or from ONNX where that is right and the program is not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..contract import Dim
from ..errors import ExportError
from ..evidence import Finding
from ..runtime.engine_openvino import bodies_of, need_openvino, stably_named
from ..runtime.guarded import first_line
from .int8_routes import strictly
from .job import Done, Job
from .onnx_graph import copy_onnx, onnx_routes
from .program import to_program
from .routes import Route, first_agreeing


def export_openvino(job: Job) -> Done:
    """model.xml and model.bin, weights in fp32. bf16 is the same file: the precision is asked for at loading.

    The comparison with eager is therefore made in fp32 for both. For int8 the weights that pass through fake
    quantization are stored as integers."""
    need_openvino("exporting to OpenVINO")
    if job.precision == "int8":
        return first_agreeing(job, [strictly(route) for route in _routes(job)])
    return first_agreeing(job.as_precision("fp32"), _routes(job.as_precision("fp32")))


def compress_weights(model: Any) -> None:
    """Store, in place, each weight behind a FakeQuantize node as int8, with its scale behind it; in branches too."""
    from openvino._offline_transformations import (  # type: ignore[import-untyped]
        compress_quantize_weights_transformation,
    )

    compress_quantize_weights_transformation(model)
    for node in model.get_ordered_ops():
        for body in bodies_of(node):
            compress_weights(body)


def _routes(job: Job) -> tuple[Route, ...]:
    if job.model.source == "onnx":
        return (Route("ONNX as it is", _through_onnx(copy_onnx)),)
    through = tuple(
        Route(f"{route.name} to OpenVINO", _through_onnx(route.write), route.by_trace, route.by_program)
        for route in onnx_routes(job)
    )
    if job.model.source == "torchscript":
        return through
    return (Route("torch.export to OpenVINO", _from_program, by_program=True), *through)


def _from_program(job: Job) -> tuple[Finding, ...]:
    _save(_converted(to_program(job)), job)
    return ()


def _through_onnx(write: Callable[[Job], tuple[Finding, ...]]) -> Callable[[Job], tuple[Finding, ...]]:
    def run(job: Job) -> tuple[Finding, ...]:
        with tempfile.TemporaryDirectory() as folder:
            findings = write(job.within(Path(folder)))
            _save(_converted(str(Path(folder) / "model.onnx")), job)
        return findings

    return run


def _converted(source: Any) -> Any:
    openvino = need_openvino("exporting to OpenVINO")
    try:
        return openvino.convert_model(source)
    except Exception as error:  # its frontends raise OpConversionFailure, RuntimeError and others
        raise ExportError("openvino.convert_model", first_line(error), "use another engine") from error


def _save(model: Any, job: Job) -> None:
    """Names, shapes and the signature of the contract go into the IR."""
    openvino = need_openvino("exporting to OpenVINO")
    shapes: dict[int, Any] = {}
    names = list(job.signature.inputs)
    for index, port in enumerate(model.inputs):
        # A converter may leave out an input that nothing uses; what is left has its place or its name.
        name = next((n for n in names if n in port.get_names()), None)
        name = names[index] if name is None and len(model.inputs) == len(names) else name
        if name is None:
            raise ExportError("openvino.convert_model", f"has lost which input is {port.get_names()}", "use all inputs")
        port.get_tensor().set_names({name})
        sizes = job.signature.inputs[name].shape
        shapes[index] = openvino.PartialShape([-1 if isinstance(size, Dim) else size for size in sizes])
    model.reshape(shapes)
    for name, port in zip(job.signature.outputs, model.outputs, strict=False):
        port.get_tensor().add_names({name})
    if job.precision == "int8":
        compress_weights(model)
    stably_named(model)
    model.set_rt_info(job.signature.model_dump_json(), ["shipworthy", "signature"])
    openvino.save_model(model, str(job.directory / "model.xml"), compress_to_fp16=False)
