"""How large a model is: numbers and bytes of a module, of an .onnx file, and of the files of a graph."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..model import LoadedModel

if TYPE_CHECKING:
    from torch import nn

_PIECE = 1 << 20
_LEVEL = 6


def parameters_of(module: nn.Module, *, nonzero: bool = False) -> int:
    """Numbers in the parameters, each once however often it is used; `nonzero` counts those that are not zero."""
    return sum(int(p.detach().count_nonzero()) if nonzero else p.numel() for p in module.parameters())


def bytes_of(module: nn.Module) -> int:
    """Of the parameters and buffers, each once."""
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def size_of(model: LoadedModel) -> tuple[int, int]:
    """Parameters and bytes; of an .onnx file, those of its initializers."""
    if model.module is not None:
        return parameters_of(model.module), bytes_of(model.module)
    assert model.path is not None, "a model is a module or a file"
    import onnx

    numbers = total = 0
    for tensor in onnx.load(model.path, load_external_data=False).graph.initializer:
        numbers += math.prod(tensor.dims)
        total += math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return numbers, total


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in _files(folder))


def zipped_bytes(folder: Path) -> int:
    """Each file deflated by itself, as a zip archive holds it."""
    return sum(_deflated(file) for file in _files(folder))


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _deflated(file: Path) -> int:
    squeeze, total = zlib.compressobj(_LEVEL), 0
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            total += len(squeeze.compress(piece))
    return total + len(squeeze.flush())
