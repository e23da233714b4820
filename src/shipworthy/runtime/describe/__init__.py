"""Inputs, outputs and graph of any artifact file, as text. Nothing of the file is executed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from ...errors import EngineError
from .description import SIGNATURE_KEY, Description
from .onnx_file import describe_onnx
from .openvino_file import describe_openvino
from .packed import describe_aoti, describe_exported
from .torchscript_file import describe_torchscript

__all__ = ["SIGNATURE_KEY", "Description", "describe"]


def describe(path: Path | str) -> Description:
    """Describe an .onnx, .xml (OpenVINO), .pt (TorchScript) or .pt2 (ExportedProgram or AOTInductor package).

    Raises EngineError where the file is none of them, MissingExtra where the library that reads it is not installed."""
    path = Path(path)
    if not path.is_file():
        raise EngineError(str(path), "there is no such file", "name an .onnx, .xml, .pt or .pt2 file")
    return _reader(path)(path)


def _reader(path: Path) -> Callable[[Path], Description]:
    if path.suffix == ".onnx":
        return describe_onnx
    if path.suffix == ".xml":
        return describe_openvino
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any("/data/aotinductor/" in name for name in names):
            return describe_aoti
        if any("/models/" in name and name.endswith(".json") for name in names):
            return describe_exported
        if any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names):
            return describe_torchscript
    raise EngineError(
        str(path),
        "is no graph that is known here (a state_dict has no graph, and a pickled module is not read)",
        "name an .onnx, .xml (OpenVINO), .pt (TorchScript) or .pt2 file",
    )
