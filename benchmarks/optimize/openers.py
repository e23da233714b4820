"""One class per engine: open an artifact at a batch size and a number of streams, and run numpy arrays through it."""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from .subject import Subject

Feeds = dict[str, np.ndarray]


class Opened(ABC):
    """An artifact that answers. `run` is called from as many threads as there are streams."""

    precision = "fp32"

    def __init__(self, subject: Subject, folder: Path, threads: int) -> None:
        self.subject = subject
        self.folder = folder
        self.threads = threads
        self._point: tuple[int, int] | None = None

    def ready(self, batch: int, streams: int) -> None:
        """Open for this batch size and these streams; what fits already stays open."""
        if (batch, streams) != self._point:
            self.open(batch, streams)
            self._point = (batch, streams)

    @abstractmethod
    def open(self, batch: int, streams: int) -> None: ...

    @abstractmethod
    def run(self, feeds: Feeds) -> np.ndarray:
        """The first output."""


class Torch(Opened):
    """What is called with tensors in the order of the inputs. Streams share the threads among them."""

    def __init__(self, subject: Subject, folder: Path, threads: int) -> None:
        super().__init__(subject, folder, threads)
        self._own = threading.local()
        self._share = threads
        self._call: Callable[..., Any] | None = None

    def open(self, batch: int, streams: int) -> None:
        self._share = max(1, self.threads // streams)
        if self._call is None:
            self._call = self.callable()

    def callable(self) -> Callable[..., Any]:
        return self.subject.module()

    def numeric(self) -> AbstractContextManager[object]:
        return nullcontext()

    def run(self, feeds: Feeds) -> np.ndarray:
        import torch

        # The thread count is a setting of each thread that calls torch.
        if getattr(self._own, "share", None) != self._share:
            torch.set_num_threads(self._share)
            self._own.share = self._share
        assert self._call is not None, "it is opened first"
        with torch.inference_mode(), self.numeric():
            output = self._call(*(torch.from_numpy(feeds[name]) for name in self.subject.inputs))
        found: np.ndarray = (output[0] if isinstance(output, (tuple, list)) else output).float().numpy()
        return found


class TorchBf16(Torch):
    """Eager in bfloat16, for the matrix peak."""

    precision = "bf16"

    def callable(self) -> Callable[..., Any]:
        import torch

        module = self.subject.module().to(torch.bfloat16)
        return lambda *inputs: module(*(tensor.to(torch.bfloat16) for tensor in inputs))


class TorchScript(Torch):
    def callable(self) -> Callable[..., Any]:
        import torch

        return torch.jit.load(str(self.folder / "model.pt"), map_location="cpu").eval()  # type: ignore[no-any-return,no-untyped-call]


class Compiled(Torch):
    """torch.compile as it is, with the freezing that its documentation recommends for inference on processors.

    Each batch size has a static graph of its own: a dynamic one, which the second size would give, is slower."""

    def callable(self) -> Callable[..., Any]:
        import torch
        import torch._inductor.config as inductor

        inductor.freezing = True
        return torch.compile(self.subject.module(), dynamic=False)


class Aoti(Torch):
    def callable(self) -> Callable[..., Any]:
        import torch

        return torch._inductor.aoti_load_package(str(self.folder / "model.pt2"))


class OnnxRuntime(Opened):
    """A session with default options; several streams call one session, each on a thread of its own."""

    def open(self, batch: int, streams: int) -> None:
        import onnxruntime

        share = max(1, self.threads // streams)
        if self._point is not None and self._point[1] == streams:
            return
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = share
        self._session = onnxruntime.InferenceSession(
            str(self.folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._names = [one.name for one in self._session.get_inputs()]
        self._output = self._session.get_outputs()[0].name

    def run(self, feeds: Feeds) -> np.ndarray:
        found: np.ndarray = self._session.run([self._output], {name: feeds[name] for name in self._names})[0]
        return found


class OpenVino(Opened):
    """Compiled anew for each batch size, as its documentation recommends: static shapes are faster."""

    hint: str | None = None

    def open(self, batch: int, streams: int) -> None:
        import openvino

        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": streams}
        if self.hint is not None:
            settings["INFERENCE_PRECISION_HINT"] = self.hint
        core = openvino.Core()
        model = core.read_model(str(self.folder / "model.xml"))
        shapes = {port.any_name: [batch, *self.subject.inputs[port.any_name].shape] for port in model.inputs}
        model.reshape(shapes)
        compiled = core.compile_model(model, "CPU", settings)
        used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = {"f32": "fp32", "f16": "fp16"}.get(used, used)
        self._names = [port.any_name for port in compiled.inputs]
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(streams):
            self._idle.put(compiled.create_infer_request())

    def run(self, feeds: Feeds) -> np.ndarray:
        request = self._idle.get()
        try:
            request.infer([feeds[name] for name in self._names], share_inputs=True, share_outputs=True)
            found: np.ndarray = request.get_output_tensor(0).data.copy()
            return found
        finally:
            self._idle.put(request)


class OpenVinoFp32(OpenVino):
    """fp32 must be asked for, or a processor that has bf16 uses it."""

    hint = "f32"


class OpenVinoBf16(OpenVino):
    hint = "bf16"


class Shipworthy(Opened):
    """The chosen variant of the package that `shipworthy.build` has written."""

    def open(self, batch: int, streams: int) -> None:
        import shipworthy
        from shipworthy.runtime import OperatingPoint

        if self._point is not None and self._point[1] == streams:
            return
        package = shipworthy.read_package(self.folder / "package")
        chosen = package.manifest.variants[0]
        package.close()
        # With the number of streams that the build found best, the threads are those that it found best with them.
        best = chosen.points[0]
        threads = best.threads if best.streams == streams else self.threads
        point = OperatingPoint(streams=streams, threads=threads, batch=batch)
        self._predictor = shipworthy.load(self.folder / "package", allow_code=True, variant=chosen.id, point=point)
        self.precision = chosen.precision
        self._output = next(iter(self._predictor.contract.outputs))

    def run(self, feeds: Feeds) -> np.ndarray:
        return self._predictor.run(feeds)[self._output]


OPENERS: dict[str, type[Opened]] = {
    "eager": Torch,
    "eager-bf16": TorchBf16,
    "torchscript": TorchScript,
    "compile": Compiled,
    "aoti": Aoti,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "openvino-fp32": OpenVinoFp32,
    "openvino-bf16": OpenVinoBf16,
    "shipworthy": Shipworthy,
}
