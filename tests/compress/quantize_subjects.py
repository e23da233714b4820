"""Small models that quantizers are tried on, and the jobs to do it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from shipworthy.compress.quantization.graph import GraphJob
from shipworthy.contract import Arrays, Contract
from shipworthy.data import Chunk, Dataset, probes
from shipworthy.exporters import export
from shipworthy.model import from_module, infer_outputs
from shipworthy.runtime import Artifact, OperatingPoint, open_runner, this_host


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Threads of torch wait for each other by spinning: on nets as small as these they cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Conv(nn.Module):
    """Convolutions with an addition, a pool and a linear layer."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.third = nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Linear(channels * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.third(torch.relu(self.norm(self.second(x)))) + x)
        return self.head(functional.avg_pool2d(x, 2).flatten(1))


class Attention(nn.Module):
    def __init__(self, words: int = 500, width: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(width, 2, 64, batch_first=True, dropout=0.0)
        self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.words(x)).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(500, 32)
        self.body = nn.LSTM(32, 48, batch_first=True)
        self.head = nn.Linear(48, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found, _ = self.body(self.words(x))
        return self.head(found[:, -1])


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no, self.head = nn.Linear(32, 64), nn.Linear(32, 64), nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cond(x.sum() > 0, lambda x: torch.relu(self.yes(x)), lambda x: torch.tanh(self.no(x)), (x,))
        return self.head(y)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(32, 64), nn.Linear(16, 64), nn.Linear(64, 4)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.a(x) + self.b(z)))


class NoWeights(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) * 2


FLOATS = {"x": {"dtype": "float32", "shape": ["batch", 32]}}
IMAGES = {"x": {"dtype": "float32", "shape": ["batch", 1, 8, 8]}}
WORDS = {"x": {"dtype": "int64", "shape": ["batch", "tokens:2..32"]}}
PAIR = {**FLOATS, "z": {"dtype": "float32", "shape": ["batch", 16]}}


def samples(contract: Contract, count: int = 15, lengths: Sequence[int] = (6,), seed: int = 0) -> Dataset:
    """Seeded samples, a chunk for each length of the dynamic dimension."""
    random = np.random.default_rng(seed)
    chunks = []
    for length in lengths:
        feeds = {}
        for name, spec in contract.inputs.items():
            shape = [count, *(length if not isinstance(size, int) else size for size in spec.shape[1:])]
            kind = spec.numpy.kind
            values = random.standard_normal(shape) if kind == "f" else random.integers(0, 500, shape)
            feeds[name] = values.astype(spec.numpy)
        chunks.append(Chunk(feeds))
    return Dataset(tuple(chunks))


@dataclass(frozen=True)
class Case:
    """A job, and what it is compared on."""

    job: GraphJob

    def within(self, folder: Path) -> Case:
        """The same, with what it writes in a folder of its own."""
        return Case(replace(self.job, directory=folder))

    def answers(self, artifact: Artifact, feeds: Sequence[Arrays] | None = None) -> list[dict[str, Any]]:
        runner = open_runner(artifact, OperatingPoint(threads=2))
        try:
            return [runner.run(feed) for feed in (self.job.probes if feeds is None else feeds)]
        finally:
            runner.close()

    def sqnr(self, artifact: Artifact) -> float:
        """Of the outputs against the fp32 graph, in dB, on the calibration data."""
        assert self.job.base is not None and self.job.calibration is not None
        feeds = [batch.inputs for batch in self.job.calibration.batches(8)]
        signal = noise = 0.0
        pairs = zip(self.answers(self.job.base, feeds), self.answers(artifact, feeds), strict=True)
        for wanted, found in pairs:
            for name in wanted:
                signal += float((wanted[name].astype(float) ** 2).sum())
                noise += float(((wanted[name].astype(float) - found[name]) ** 2).sum())
        return float(10 * np.log10(signal / noise)) if noise else 999.0


def case(
    net: nn.Module,
    inputs: dict[str, Any],
    folder: Path,
    *,
    engine: str = "openvino",
    lengths: Sequence[int] = (6,),
    **parts: Any,
) -> Case:
    """`net` exported in fp32, with calibration data."""
    torch.manual_seed(0)
    contract = Contract(name="net", inputs=inputs, **parts)
    model = from_module(net.eval(), contract)
    tried = probes(contract, None)
    contract = infer_outputs(model, contract, *tried)
    base = export(model, contract, engine, "fp32", folder / "fp32", tried).artifact
    return Case(
        GraphJob(model, contract, folder / "int8", base, samples(contract, lengths=lengths), this_host(), tried)
    )


class Digits(nn.Module):
    """Five convolutions and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(1, 16), (16, 16), (16, 16), (16, 32), (32, 32)]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in sizes)
        self.hidden, self.head = nn.Linear(32 * 16, 64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for place, convolution in enumerate(self.convolutions):
            x = torch.relu(convolution(x))
            x = functional.max_pool2d(x, 2) if place == 2 else x
        return self.head(torch.relu(self.hidden(x.flatten(1))))


def trained_digits(epochs: int = 6) -> tuple[Digits, Dataset, Dataset]:
    """A net trained on two thirds of the digits, those, and the others."""
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    found = load_digits()
    images = (found.images[:, None] / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], found.target[order].astype(np.int64)
    net = Digits()
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    x, y = torch.from_numpy(images[:1200]), torch.from_numpy(labels[:1200])
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    parts = (slice(0, 1200), slice(1200, None))
    fitted, held = (Dataset((Chunk({"x": images[part]}, labels[part]),)) for part in parts)
    return net.eval(), fitted, held


def with_outliers(net: Digits, layers: Sequence[int], factor: float = 2000.0) -> Digits:
    """The same function, but of the input of each of these convolutions one channel is `factor` times as large.

    A range for all channels then has no steps left for the others."""
    with torch.no_grad():
        for layer in layers:
            before, after = net.convolutions[layer - 1], net.convolutions[layer]
            assert isinstance(before, nn.Conv2d) and isinstance(after, nn.Conv2d) and before.bias is not None
            before.weight[3] *= factor
            before.bias[3] *= factor
            after.weight[:, 3] /= factor
    return net
