"""Export in int8 of a module that carries fake quantization, with the proof that integers are what executes."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ExportError
from ..model.loaded import LoadedModel
from ..runtime import open_runner
from .job import Done, Job
from .routes import exporters


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
    def run(job: Job) -> Done:
        done = write(job)
        runner = open_runner(job.artifact)
        try:
            heavy = [kernel for kernel in runner.kernels() if kernel.heavy]
        finally:
            runner.close()
        if not any(kernel.precision == "int8" for kernel in heavy):
            found = ", ".join(sorted({kernel.precision for kernel in heavy})) or "no precision: there are none"
            raise ExportError(
                f"{job.engine} int8",
                f"all products and convolutions of the graph execute in {found}",
                "use another engine, or the model in fp32",
            )
        return done

    return run
