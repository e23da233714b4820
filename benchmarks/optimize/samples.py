"""What the models of the benchmark are fed: pictures and texts like real ones, and real digits and measurements."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Arrays: TypeAlias = dict[str, npt.NDArray[np.generic]]


def pictures(count: int, seed: int = 0) -> Arrays:
    """Normalised pictures [count, 3, 224, 224]: most of the energy in low frequencies, as photographs have it."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(224)[:, None], np.fft.rfftfreq(224)[None])
    # The amplitude of natural pictures falls as 1/f (Field 1987).
    amplitude = 1 / np.maximum(frequency, 1 / 224)
    shared = rng.standard_normal((count, 1, 224, 224))
    noise = 0.8 * shared + 0.6 * rng.standard_normal((count, 3, 224, 224))
    picture = np.fft.irfft2(np.fft.rfft2(noise) * amplitude, s=(224, 224))
    picture /= picture.std(axis=(1, 2, 3), keepdims=True)
    return {"image": picture.astype(np.float32)}


def texts(count: int, tokens: int = 128, seed: int = 0) -> Arrays:
    """Token ids and masks [count, tokens], all tokens used; words follow Zipf's law."""
    rng = np.random.default_rng(seed)
    ids = 999 + rng.zipf(1.2, (count, tokens)) % 29_000
    ids[:, 0], ids[:, -1] = 101, 102
    return {"input_ids": ids.astype(np.int64), "attention_mask": np.ones((count, tokens), np.int64)}


def digits(size: int) -> Arrays:
    """All 1,797 handwritten digits of scikit-learn [n, 1, size, size] of 0..1, up-scaled bilinearly, and labels."""
    import torch
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy((found.images / 16).astype(np.float32))[:, None]
    if size != images.shape[-1]:
        images = torch.nn.functional.interpolate(images, size=(size, size), mode="bilinear")
    return {"image": images.numpy(), "label": found.target.astype(np.int64)}


def measurements() -> Arrays:
    """The 569 records of scikit-learn's breast cancer set [n, 30], and labels."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    return {"features": found.data.astype(np.float32), "label": found.target.astype(np.int64)}


def split(arrays: Arrays, seed: int = 0) -> dict[str, Arrays]:
    """Half of the rows are the holdout; of the rest, three quarters train and one quarter validates.

    Calibration takes training rows, without their labels."""
    count = len(arrays["label"])
    order = np.random.default_rng(seed).permutation(count)
    cuts = [count // 2, count // 2 + count // 8]
    parts = dict(zip(("holdout", "validation", "train"), np.split(order, cuts), strict=True))
    sets = {name: {key: array[rows] for key, array in arrays.items()} for name, rows in parts.items()}
    sets["calibration"] = {key: array[:300] for key, array in sets["train"].items() if key != "label"}
    return sets
