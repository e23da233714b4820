"""BentoML with adaptive batching."""

from pathlib import Path

import bentoml
import numpy as np
from engine import described, from_environment

said = described()
SERVICE = {
    "workers": said["workers"],
    "traffic": {"timeout": 60},
    "logging": {"access": {"enabled": False}},
}
BATCHES = {"batchable": True, "max_batch_size": said["batch"], "max_latency_ms": round(said["timeout_s"] * 1000)}


@bentoml.service(**SERVICE)
class Flowers:
    def __init__(self) -> None:
        self.run, _ = from_environment()

    @bentoml.api(**BATCHES)
    def predict(self, features: np.ndarray) -> np.ndarray:
        return self.run(features.astype(np.float32))


@bentoml.service(**SERVICE)
class Pictures:
    def __init__(self) -> None:
        self.run, _ = from_environment()

    # A file of a form is what BentoML takes of bytes from its clients.
    @bentoml.api(**BATCHES)
    def predict(self, images: list[Path]) -> np.ndarray:
        rows = [np.fromfile(image, said["dtype"]).reshape(said["shape"]) for image in images]
        return self.run(np.stack(rows))
