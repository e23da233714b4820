"""What every engine offers: open a graph, run it on arrays, and say what really executes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import PositiveInt

from ..contract import Arrays, Signature, Strict
from ..contract.spec import Precision
from ..contract.tensors import Array


class OperatingPoint(Strict):
    """How a variant is run on a host: `streams` run at the same time, sharing `threads`, each on a batch of `batch`."""

    streams: PositiveInt = 1
    threads: PositiveInt = 1
    """Threads of all streams together."""
    batch: PositiveInt = 1


class Kernel(Strict):
    """What executes: an operation of the optimised graph, the precision it runs in, and how often it occurs."""

    op: str
    precision: str
    """fp32, bf16, fp16, int8, or the engine's own word."""
    count: PositiveInt
    heavy: bool = False
    """True for matrix products and convolutions, whose precision decides the speed."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A graph on disk: the engine that executes it, the precision it is run in, and the folder with its files."""

    engine: str
    precision: Precision
    directory: Path
    signature: Signature
    device: str = "cpu"
    """Where it runs: cpu or cuda."""


class Runner(Protocol):
    """An opened graph. `run` may be called from several threads at once."""

    signature: Signature

    def run(self, feeds: Arrays) -> dict[str, Array]:
        """Outputs by name for inputs by name (any strides; sizes within the signature).

        Raises InputError where names, dtypes or shapes do not fit, EngineError where the engine fails."""
        ...

    def kernels(self) -> tuple[Kernel, ...]:
        """What executed, read from the engine after its own optimisation."""
        ...

    def close(self) -> None:
        """Free what the engine holds. A second call does nothing; `run` afterwards raises EngineError."""
        ...


class Engine(Protocol):
    """One row of the table of engines."""

    name: str
    extra: str
    """The extra of this project that installs it."""
    module: str
    """The Python module that must be importable."""
    executes_code: bool
    """True where opening a graph of this engine runs code that the graph brings."""
    precision_at_opening: bool
    """True where fp32 and bf16 are one file, and the precision is asked for when it is opened."""
    packable: bool
    """False for eager torch, which needs the user's own code."""
    entry: str
    """Name of the file in the artifact's folder that is opened."""

    def open(self, artifact: Artifact, point: OperatingPoint) -> Runner: ...
