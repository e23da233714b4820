"""OpenVINO: the converted model, and NNCF's post-training quantization for the matrix peak."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .made import megabytes
from .make_torch import Said, tensors
from .subject import Subject

# Its import would report to its maker.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def plain(subject: Subject, folder: Path, name: str) -> Said:
    import openvino

    openvino.save_model(_converted(subject), folder / "model.xml", compress_to_fp16=name == "openvino")
    if name != "openvino":
        return _said(folder, "fp32")
    # What its defaults mean depends on the processor: the hint that it takes by itself.
    compiled = openvino.Core().compile_model(str(folder / "model.xml"), "CPU")
    used = {"f32": "fp32"}.get(hint := compiled.get_property("INFERENCE_PRECISION_HINT").to_string(), hint)
    return _said(folder, used) | {"peak": f"openvino-{used}", "detail": f"weights in fp16, {used} by default here"}


def static(subject: Subject, folder: Path, name: str) -> Said:
    import nncf
    import openvino

    rows = subject.rows("calibration", 64)
    data = nncf.Dataset([rows])
    openvino.save_model(nncf.quantize(_converted(subject), data), folder / "model.xml", compress_to_fp16=False)
    return _said(folder, "int8")


def _converted(subject: Subject) -> Any:
    """From the module, with a free batch size and the contract's names."""
    import openvino

    shapes = {name: [-1, *one.shape] for name, one in subject.inputs.items()}
    model = openvino.convert_model(subject.module(), example_input=tensors(subject, 2), input=list(shapes.values()))
    for port, name in zip(model.inputs, shapes, strict=True):
        port.get_tensor().set_names({name})
    return model


def _said(folder: Path, precision: str) -> Said:
    return {"size_mb": megabytes(folder / "model.xml", folder / "model.bin"), "precision": precision}
