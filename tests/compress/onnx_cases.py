"""Small models in ONNX, exported as a build exports them, and what is needed to quantize them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from shipworthy.compress.made import Quantized
from shipworthy.compress.methods import Static
from shipworthy.compress.quantization.graph import GraphJob
from shipworthy.compress.quantization.onnxruntime import OnnxGraph, dynamic, static
from shipworthy.contract import Array, Contract
from shipworthy.data import Chunk, Dataset
from shipworthy.exporters import export
from shipworthy.model import LoadedModel, infer_outputs, run_eager
from shipworthy.runtime import Artifact, Host, Kernel, open_runner, this_host

IMAGE: dict[str, Any] = {"x": {"dtype": "float32", "shape": ["batch", 3, 16, 16]}}
TOKENS: dict[str, Any] = {"ids": {"dtype": "int64", "shape": ["batch", "tokens:1..64"]}}


class Residual(nn.Module):
    """A stem with pooling, a residual block with a branch for itself, and a head: a ResNet in little."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2))
        self.left = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.right = nn.Conv2d(width, width, 1)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.pool(torch.relu(self.left(x) + self.right(x))).flatten(1))


class Mixed(nn.Module):
    """Everything else that convolutional networks put between convolutions; its outputs are images."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.depthwise = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.second, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = nn.functional.relu6(self.first(x))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        low = nn.functional.avg_pool2d(nn.functional.hardswish(self.second(self.depthwise(x) * gate)), 2)
        high = nn.functional.interpolate(low, scale_factor=2.0, mode="nearest")
        return self.last(torch.cat([high, x], 1)), nn.functional.leaky_relu(low)


class Encoder(nn.Module):
    """Embeddings, attention and a perceptron of a transformer, with linear layers over three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 32)
        self.query, self.key, self.value, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32, bias=False)
        self.head = nn.Linear(32, 4)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        weights = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2) / 32**0.5, -1)
        x = self.norm(x + self.out(weights @ self.value(x)))
        return self.head((x + self.down(nn.functional.gelu(self.up(x)))).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(200, 32), nn.LSTM(32, 48, batch_first=True, bidirectional=True)
        self.head = nn.Linear(96, 5)

    def forward(self, ids: Tensor) -> Tensor:
        states, _ = self.lstm(self.embed(ids))
        return self.head(states.mean(1))


class Averaged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(200, 64), nn.Linear(64, 32), nn.Linear(32, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(self.embed(ids).mean(1))))


class Bag(Averaged):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(200, 64, mode="mean")

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(self.embed(ids))))


@dataclass(frozen=True)
class Case:
    """A model with its fp32 graph."""

    job: GraphJob

    def on(self, host: Host) -> Case:
        return Case(replace(self.job, host=host))

    def within(self, directory: Path) -> Case:
        return Case(replace(self.job, directory=directory))

    def static(self, **settings: Any) -> OnnxGraph:
        return static(self.job, Static(**settings))

    def dynamic(self) -> Quantized:
        return dynamic(replace(self.job, calibration=None))

    def sqnr(self, artifact: Artifact, *feeds: Mapping[str, Array]) -> list[float]:
        """In dB, of every output for each of the feeds."""
        runner, found = open_runner(artifact), []
        for feed in feeds or self.job.probes:
            for name, exact in run_eager(self.job.model, self.job.contract.signature, feed).items():
                got = runner.run(feed)[name]
                assert got.shape == exact.shape and got.dtype == exact.dtype
                found.append(float(10 * np.log10((exact**2).sum() / max(((exact - got) ** 2).sum(), 1e-30))))
        runner.close()
        return found


def make_case(folder: Path, module: nn.Module, inputs: dict[str, Any], samples: int = 48) -> Case:
    """`module` as fp32 for ONNX Runtime, with seeded calibration data and probes of several sizes."""
    random = np.random.default_rng(3)

    def feed(batch: int, tokens: int) -> dict[str, Array]:
        if inputs is TOKENS:
            return {"ids": random.integers(0, 100, (batch, tokens))}
        values = random.standard_normal((batch, 3, 4, 4)).repeat(4, 2).repeat(4, 3)
        return {"x": (values + 0.3 * random.standard_normal((batch, 3, 16, 16))).astype(np.float32)}

    contract = Contract.model_validate({"name": "case", "inputs": inputs})
    model = LoadedModel("module", module.eval())
    probes = (feed(2, 9), feed(1, 5), feed(5, 20))
    contract = infer_outputs(model, contract, *probes[:2])
    base = export(model, contract, "onnxruntime", "fp32", folder / "fp32", probes).artifact
    chunks = (Chunk(feed(samples // 2, 9)), Chunk(feed(samples - samples // 2, 20)))
    return Case(GraphJob(model, contract, folder / "int8", base, Dataset(chunks), this_host(), probes))


Make = Callable[..., Case]


def heavy(artifact: Artifact) -> dict[str, str]:
    """Precision of each heavy kernel that executes, by its type."""
    return {kernel.op: kernel.precision for kernel in kernels(artifact) if kernel.heavy}


def kernels(artifact: Artifact) -> tuple[Kernel, ...]:
    runner = open_runner(artifact)
    found = runner.kernels()
    runner.close()
    return found


def file_of(artifact: Artifact) -> Path:
    return artifact.directory / "model.onnx"


def weights_of(artifact: Artifact) -> list[Array]:
    """The constants in int8."""
    model = onnx.load(str(file_of(artifact)))
    found = [np.asarray(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer]
    return [values for values in found if values.dtype == np.int8 and values.ndim > 1]


def nodes_of(artifact: Artifact, *types: str) -> Sequence[Any]:
    return [node for node in onnx.load(str(file_of(artifact))).graph.node if node.op_type in types]
