"""TorchScript: a frozen graph, executed by torch's interpreter."""

from __future__ import annotations

from .engine_torch import CallableGraph, load_script
from .guarded import GuardedRunner
from .protocol import Artifact, OperatingPoint, Runner
from .torch_tensors import ThreadLimit, need_torch


class TorchScriptEngine:
    name = "torchscript"
    extra = "build"
    module = "torch"
    executes_code = True
    packable = True
    entry = "model.pt"

    def open(self, artifact: Artifact, point: OperatingPoint) -> Runner:
        need_torch(self.name)
        module = load_script(artifact.directory / self.entry)
        return GuardedRunner(artifact, point, CallableGraph(artifact, module, ThreadLimit(point)))
