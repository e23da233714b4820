"""Iris flowers from four measurements: a small network, its weights, and data that it was not trained on.

python train.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import shipworthy

HERE = Path(__file__).parent
TRAIN = 90
"""Of the 150 flowers; the others are for the build to measure with."""
EPOCHS = 200


class Flower(nn.Module):
    """Scores [n, 3] of measurements [n, 4] in centimetres.

    The scaling is part of the model, and so of every graph that is made of it: who serves it cannot forget it."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("std", torch.ones(4))
        self.layers = nn.Sequential(
            nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3)
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.layers((features - self.mean) / self.std)


def build_model() -> nn.Module:
    """What the contract names: the network without its weights."""
    return Flower()


def flowers() -> tuple[np.ndarray, np.ndarray]:
    """Measurements float32 [150, 4] and species int64 [150], shuffled."""
    from sklearn.datasets import load_iris

    features, species = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(species))
    return features[order].astype(np.float32), species[order].astype(np.int64)


def fit(model: Flower, features: Tensor, species: Tensor) -> None:
    model.mean.copy_(features.mean(0))
    model.std.copy_(features.std(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(features), species).backward()
        optimizer.step()


def main() -> None:
    shipworthy.set_seed(0)
    # Layers so small leave a second thread little but waiting.
    torch.set_num_threads(1)
    features, species = flowers()
    model = Flower()
    fit(model, torch.from_numpy(features[:TRAIN]), torch.from_numpy(species[:TRAIN]))
    with torch.inference_mode():
        found = model.eval()(torch.from_numpy(features[TRAIN:])).argmax(1).numpy()
    save_file(model.state_dict(), HERE / "iris.safetensors")
    np.savez(HERE / "validation.npz", features=features[TRAIN:], label=species[TRAIN:])
    right = int((found == species[TRAIN:]).sum())
    print(f"{right} of {len(found)} flowers that it has not seen are told apart rightly")


if __name__ == "__main__":
    main()
