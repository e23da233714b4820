"""The models that are served, and where what was built of them stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .apps.engine import opened
from .process import Failed
from .samples import FEEDS, Tensor

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = HERE.parent / ".cache" / "serve"
SAMPLES = 16
"""Different bodies that are sent in turn, each with its known answer."""
ONNX, INT8 = "onnxruntime-fp32", "openvino-int8"
"""What peers run: the graph that a user would export, and the one that Shipworthy's build has chosen."""


@dataclass(frozen=True)
class Model:
    """One input and one output."""

    name: str
    title: str
    input: str
    dtype: str
    shape: tuple[int, ...]
    """Of one sample."""
    output: str
    width: int
    """Numbers in one answer."""
    factory: str
    """In contracts/serving_nets.py."""

    @property
    def of_numbers(self) -> bool:
        """Asked with a few numbers as JSON, not with pictures."""
        return len(self.shape) == 1

    @property
    def folder(self) -> Path:
        return CACHE / self.name

    @property
    def package(self) -> Path:
        return self.folder / "package"

    @property
    def weights(self) -> Path:
        """ResNet-50 has those of benchmarks/optimize."""
        return (self.folder if self.of_numbers else CACHE.parent / "optimize" / "resnet50") / "weights.safetensors"

    def graph(self, engine: str) -> Path:
        """A file: the exported model for `onnxruntime-fp32`, the package's own for `openvino-int8`.

        Raises Failed where there is none."""
        variants = self.package / "variants"
        places = {ONNX: self.folder / "model.onnx", INT8: variants / f"static+{INT8}" / "model.xml"}
        if not (found := places[engine]).exists():
            raise Failed(f"{self.name}: the build gave no {engine}; build.log beside {found.parent} says why")
        return found

    def samples(self) -> Tensor:
        """What is sent [SAMPLES, ...], the same in every run."""
        return FEEDS[self.name](SAMPLES)

    def expected(self, engine: str) -> npt.NDArray[np.float32]:
        """Answers [SAMPLES, width] of a graph of the package, one sample at a time, in this process; read-only."""
        graph = self.graph(engine)
        return _answers(self, graph, graph.stat().st_mtime_ns)


@cache
def _answers(model: Model, graph: Path, modified_ns: int) -> npt.NDArray[np.float32]:
    """Every visit compares with them; a graph that was built anew has others."""
    run = opened({"graph": str(graph), "input": model.input, "threads": 2, "streams": 1})
    found = np.concatenate([run(row[None]) for row in model.samples()])
    found.setflags(write=False)
    return found


IRIS = Model(
    name="iris",
    title="iris, an MLP of 403 parameters",
    input="features",
    dtype="float32",
    shape=(4,),
    output="probabilities",
    width=3,
    factory="iris",
)
FLOAT32 = Model(
    name="resnet50-float32",
    title="ResNet-50, float32 pictures of 600 KB",
    input="image",
    dtype="float32",
    shape=(3, 224, 224),
    output="logits",
    width=1000,
    factory="resnet50",
)
UINT8 = replace(
    FLOAT32,
    name="resnet50-uint8",
    title="ResNet-50, uint8 pictures of 150 KB",
    dtype="uint8",
    factory="resnet50_pixels",
)
MODELS = (IRIS, FLOAT32, UINT8)
