"""The part of a runner that is the same in every engine: checked feeds, bounded concurrency, a clean end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Protocol

from ..contract import BATCH, Array, Arrays, Dim, Signature
from ..errors import EngineError, ShipworthyError
from .feeds import Gate, empty_outputs
from .protocol import Artifact, Kernel, OperatingPoint


class Graph(Protocol):
    """What an engine has to bring."""

    def execute(self, feeds: dict[str, Array]) -> Sequence[Array]:
        """Outputs in the signature's order, in memory that later runs leave alone. Called from several threads."""
        ...

    def kernels(self) -> tuple[Kernel, ...]: ...

    def release(self) -> None:
        """Called once, when nothing runs any more."""
        ...


class GuardedRunner:
    """A Runner over a Graph: at most `point.streams` runs at once, further callers wait for a stream.

    `close` waits for the runs in flight."""

    def __init__(self, artifact: Artifact, point: OperatingPoint, graph: Graph) -> None:
        self.signature: Signature = artifact.signature
        self._name = f"{artifact.engine} {artifact.precision}"
        self._graph = graph
        self._gate = Gate(artifact.signature)
        self._outputs = [(name, spec.numpy) for name, spec in artifact.signature.outputs.items()]
        self._may_be_empty = any(dim.name == BATCH and dim.min == 0 for dim in artifact.signature.dynamic())
        self._streams: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._count = point.streams
        for stream in range(point.streams):
            self._streams.put(stream)
        self._closing = threading.Lock()
        self._closed = False

    def run(self, feeds: Arrays) -> dict[str, Array]:
        arrays = self._gate.accept(feeds)
        stream = self._enter()
        try:
            if self._may_be_empty and _rows(self.signature, arrays) == 0:
                return empty_outputs(self.signature, arrays)
            return self._named(self._execute(arrays))
        finally:
            self._streams.put(stream)

    def _enter(self) -> int:
        """Wait for a stream. Closing takes them all, and then gives them back so that who waits learns of it."""
        stream = self._streams.get()
        if self._closed:
            self._streams.put(stream)
            raise EngineError(self._name, "the runner is closed", "open it again")
        return stream

    def _execute(self, arrays: dict[str, Array]) -> Sequence[Array]:
        try:
            return self._graph.execute(arrays)
        except ShipworthyError:
            raise
        except Exception as error:  # engines raise whatever their bindings make of a C++ exception
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
            raise self._failed(error, f"failed on {shapes}") from error

    def _failed(self, error: Exception, what: str) -> EngineError:
        return EngineError(self._name, f"{what}: {first_line(error)}", "check the sizes and values that are fed")

    def _named(self, arrays: Sequence[Array]) -> dict[str, Array]:
        if len(arrays) < len(self._outputs):
            raise EngineError(
                self._name,
                f"the graph gives {len(arrays)} outputs, the signature has {len(self._outputs)}",
                "export the model again with this contract",
            )
        return {
            name: array if array.dtype == dtype else array.astype(dtype)
            for (name, dtype), array in zip(self._outputs, arrays, strict=False)
        }

    def kernels(self) -> tuple[Kernel, ...]:
        stream = self._enter()
        try:
            return self._graph.kernels()
        except ShipworthyError:
            raise
        except Exception as error:  # as above: an engine runs its graph for this
            raise self._failed(error, "cannot show its kernels, because the graph fails on ones") from error
        finally:
            self._streams.put(stream)

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            streams = [self._streams.get() for _ in range(self._count)]
            self._graph.release()
            for stream in streams:
                self._streams.put(stream)


def _rows(signature: Signature, arrays: dict[str, Array]) -> int | None:
    for name, spec in signature.inputs.items():
        for dim, size in zip(spec.shape, arrays[name].shape, strict=True):
            if isinstance(dim, Dim) and dim.name == BATCH:
                return int(size)
    return None


def first_line(error: BaseException) -> str:
    """The first line of an exception that says more than where in the engine's source it was thrown.

    TorchScript's interpreter puts its own heading and two tracebacks first, and the reason last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("The following operation failed"):
        return lines[-1]
    return next((line for line in lines if not line.startswith("Exception from ")), type(error).__name__)
