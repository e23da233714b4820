"""TorchScript: a frozen graph, executed by torch's interpreter."""

from __future__ import annotations

from ..errors import EngineError
from .engine_torch import CallableGraph
from .guarded import GuardedRunner, first_line
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
        torch = need_torch(self.name)
        path = artifact.directory / self.entry
        try:
            module = torch.jit.load(str(path), map_location="cpu")
        except (RuntimeError, ValueError) as error:
            raise EngineError(str(path), f"cannot be loaded: {first_line(error)}", "export the model again") from error
        return GuardedRunner(artifact, point, CallableGraph(artifact, module, ThreadLimit(point)))
