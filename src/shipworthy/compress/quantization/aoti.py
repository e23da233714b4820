"""int8 for AOTInductor: PT2E quantizes the exported program, Inductor fuses it to oneDNN's integer kernels."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from ...contract import Arrays
from ...data import Dataset
from ...errors import CompressError, EngineError, ExportError
from ...evidence import QuantizedOperation
from ...exporters.agreement import gap_of_artifact
from ...exporters.aoti_int8 import compile_int8
from ...exporters.int8 import float_reason
from ...exporters.int8_program import mend
from ...exporters.job import Case, Job, cases_of
from ...exporters.noise import collected
from ...exporters.program import to_program
from ...model import LoadedModel
from ...runtime import Artifact, compiler_isa, this_host
from ..made import Quantized
from ..methods import Static
from .graph import GraphJob
from .pt2e import Product, products, quantized_program
from .report import compression
from .scheme import Scheme, scheme_for

_ROWS = 32
"""Calibration samples that run at once: observers are slow, and cost the same for one sample as for many."""


def static(job: GraphJob, method: Static) -> Quantized:
    """model.pt2 with products and convolutions in int8, from ranges that are found on the calibration data.

    Raises CompressError where the program cannot be quantized, where nothing of the compiled package executes in
    int8, or where it answers otherwise than the program that it was compiled from."""
    if job.calibration is None:
        remedy = "give calibration=..., or name some hundred samples in data.calibration"
        raise CompressError("static quantization", "there is no calibration data to find ranges with", remedy)
    feeds = [batch.inputs for batch in job.calibration.batches(_ROWS)]
    scheme = scheme_for(job.host)
    notes = [scheme.reason if not scheme.narrow_weights else _NARROW, "weights have one scale per output channel"]
    if method.rest == "bf16":
        notes.append("what stays in float is executed in fp32: the compiled program mixes int8 with no other")
    return _quantized(job, "static", feeds, scheme, method.keep_float, notes, job.calibration)


def dynamic(job: GraphJob) -> Quantized:
    """model.pt2 with linear layers in int8, whose activations are measured in each run. Raises as `static` does."""
    notes = ["linear layers alone: Inductor has integer kernels with dynamic ranges for no other operation"]
    feeds = [_feed(job)]
    return _quantized(job, "dynamic", feeds, scheme_for(job.host), (), notes, None)


_NARROW = "unsigned activations of 7 bits: without VNNI, sums of 8-bit products saturate in 16 bits"


def _feed(job: GraphJob) -> Arrays:
    if job.probes:
        return job.probes[0]
    if job.calibration is not None:
        return job.calibration.chunks[0].rows(0, 2).inputs
    raise CompressError(job.contract.name, "there are no inputs to follow the model with", "give probes")


def _quantized(
    job: GraphJob,
    recipe: str,
    feeds: Sequence[Arrays],
    scheme: Scheme,
    keep_float: Collection[str],
    notes: Sequence[str],
    samples: Dataset | None,
) -> Quantized:
    _must_be_here(job)
    job.directory.mkdir(parents=True, exist_ok=True)
    with collected():
        program = quantized_program(
            _program(job), job.contract, feeds, job.host, scheme, dynamic=recipe == "dynamic", keep_float=keep_float
        )
        wanted = _answers(job, program)
        mend(program)
        found = products(program, keep_float)
        if not any(product.int8 for product in found):
            raise _nothing(job, found)
        compile_int8(program, job.contract.signature, job.directory / "model.pt2")
        artifact = _checked(job, wanted)
    report = compression(
        job,
        recipe,
        artifact,
        operations=_operations(found),
        notes=(*notes, "a package holds its compiled code and the C++ that it was made of, which is part of its size"),
        samples=None if samples is None else len(samples),
    )
    return Quantized(artifact, report, arch=this_host().arch, isa=compiler_isa(this_host()))


def _must_be_here(job: GraphJob) -> None:
    if job.host.arch != this_host().arch:
        raise CompressError(
            "aoti int8",
            f"is compiled for the processor that it is made on ({this_host().arch}), and the target is {job.host.arch}",
            "build on the target's kind of host, or use openvino or onnxruntime",
        )


def _program(job: GraphJob) -> torch.export.ExportedProgram:
    source = _job(job, job.model, (Case(dict(_feed(job)), {}),))
    try:
        return to_program(source.as_precision("fp32"))
    except ExportError as error:
        raise CompressError(error.culprit, error.reason, error.remedy) from error


def _job(job: GraphJob, model: LoadedModel, cases: tuple[Case, ...]) -> Job:
    return Job(model, job.contract, "aoti", "int8", job.directory, cases)


def _answers(job: GraphJob, program: torch.export.ExportedProgram) -> tuple[Case, ...]:
    """What the quantized program itself gives, in float arithmetic on the grids of integers."""
    probes = job.probes or (_feed(job),)
    return cases_of(LoadedModel("exported", program.module()), job.contract.signature, tuple(probes))


def _checked(job: GraphJob, wanted: tuple[Case, ...]) -> Artifact:
    compiled = _job(job, job.model, wanted)
    try:
        # Both compute on the same integers: what an export in fp32 would be refused for is wrong here too.
        gap = gap_of_artifact(compiled.as_precision("fp32"))
        reason = float_reason(compiled.artifact)
    except EngineError as error:
        raise CompressError(error.culprit, error.reason, error.remedy) from error
    if gap is not None and gap.gross:
        why = f"the compiled package departs from the program that it was made of: {gap.reason}"
        raise CompressError("aoti int8", why, "use openvino or onnxruntime for int8")
    if reason is not None:
        raise CompressError("aoti int8", reason, "use openvino or onnxruntime for int8")
    return compiled.artifact


def _operations(found: Sequence[Product]) -> tuple[QuantizedOperation, ...]:
    return tuple(
        QuantizedOperation(
            name=product.name, op=product.op, precision="int8" if product.int8 else "fp32", reason=product.reason
        )
        for product in found
    )


def _nothing(job: GraphJob, found: Sequence[Product]) -> CompressError:
    kinds = ", ".join(sorted({product.op for product in found}))
    reason = f"Inductor has no integer kernel for what it is made of ({kinds})" if kinds else "has nothing to quantize"
    return CompressError(job.contract.name, reason, "use openvino or onnxruntime for int8")
