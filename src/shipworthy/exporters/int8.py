"""Export in int8 of a module that carries fake quantization, with the proof that integers are what executes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import ExportError
from ..model.loaded import LoadedModel
from ..runtime import Artifact, Kernel, open_runner
from .job import Done, Job
from .routes import exporters

_ELSEWHERE = "use another engine, or the model in fp32"


def carries_int8(model: LoadedModel) -> bool:
    """Whether the module was trained with fake quantization."""
    if model.module is None:
        return False
    from .fake_quantize import is_fake_quantized

    return is_fake_quantized(model)


def int8_exporter(model: LoadedModel, engine: str) -> Callable[[Job], Done]:
    """Raises ExportError for a model that has to be quantized first, and for an engine that would execute fp32."""
    if not carries_int8(model):
        raise ExportError(f"{engine} int8", "a model becomes int8 by a quantizing recipe", "quantize it first")
    if engine not in ("aoti", "onnxruntime", "openvino"):
        raise ExportError(
            f"{engine} int8",
            "it executes fake quantization as it is written, in fp32, and gains nothing by it",
            "use openvino, onnxruntime or aoti",
        )
    if engine == "aoti":
        from .aoti_int8 import export_aoti_int8

        return _proven(export_aoti_int8)
    return _proven(exporters()[engine])


def float_refusal(engine: str, precision: str) -> ExportError:
    """For fake quantization that is asked for in a floating-point precision."""
    return ExportError(
        f"{engine} {precision}",
        "the model was trained to run in int8, and this engine would make integers of it whatever it is called",
        "ask for int8, or export the model that it was trained from",
    )


def _proven(write: Callable[[Job], Done]) -> Callable[[Job], Done]:
    """The same exporter, which refuses a graph that executes no integers."""

    def run(job: Job) -> Done:
        done = write(job)
        if (reason := float_reason(job.artifact)) is not None:
            raise ExportError(f"{job.engine} int8", reason, _ELSEWHERE)
        return done

    return run


def float_reason(artifact: Artifact) -> str | None:
    """Why a graph is not in int8 whatever it is called; None where a product or convolution of it executes so."""
    runner = open_runner(artifact)
    try:
        return float_reason_of(runner.kernels())
    finally:
        runner.close()


def float_reason_of(kernels: Sequence[Kernel]) -> str | None:
    """The same of a graph that is open, by what executes it."""
    heavy = [kernel for kernel in kernels if kernel.heavy]
    if any(kernel.precision == "int8" for kernel in heavy):
        return None
    if not heavy:
        return "the engine shows no product or convolution that could execute in int8"
    found = ", ".join(sorted({kernel.precision for kernel in heavy}))
    return f"all {sum(kernel.count for kernel in heavy)} products and convolutions of the graph execute in {found}"
