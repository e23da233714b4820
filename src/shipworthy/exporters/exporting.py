"""The verb: a model and a contract in, a graph for one engine on disk out."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..contract import Arrays, Contract
from ..contract.spec import Precision
from ..errors import ExportError, MissingExtra
from ..evidence import Finding
from ..model.loaded import LoadedModel, Source
from ..runtime import ENGINES, Artifact, compiler_isa, this_host
from ..runtime.cuda import CUDA, need_cuda
from .agreement import gap_of_artifact
from .int8 import carries_int8, float_refusal, int8_exporter
from .job import Done, Job, cases_of
from .noise import collected
from .routes import exporters


@dataclass(frozen=True, slots=True)
class Exported:
    """A graph on disk, and what there is to say of its export."""

    artifact: Artifact
    findings: tuple[Finding, ...] = ()
    arch: str | None = None
    """x86-64 or aarch64 where the graph is compiled code; None where any will do."""
    isa: tuple[str, ...] = ()
    """CPU flags that compiled code may use."""
    route: str = ""
    """How it was made, such as `torch.export` or `script`."""
    log: tuple[str, ...] = ()
    """What the exporter printed, logged and warned."""
    seconds: float = 0.0


def oracle_engine(model: LoadedModel) -> str:
    """The engine whose fp32 answers are the truth for a model."""
    return "onnx-reference" if model.source == "onnx" else "torch"


def export(
    model: LoadedModel, contract: Contract, engine: str, precision: Precision, directory: Path, probes: Sequence[Arrays]
) -> Exported:
    """Write the graph of `model` for an engine into `directory`, and compare it with eager on every probe.

    int8 is for a module that was trained with fake quantization, and is compared with that module's own answers.
    `contract.outputs` must be filled. Findings name a graph that was wrong and not taken, or a way that had to be
    changed. Raises ExportError where no graph of this engine answers as eager does, MissingExtra where a library is
    not installed, EngineError where the target is a GPU and there is none."""
    write = _exporter(model, engine, precision)
    if not contract.outputs:
        raise ExportError(contract.name, "its outputs are not known", "fill them with model.infer_outputs first")
    if not probes:
        raise ExportError(contract.name, "there is no probe to compare the graph with", "give data.probes(contract)")
    if contract.target.device == CUDA:
        need_cuda(engine)
    start = time.perf_counter()
    directory.mkdir(parents=True, exist_ok=True)
    with collected() as log:
        cases = cases_of(model, contract.signature, tuple(probes))
        job = Job(model, contract, engine, precision, directory, cases)
        done = write(job)
        findings = done.findings + (_placed(job) if precision == "fp32" else _low_precision(job))
    compiled = engine == "aoti"
    return Exported(
        job.artifact,
        findings,
        arch=this_host().arch if compiled else None,
        isa=compiler_isa(this_host(), contract.target.device) if compiled else (),
        route=done.route,
        log=tuple(log),
        seconds=time.perf_counter() - start,
    )


def _placed(job: Job) -> tuple[Finding, ...]:
    """TorchScript is made and compared on the CPU; a device that is written into its code shows only on the other one.

    The other engines are compared where they will run."""
    if job.engine != "torchscript" or job.contract.target.device == "cpu":
        return ()
    found = gap_of_artifact(job)
    if found is None:
        return ()
    if found.gross:
        remedy = "make tensors on the device of the inputs: device=x.device"
        raise ExportError(f"{job.engine} {job.precision} on {job.artifact.device}", found.reason, remedy)
    return (_far(job, found.reason),)


def _low_precision(job: Job) -> tuple[Finding, ...]:
    found = gap_of_artifact(job)
    return () if found is None else (_far(job, found.reason),)


def _far(job: Job, why: str) -> Finding:
    return Finding(
        rule="far-from-eager",
        severity="warning",
        where=f"{job.engine} {job.precision}",
        why=why,
        remedy="keep this model, or its sensitive layers, in fp32",
    )


_TAKES: dict[Source, tuple[str, ...]] = {
    "module": ("torch", "torchscript", "aoti", "onnxruntime", "openvino"),
    "exported": ("torch", "torchscript", "aoti", "onnxruntime", "openvino"),
    "torchscript": ("torch", "torchscript", "onnxruntime", "openvino"),
    "onnx": ("onnx-reference", "onnxruntime", "openvino"),
}
_WHY_NOT = {
    "torchscript": "torch.export, which it compiles from, does not take TorchScript",
    "onnx": "an .onnx file has no torch module to export",
}


def _exporter(model: LoadedModel, engine: str, precision: Precision) -> Callable[[Job], Done]:
    if engine not in ENGINES:
        near = difflib.get_close_matches(engine, ENGINES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ExportError(engine, "is no engine", f"{hint}the engines are {', '.join(ENGINES)}")
    if engine not in _TAKES[model.source]:
        raise ExportError(
            engine,
            _WHY_NOT.get(model.source, f"has no exporter for a model of the kind {model.source!r}"),
            f"use one of {', '.join(_TAKES[model.source])}",
        )
    if precision == "fp8":
        raise ExportError(f"{engine} fp8", "a model becomes fp8 by a quantizing recipe", "quantize it first")
    if precision != "fp32" and model.source == "onnx" and engine != "openvino":
        raise ExportError(
            f"{engine} {precision}", "an .onnx file runs in the types that it has", "use openvino, or fp32"
        )
    try:
        if precision == "int8":
            return int8_exporter(model, engine)
        if (engine, precision) != ("torch", "fp32") and carries_int8(model):
            raise float_refusal(engine, precision)
        return exporters()[engine]
    except ModuleNotFoundError as error:
        raise MissingExtra("exporting a model", str(error.name), "build") from error
