"""ONNX: by torch.export, or where that does not take the model, by the exporter that is based on TorchScript."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from ..contract import Dim
from ..errors import EngineError, ExportError, MissingExtra
from ..evidence import Finding
from ..model.dynamic import dynamic_axes
from ..runtime.describe import SIGNATURE_KEY
from ..runtime.guarded import first_line
from .agreement import gap_of_artifact
from .int8_routes import strictly
from .job import Done, Job
from .onnx_weights import store_int8_weights
from .positional import example_tensors, positional
from .program import to_program
from .routes import Route, first_agreeing
from .script import compiler_reason, frozen_places, may_freeze, scripted

_PROTOBUF_LIMIT = 2 * 10**9
"""Bytes of weights above which they cannot be inside the .onnx file."""
_OLDEST_EXPORTER_OPSET = 20
"""The newest opset that the TorchScript-based exporter writes."""


def export_onnx(job: Job) -> Done:
    """model.onnx, weights inside below 2 GB, the signature in its metadata."""
    if job.model.source == "onnx":
        return first_agreeing(job, (Route("as it is", copy_onnx),))
    if job.precision == "bf16":
        return _bf16(job)
    routes = onnx_routes(job)
    return first_agreeing(job, [strictly(route) for route in routes] if job.precision == "int8" else routes)


def export_reference(job: Job) -> Done:
    copy_onnx(job)
    return Done("as it is")


def onnx_routes(job: Job) -> tuple[Route, ...]:
    script = Route("script to ONNX", write_scripted)
    if job.model.source == "torchscript":
        return (script,)
    exported = Route("torch.export to ONNX", write_exported, by_program=True)
    traced = Route("trace to ONNX", write_traced, by_trace=True)
    # A script is compiled from the source of forward, which knows nothing of fake quantization.
    return (exported, traced) if job.precision == "int8" else (exported, traced, script)


def _bf16(job: Job) -> Done:
    """Few processors' kernels exist for it: ONNX Runtime says at loading which one does not."""
    write_exported(job)
    try:
        gap_of_artifact(job)
    except EngineError as error:
        raise ExportError(
            "onnxruntime bf16", f"its CPU kernels do not cover the graph ({error.reason})", "use openvino for bf16"
        ) from error
    return Done("torch.export to ONNX")


def copy_onnx(job: Job) -> tuple[Finding, ...]:
    """The user's file under the artifact's name, with weights that lie beside it taken inside."""
    onnx = _need_onnx()
    assert job.model.path is not None, "an ONNX model is a file"
    _save(onnx.load(str(job.model.path)), job)
    return ()


def write_exported(job: Job) -> tuple[Finding, ...]:
    program = to_program(job)
    try:
        written = torch.onnx.export(
            program,
            (),
            dynamo=True,
            dynamic_shapes=(dynamic_axes(job.signature),),
            opset_version=job.contract.target.opset,
            verbose=False,
            external_data=False,
            **_names(job),
        )
    except Exception as error:  # the exporter's errors have no common base
        raise ExportError("torch.onnx", first_line(error), "set another target.opset in the contract") from error
    assert written is not None, "the exporter returns a program when no file is named"
    _save(written.model_proto, job)
    return ()


def write_traced(job: Job) -> tuple[Finding, ...]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _write_old(job, positional(job))
    return may_freeze(job, "trace to ONNX", frozen_places(caught))


def write_scripted(job: Job) -> tuple[Finding, ...]:
    try:
        module = scripted(job)
    except Exception as error:  # TorchScript's compiler raises many classes
        raise ExportError("torch.jit.script", compiler_reason(error), "use code that TorchScript takes") from error
    _write_old(job, module)
    return ()


def _write_old(job: Job, module: Any) -> None:
    onnx = _need_onnx()
    names = _names(job)
    axes = {
        name: {axis: size.name for axis, size in enumerate(spec.shape) if isinstance(size, Dim)}
        for name, spec in zip(
            (*names["input_names"], *names["output_names"]),
            (*job.signature.inputs.values(), *job.signature.outputs.values()),
            strict=True,
        )
    }
    path = job.directory / "model.onnx"
    try:
        with torch.no_grad():
            torch.onnx.export(
                module,
                example_tensors(job),
                str(path),
                dynamo=False,
                dynamic_axes={name: found for name, found in axes.items() if found},
                opset_version=min(job.contract.target.opset or _OLDEST_EXPORTER_OPSET, _OLDEST_EXPORTER_OPSET),
                **names,
            )
    except Exception as error:  # the exporter's errors have no common base
        path.unlink(missing_ok=True)
        raise ExportError("torch.onnx (TorchScript)", first_line(error), "use another engine") from error
    _save(onnx.load(str(path)), job)


def _names(job: Job) -> dict[str, Any]:
    """ONNX has one namespace for inputs and outputs."""
    inputs = list(job.signature.inputs)
    outputs = [f"{name}_out" if name in inputs else name for name in job.signature.outputs]
    return {"input_names": inputs, "output_names": outputs}


def _save(model: Any, job: Job) -> None:
    onnx = _need_onnx()
    if job.precision == "int8":
        store_int8_weights(model)
    # The exporter writes the stack of each operation beside it: places on this machine, and most of a small file.
    for node in model.graph.node:
        del node.metadata_props[:]
    for entry in [entry for entry in model.metadata_props if entry.key == SIGNATURE_KEY]:
        model.metadata_props.remove(entry)
    model.metadata_props.add(key=SIGNATURE_KEY, value=job.signature.model_dump_json())
    path: Path = job.directory / "model.onnx"
    for old in (path, path.with_suffix(".onnx.data")):
        old.unlink(missing_ok=True)
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    onnx.save_model(model, str(path), save_as_external_data=weights > _PROTOBUF_LIMIT, location=f"{path.name}.data")


def _need_onnx() -> Any:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingExtra("exporting to ONNX", "onnx", "build") from error
    return onnx
