"""Digits with an early exit: easy images are answered by a small layer, and the large one runs only for the others.

python train.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import shipworthy

HERE = Path(__file__).parent
TRAIN = 1000
"""Of the 1797 images; the others are for the build to measure with."""
EPOCHS = 20
SURE = 0.95
"""From this probability on, the early answer stands."""


class EarlyExit(nn.Module):
    """Scores [n, 10] of images [n, 64] with pixels from 0 to 16.

    `forward` branches on what it has computed: where every image of the batch is sure, the large part is not run. No
    answer depends on its neighbours, for an image that is sure keeps its early scores whether or not others are."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.sure = SURE
        self.early = nn.Linear(64, 10)
        self.late = nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
        )

    def forward(self, image: Tensor) -> Tensor:
        x = image / 16.0
        early = self.early(x)
        sure = early.softmax(-1).amax(-1, keepdim=True) >= self.sure
        if bool(sure.all()):
            return early
        return torch.where(sure, early, self.late(x))


def build_model() -> nn.Module:
    """What the contract names: the network without its weights."""
    return EarlyExit()


def images() -> tuple[np.ndarray, np.ndarray]:
    """Pixels float32 [1797, 64] from 0 to 16 and digits int64 [1797], shuffled."""
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    return pixels[order].astype(np.float32), digits[order].astype(np.int64)


def fit(model: EarlyExit, pixels: Tensor, digits: Tensor) -> None:
    """Both exits learn from every image; which of them answers is decided only afterwards."""
    optimizer = torch.optim.AdamW(
        [{"params": model.early.parameters(), "lr": 2e-2}, {"params": model.late.parameters(), "lr": 1e-3}]
    )
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(pixels)).split(40):
            x, y = pixels[batch] / 16.0, digits[batch]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model.early(x), y) + nn.functional.cross_entropy(model.late(x), y)
            loss.backward()
            optimizer.step()


def main() -> None:
    shipworthy.set_seed(0)
    # Layers so small leave a second thread little but waiting.
    torch.set_num_threads(1)
    pixels, digits = images()
    model = EarlyExit()
    fit(model, torch.from_numpy(pixels[:TRAIN]), torch.from_numpy(digits[:TRAIN]))
    model.eval()
    save_file(model.state_dict(), HERE / "branch.safetensors")
    np.savez(HERE / "validation.npz", image=pixels[TRAIN:], label=digits[TRAIN:])
    x = torch.from_numpy(pixels[TRAIN:])
    with torch.inference_mode():
        right = model(x).argmax(1).numpy() == digits[TRAIN:]
        early = model.early(x / 16.0)
        early_right = early.argmax(1).numpy() == digits[TRAIN:]
        sure = early.softmax(-1).amax(-1).numpy()
    for name, row in (("easy", sure.argmax()), ("hard", sure.argmin())):
        (HERE / f"{name}.json").write_text(json.dumps({"image": pixels[TRAIN + row].tolist()}))
    print(f"{right.mean():.1%} right; {(sure >= SURE).mean():.0%} of the images leave early")
    print(f"the early exit alone would have {early_right.mean():.1%}")


if __name__ == "__main__":
    main()
