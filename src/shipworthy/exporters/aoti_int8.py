"""AOTInductor in int8: what makes its lowering replace dequantized products by oneDNN's integer ones."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from ..contract import Signature
from ..errors import MissingExtra
from .aoti import compile_program
from .int8_program import mend
from .int8_routes import strictly
from .job import Done, Job
from .program import to_program
from .routes import Route, first_agreeing


def export_aoti_int8(job: Job) -> Done:
    """model.pt2 of a module with fake quantization."""
    return first_agreeing(job, (strictly(Route("torch.export", _write)),))


def _write(job: Job) -> tuple[()]:
    compile_int8(to_program(job), job.signature, job.directory / "model.pt2")
    return ()


def compile_int8(program: torch.export.ExportedProgram, signature: Signature, path: Path) -> None:
    """Compile a program with pairs of quantize and dequantize into the package at `path`.

    The patterns that see an integer product in such a pair match constant weights only. Without freezing they find
    none, and the package dequantizes and multiplies in fp32 without a word. Raises ExportError, MissingExtra."""
    try:
        # Its import registers the patterns, for Arm too.
        importlib.import_module("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
    except ModuleNotFoundError as error:
        raise MissingExtra("compiling in int8", str(error.name), "build") from error
    mend(program)
    compile_program(program, signature, path, options={"freezing": True})
