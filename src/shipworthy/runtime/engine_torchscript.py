"""TorchScript: a frozen graph, executed by torch's interpreter."""

from __future__ import annotations

from .cuda import CUDA, need_cuda
from .engine_torch import callable_runner, load_script
from .protocol import Artifact, OperatingPoint, Runner
from .torch_tensors import need_torch


class TorchScriptEngine:
    name = "torchscript"
    extra = "build"
    module = "torch"
    executes_code = True
    precision_at_opening = False
    packable = True
    entry = "model.pt"

    def open(self, artifact: Artifact, point: OperatingPoint) -> Runner:
        need_torch(self.name)
        if artifact.device == CUDA:
            need_cuda(self.name)
        return callable_runner(artifact, point, load_script(artifact.directory / self.entry, artifact.device))
