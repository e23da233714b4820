"""Small models of the kinds that are served, each with its contract and seeded feeds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from shipworthy.contract import Array, Contract, Dim
from shipworthy.exporters import Exported
from shipworthy.model import LoadedModel, infer_outputs


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, features: Tensor) -> Tensor:
        return self.body(features)


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU()
        )
        self.head = nn.Linear(16 * 4, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).flatten(1))


class TwoTowers(nn.Module):
    """Two inputs, and a dict of two outputs of different dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(4, 16), nn.Linear(6, 16), nn.Linear(16, 5)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        score = self.head(torch.tanh(self.left(left) + self.right(right)))
        return {"score": score, "best": score.argmax(1)}


class TokenModel(nn.Module):
    """Integer tokens of any length, attention, and a mean over those that the mask keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Linear(32, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embed(input_ids)
        y, _ = self.attend(x, x, x, key_padding_mask=attention_mask == 0, need_weights=False)
        weight = attention_mask.unsqueeze(-1).to(y.dtype)
        return self.head(((x + y) * weight).sum(1) / weight.sum(1).clamp(min=1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(5, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, series: Tensor) -> Tensor:
        states, _ = self.lstm(series)
        return self.head(states[:, -1])


@dataclass(frozen=True)
class Specimen:
    """A model of the zoo. `sizes` are those of its dynamic dimensions besides the batch, smallest first."""

    name: str
    module: type[nn.Module]
    inputs: dict[str, tuple[str, list[str | int]]]
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def contract(self) -> Contract:
        inputs = {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in self.inputs.items()}
        contract = Contract.model_validate({"name": self.name, "inputs": inputs})
        return infer_outputs(self.model(), contract, self.feeds(2, 0), self.feeds(3, -1))

    def model(self) -> LoadedModel:
        torch.manual_seed(7)
        return LoadedModel("module", self.module().eval())

    def feeds(self, batch: int, choice: int = 0, seed: int = 3) -> dict[str, Array]:
        """Random feeds at a batch size, and one choice of the other dynamic sizes."""
        random = np.random.default_rng(seed + batch)
        found: dict[str, Array] = {}
        for name, (dtype, shape) in self.inputs.items():
            sizes = [self._size(size, batch, choice) for size in shape]
            if name == "attention_mask":
                found[name] = np.ones(sizes, dtype)
                found[name][:, sizes[1] // 2 + 1 :] = 0
            elif dtype == "int64":
                found[name] = random.integers(0, 50, sizes, dtype=dtype)
            else:
                found[name] = random.standard_normal(sizes).astype(dtype)
        return found

    def _size(self, size: str | int, batch: int, choice: int) -> int:
        if isinstance(size, int):
            return size
        dim = Dim.parse(size)
        return batch if dim.name == "batch" else self.sizes[dim.name][choice]

    def probes(self) -> list[dict[str, Array]]:
        most = max((len(sizes) for sizes in self.sizes.values()), default=1)
        return [self.feeds(2, most // 2), *(self.feeds(batch, c) for batch in (1, 3) for c in range(most))]


TOKENS: list[str | int] = ["batch", "tokens:1..64"]
ZOO = {
    specimen.name: specimen
    for specimen in (
        Specimen("mlp", Mlp, {"features": ("float32", ["batch", 4])}),
        Specimen("conv", ConvNet, {"image": ("float32", ["batch", 1, 8, 8])}),
        Specimen("two-towers", TwoTowers, {"left": ("float32", ["batch", 4]), "right": ("float32", ["batch", 6])}),
        Specimen(
            "tokens",
            TokenModel,
            {"input_ids": ("int64", TOKENS), "attention_mask": ("int64", TOKENS)},
            {"tokens": (1, 7, 64)},
        ),
        Specimen("lstm", Recurrent, {"series": ("float32", ["batch", "steps", 5])}, {"steps": (1, 6, 40)}),
    )
}


@dataclass(frozen=True)
class Ready:
    """An artifact of a specimen, with what its tests need."""

    specimen: Specimen
    contract: Contract
    exported: Exported
