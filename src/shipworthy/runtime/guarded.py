"""The part of a runner that is the same in every engine: checked feeds, bounded concurrency, a clean end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from ..contract import BATCH, Array, Arrays, Dim, Signature
from ..errors import EngineError, ShipworthyError
from .feeds import accept, empty_outputs
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
        self._streams = point.streams
        self._graph = graph
        self._gate = threading.Condition()
        self._active = 0
        self._closed = False
        self._may_be_empty = any(dim.name == BATCH and dim.min == 0 for dim in artifact.signature.dynamic())

    def run(self, feeds: Arrays) -> dict[str, Array]:
        arrays = accept(self.signature, feeds)
        with self._stream():
            if self._may_be_empty and _rows(self.signature, arrays) == 0:
                return empty_outputs(self.signature, arrays)
            return self._named(self._execute(arrays))

    def _execute(self, arrays: dict[str, Array]) -> Sequence[Array]:
        try:
            return self._graph.execute(arrays)
        except ShipworthyError:
            raise
        except Exception as error:  # engines raise whatever their bindings make of a C++ exception
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
            raise EngineError(self._name, f"failed on {shapes}: {first_line(error)}", "check the sizes") from error

    def _named(self, outputs: Sequence[Array]) -> dict[str, Array]:
        specs = self.signature.outputs
        if len(outputs) < len(specs):
            raise EngineError(
                self._name,
                f"the graph gives {len(outputs)} outputs, the signature has {len(specs)}",
                "export the model again with this contract",
            )
        return {
            name: array.astype(spec.numpy, copy=False)
            for (name, spec), array in zip(specs.items(), outputs, strict=False)
        }

    def kernels(self) -> tuple[Kernel, ...]:
        with self._stream():
            return self._graph.kernels()

    @contextmanager
    def _stream(self) -> Iterator[None]:
        with self._gate:
            self._gate.wait_for(lambda: self._closed or self._active < self._streams)
            if self._closed:
                raise EngineError(self._name, "the runner is closed", "open it again")
            self._active += 1
        try:
            yield
        finally:
            with self._gate:
                self._active -= 1
                self._gate.notify_all()

    def close(self) -> None:
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._gate.notify_all()
            self._gate.wait_for(lambda: self._active == 0)
        self._graph.release()


def _rows(signature: Signature, arrays: dict[str, Array]) -> int | None:
    for name, spec in signature.inputs.items():
        for dim, size in zip(spec.shape, arrays[name].shape, strict=True):
            if isinstance(dim, Dim) and dim.name == BATCH:
                return int(size)
    return None


def first_line(error: BaseException) -> str:
    """The first line of an exception that says more than where in the engine's source it was thrown."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("Exception from ")), type(error).__name__)
