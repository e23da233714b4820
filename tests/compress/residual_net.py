"""A residual net on scikit-learn's digits: real data, trained in seconds, deep enough to be worth pruning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from shipworthy.contract import Contract
from shipworthy.data import Dataset, as_dataset


class Block(nn.Module):
    """Two convolutions around which the input is carried, through a projection where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        same = inside == outside and stride == 1
        self.carry = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(found + self.carry(x))


class ResidualNet(nn.Module):
    """Images [batch, 1, 16, 16] to scores [batch, 10]."""

    def __init__(self, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        inside = (widths[0], *widths)
        self.blocks = nn.Sequential(
            *(Block(a, b, 1 if n == 0 else 2) for n, (a, b) in enumerate(zip(inside, widths, strict=False)))
        )
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, image: Tensor) -> Tensor:
        found = self.blocks(torch.relu(self.norm(self.stem(image))))
        return self.head(found.mean((2, 3)))


def digits_contract(**more: object) -> Contract:
    return Contract.model_validate(
        {
            "name": "digits",
            "inputs": {"image": {"dtype": "float32", "shape": ["batch", 1, 16, 16]}},
            "outputs": {"logits": {"dtype": "float32", "shape": ["batch", 10], "kind": "logits"}},
            "task": {"kind": "classification"},
            **more,
        }
    )


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 images of 16 × 16 (each pixel four times), 0..1, in a seeded order, and their classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = np.kron(found.images[order] / 16, np.ones((1, 2, 2))).astype(np.float32)[:, None]
    return images, found.target[order].astype(np.int64)


def digits_data(start: int, stop: int, contract: Contract | None = None) -> Dataset:
    images, classes = digits()
    arrays = {"image": images[start:stop], "label": classes[start:stop]}
    return as_dataset(arrays, contract or digits_contract())


def built(widths: Sequence[int] = (16, 32, 64), seed: int = 0) -> ResidualNet:
    """Seeded weights; the caller's random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResidualNet(widths).eval()
