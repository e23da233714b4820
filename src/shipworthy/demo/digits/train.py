"""Train a small convolutional net on scikit-learn's handwritten digits, and write what a build needs."""

from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

from shipworthy import set_seed

HERE = Path(__file__).parent
# The holdout is large enough to prove a drop below one point at 95 % for four finalists.
SIZES = {"train": 900, "calibration": 100, "validation": 257, "holdout": 540}
EPOCHS = 15


def build_model() -> nn.Module:
    """Images [batch, 1, 8, 8] of 0..1 to scores [batch, 10]."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def split(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """The four sets, disjoint; pixels 0..16 become 0..1."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    parts = np.split(order, np.cumsum(list(SIZES.values()))[:-1])
    images = (digits.images / 16).astype(np.float32)[:, None]
    return {
        name: {"image": images[part], "label": digits.target[part].astype(np.int64)}
        for name, part in zip(SIZES, parts, strict=True)
    }


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for _ in track(range(EPOCHS), description="training"):
        for rows in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    model.eval()


def main() -> None:
    set_seed(0)
    sets = split()
    for name, arrays in sets.items():
        np.savez(HERE / f"{name}.npz", **arrays)
    model = build_model()
    train(model, torch.from_numpy(sets["train"]["image"]), torch.from_numpy(sets["train"]["label"]))
    # Last, because its presence says that all the rest is there.
    save_file(model.state_dict(), HERE / "digits.safetensors")


if __name__ == "__main__":
    main()
