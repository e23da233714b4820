"""Graphs on a CUDA device: arrays in and out as everywhere, one stream per caller, and a capture for each size.

A run copies from page-locked buffers, computes, copies back and waits, all on one stream: what a caller times is the
whole answer. Where the graph allows it, a size that comes again is captured as a CUDA graph, and replayed from then
on: one launch for the whole model instead of one for each of its kernels."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ..contract import Array
from .guarded import first_line
from .protocol import Kernel
from .torch_tensors import to_arrays, torch_dtype

if TYPE_CHECKING:
    import torch

    Call: TypeAlias = Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]
else:
    Call: TypeAlias = Any

RUNS_UNTIL_CAPTURED = 2
"""Of one size on one stream: the first settles libraries and memory, the second is captured before it is answered."""
MOST_GRAPHS = 16
"""Captured sizes of one stream; each keeps buffers of its own. What comes after them runs without a capture."""
_MOST_SEEN = 256

_Key: TypeAlias = tuple[tuple[tuple[int, ...], str], ...]

_CAPTURING = threading.Lock()
"""Only one capture may be underway in a process."""


class Device(Protocol):
    """What is asked of the device. Buffers on the host are page-locked, and copies do not wait."""

    def stream(self) -> Any: ...
    def on(self, stream: Any) -> AbstractContextManager[Any]: ...
    def wait(self, stream: Any) -> None: ...
    def pool(self) -> Any:
        """Memory that captures of one stream share: they never run at the same time."""
        ...

    def host_buffer(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor: ...
    def upload(self, host: torch.Tensor) -> torch.Tensor: ...
    def capture(
        self, compute: Callable[[], Sequence[torch.Tensor]], stream: Any, pool: Any
    ) -> tuple[Any, Sequence[torch.Tensor]]:
        """Something with `replay()`, and the tensors that a replay fills. Raises RuntimeError where `compute` does
        what cannot be captured."""
        ...

    def seconds(self, compute: Callable[[], object], stream: Any) -> float:
        """How long the device computes, between two events."""
        ...


class TorchCuda:
    """The first visible GPU, through torch.cuda."""

    def stream(self) -> Any:
        import torch

        return torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        import torch

        return torch.cuda.stream(stream)

    def wait(self, stream: Any) -> None:
        stream.synchronize()

    def pool(self) -> Any:
        import torch

        return torch.cuda.graph_pool_handle()

    def host_buffer(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        import torch

        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)

    def upload(self, host: torch.Tensor) -> torch.Tensor:
        return host.to("cuda", non_blocking=True)

    def capture(
        self, compute: Callable[[], Sequence[torch.Tensor]], stream: Any, pool: Any
    ) -> tuple[Any, Sequence[torch.Tensor]]:
        import torch

        graph = torch.cuda.CUDAGraph()
        # thread_local: other streams may take memory and wait for their answers meanwhile.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            outputs = compute()
        return graph, outputs

    def seconds(self, compute: Callable[[], object], stream: Any) -> float:
        import torch

        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record(stream)
        compute()
        end.record(stream)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3


@dataclass(frozen=True, slots=True)
class _Captured:
    """A size with its graph and the buffers that the graph reads and writes."""

    graph: Any
    staged: list[torch.Tensor]
    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]
    answers: list[torch.Tensor]


class Lane:
    """One stream: its buffers and its captures. One caller at a time.

    `launching` is held while the graph itself is called, not while a capture is replayed."""

    def __init__(self, call: Call, device: Device, *, capture: bool, launching: AbstractContextManager[Any]) -> None:
        self._call, self._device, self._launching = call, device, launching
        self._stream = device.stream()
        self._pool = device.pool() if capture else None
        self._captures = capture
        self._graphs: dict[_Key, _Captured] = {}
        self._seen: dict[_Key, int] = {}
        self.refusal: str | None = None
        """Why nothing is captured any more."""

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        with self._device.on(self._stream):
            captured = self._captured(arrays)
            if captured is None:
                inputs = [self._device.upload(host) for host in self._staged(arrays)]
                with self._launching:
                    outputs = list(self._call(inputs))
                answers = [self._answer(output) for output in outputs]
            else:
                self._refill(captured, arrays)
                captured.graph.replay()
                outputs, answers = captured.outputs, captured.answers
            for answer, output in zip(answers, outputs, strict=True):
                answer.copy_(output, non_blocking=True)
            self._device.wait(self._stream)
            # Copies: the buffers are filled again by the next run, and page-locked memory is not for callers to keep.
            return [array.copy() for array in to_arrays(answers)]

    def compute_seconds(self, arrays: Sequence[Array]) -> float:
        """Of one run, without the copies of its inputs and outputs."""
        with self._device.on(self._stream):
            captured = self._captured(arrays)
            if captured is not None:
                self._refill(captured, arrays)
                self._device.wait(self._stream)
                return self._device.seconds(captured.graph.replay, self._stream)
            inputs = [self._device.upload(host) for host in self._staged(arrays)]
            self._device.wait(self._stream)
            with self._launching:
                return self._device.seconds(lambda: self._call(inputs), self._stream)

    def _captured(self, arrays: Sequence[Array]) -> _Captured | None:
        """The capture for these sizes, made now where they have come often enough; None where they run without."""
        key = tuple((array.shape, array.dtype.str) for array in arrays)
        if key in self._graphs or not self._captures or len(self._graphs) >= MOST_GRAPHS:
            return self._graphs.get(key)
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] < RUNS_UNTIL_CAPTURED:
            return None
        captured = self._capture(arrays)
        if captured is not None:
            self._graphs[key] = captured
        return captured

    def _capture(self, arrays: Sequence[Array]) -> _Captured | None:
        staged = self._staged(arrays)
        inputs = [self._device.upload(host) for host in staged]
        with self._launching, _CAPTURING:
            # cuBLAS and cuDNN keep a handle for each thread, and to make one is not allowed during a capture.
            self._call(list(inputs))
            self._device.wait(self._stream)
            try:
                graph, outputs = self._device.capture(lambda: self._call(list(inputs)), self._stream, self._pool)
            except RuntimeError as error:
                # The graph waits for the device, which every size would do, or there is no memory for more of them.
                self._captures, self.refusal = False, first_line(error)
                return None
        return _Captured(graph, staged, inputs, list(outputs), [self._answer(output) for output in outputs])

    def _staged(self, arrays: Sequence[Array]) -> list[torch.Tensor]:
        staged = [self._device.host_buffer(array.shape, torch_dtype(array.dtype)) for array in arrays]
        for host, array in zip(staged, arrays, strict=True):
            host.numpy()[...] = array
        return staged

    def _refill(self, captured: _Captured, arrays: Sequence[Array]) -> None:
        """All work of the last run is done: its buffers may be written."""
        for host, static, array in zip(captured.staged, captured.inputs, arrays, strict=True):
            host.numpy()[...] = array
            static.copy_(host, non_blocking=True)

    def _answer(self, output: torch.Tensor) -> torch.Tensor:
        return self._device.host_buffer(output.shape, output.dtype)

    def release(self) -> None:
        """Let go of the captures and of the graph itself, whose weights are on the device."""
        self._graphs.clear()
        self._call = _released


def _released(_: list[torch.Tensor]) -> Sequence[torch.Tensor]:
    raise AssertionError("a closed runner lets nobody in")


class OnDevice:
    """A Graph over a callable of CUDA tensors, with as many lanes as the operating point has streams.

    `serial` calls it from one thread at a time, for a callable that has no lock of its own. Only the launch is held,
    so that streams still compute side by side."""

    def __init__(
        self,
        call: Call,
        kernels: Callable[[OnDevice], tuple[Kernel, ...]],
        *,
        streams: int,
        capture: bool,
        serial: bool = False,
        device: Device | None = None,
    ) -> None:
        self._kernels = kernels
        launching: AbstractContextManager[Any] = threading.Lock() if serial else nullcontext()
        device = device or TorchCuda()
        self.lanes = [Lane(call, device, capture=capture, launching=launching) for _ in range(streams)]
        self._free: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for lane in self.lanes:
            self._free.put(lane)

    def execute(self, feeds: dict[str, Array]) -> Sequence[Array]:
        lane = self._free.get()
        try:
            return lane.run(list(feeds.values()))
        finally:
            self._free.put(lane)

    def compute_seconds(self, feeds: dict[str, Array]) -> float:
        lane = self._free.get()
        try:
            return lane.compute_seconds(list(feeds.values()))
        finally:
            self._free.put(lane)

    def kernels(self) -> tuple[Kernel, ...]:
        return self._kernels(self)

    def release(self) -> None:
        for lane in self.lanes:
            lane.release()
