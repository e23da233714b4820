"""AOTInductor: torch.export, then compiled to a shared library for this kind of processor."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ..contract import Signature
from ..errors import ExportError
from ..evidence import Finding
from ..runtime.describe import SIGNATURE_KEY
from ..runtime.guarded import first_line
from .job import Done, Job
from .program import on_device, to_program
from .routes import Route, first_agreeing

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


def export_aoti(job: Job) -> Done:
    """model.pt2, with the generated source and the signature inside.

    It is compiled with -march=native, so it runs on hosts with this one's instruction set only; for cuda, on this
    generation of GPUs only."""
    if job.precision == "fp32":
        return first_agreeing(job, (Route("torch.export", _compile),))
    _compile(job)
    return Done("torch.export")


def _need_compiler() -> None:
    from torch._inductor import config

    wanted = config.cpp.cxx
    candidates = [name for name in (wanted if isinstance(wanted, (tuple, list)) else [wanted]) if name]
    if not any(shutil.which(str(name)) for name in candidates):
        raise ExportError(
            "aoti",
            f"needs a C++ compiler, and there is no {' or '.join(map(str, candidates))} on this host",
            "install g++ (Debian: apt-get install g++; macOS: xcode-select --install), or set CXX",
        )


def _need_toolkit() -> None:
    """torch's wheels bring CUDA's libraries, and not the headers that the generated code includes."""
    from torch.utils import cpp_extension

    if cpp_extension.CUDA_HOME is None:
        raise ExportError(
            "aoti on cuda",
            "needs the headers of the CUDA toolkit, and neither CUDA_HOME nor nvcc nor /usr/local/cuda leads to one",
            f"install the toolkit of version {torch.version.cuda} and set CUDA_HOME; torchscript needs none",
        )


def _compile(job: Job) -> tuple[Finding, ...]:
    program = on_device(to_program(job), job.contract.target.device)
    compile_program(program, job.signature, job.directory / "model.pt2")
    return ()


def compile_program(
    program: torch.export.ExportedProgram, signature: Signature, path: Path, *, options: Mapping[str, Any] = _NO_OPTIONS
) -> None:
    """Compile `program` into the package at `path`, with `signature` inside; `options` are Inductor's own settings.

    Raises ExportError where lowering, code generation or the C++ compiler fail, or where there is no compiler."""
    _need_compiler()
    if any(tensor.is_cuda for tensor in program.state_dict.values()):
        _need_toolkit()
    settings: dict[str, Any] = {
        # Without this, the thread count of the build is written into the code.
        "cpp.dynamic_threads": True,
        "aot_inductor.metadata": {SIGNATURE_KEY: signature.model_dump_json()},
        **options,
    }
    try:
        with torch.no_grad():
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)
    except Exception as error:  # lowering, code generation and the compiler each raise classes of their own
        raise ExportError(
            "aoti", f"AOTInductor cannot compile it: {first_line(error)}", "use another engine"
        ) from error
