"""Models that are graphs already: TorchScript, ExportedProgram, ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..contract import Contract
from ..errors import MissingExtra, ModelError
from .live import take_over
from .loaded import LoadedModel

if TYPE_CHECKING:
    from torch.export import ExportedProgram


class ExportedModule(nn.Module):
    """An ExportedProgram as an nn.Module that can be called. Its mode was fixed when it was exported."""

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self.program = program
        self.graph_module = program.module()

    def train(self, mode: bool = True) -> ExportedModule:
        """Accept the call as any module does; the graph itself refuses to change its mode."""
        self.training = mode
        return self

    def forward(self, *args: Any) -> Any:
        return self.graph_module(*args)


def load_torchscript(path: Path) -> LoadedModel:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as exc:  # a damaged archive raises more than RuntimeError
        raise ModelError(str(path), f"TorchScript cannot read it ({_first_line(exc)})", "save it again") from exc
    taken = take_over(module, str(path), live=False)
    return LoadedModel("torchscript", taken.module, path, notes=taken.notes)


def load_exported(path: Path) -> LoadedModel:
    import torch

    try:
        program = torch.export.load(path)
    except Exception as exc:  # the reader raises whatever its schema checks stumble over
        raise ModelError(
            str(path),
            f"torch.export cannot read it ({type(exc).__name__}: {_first_line(exc)})",
            f"export it again with this torch ({torch.__version__})",
        ) from exc
    return LoadedModel("exported", ExportedModule(program), path)


def load_onnx(path: Path, contract: Contract) -> LoadedModel:
    """Check an ONNX file, and that its inputs are named as the contract names them."""
    try:
        import onnx
    except ModuleNotFoundError as exc:
        raise MissingExtra(f"reading {path.name}", "onnx", "build") from exc
    try:
        onnx.checker.check_model(str(path))
        graph = onnx.load(str(path), load_external_data=False).graph
    except (onnx.checker.ValidationError, OSError) as exc:
        raise ModelError(str(path), f"is no valid ONNX model ({_first_line(exc)})", "export it again") from exc
    weights = {weight.name for weight in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in weights]
    if set(inputs) != set(contract.inputs):
        raise ModelError(
            str(path),
            f"its inputs are {', '.join(inputs)}; the contract names {', '.join(contract.inputs)}",
            "name the contract's inputs as the graph does",
        )
    return LoadedModel("onnx", None, path)


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().split("\n") or [""])[0]
