"""A model of the benchmark: its contract, its files, and what a row that knows nothing of Shipworthy is told of it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from .samples import Arrays

HERE = Path(__file__).parent
CONTRACTS = HERE / "contracts"
CACHE = HERE.parent / ".cache" / "optimize"
BATCHES = (1, 4, 8, 16, 32)


@dataclass(frozen=True)
class Input:
    dtype: str
    shape: tuple[int, ...]
    """Of one sample."""


@dataclass(frozen=True)
class Subject:
    """Weights and data stand in `folder` as weights.safetensors and .npz files; `prepare` writes them."""

    name: str
    title: str
    factory: str
    """`module:callable`, found from `root`."""
    inputs: dict[str, Input]
    """In the order of the arguments of forward."""
    folder: Path
    root: Path = CONTRACTS
    contracts: dict[str, str] = field(default_factory=dict)
    """The contract of each row that is built with Shipworthy, a file beside `root`."""
    batches: tuple[int, ...] = BATCHES
    kind: str = "cnn"
    """cnn, bert, vit or mlp: what ONNX Runtime's own optimisers ask for."""
    classes: int | None = None
    """Of a trained model; None where the weights are random, and there is no accuracy."""

    def module(self) -> nn.Module:
        """The model in eval mode, with its weights."""
        from safetensors.torch import load_file

        module = self.bare()
        module.load_state_dict(load_file(self.folder / "weights.safetensors"))
        return module.eval()

    def bare(self) -> nn.Module:
        """The model as its factory gives it."""
        where, _, name = self.factory.partition(":")
        sys.path.insert(0, str(self.root))
        try:
            made: nn.Module = getattr(importlib.import_module(where), name)()
        finally:
            sys.path.remove(str(self.root))
        return made

    def rows(self, split: str, count: int | None = None) -> Arrays:
        """Inputs [n, ...] by name from `calibration`, `validation`, `holdout` or `train`."""
        with np.load(self.folder / f"{split}.npz") as stored:
            return {name: stored[name][:count] for name in self.inputs}

    def labels(self, split: str) -> np.ndarray:
        with np.load(self.folder / f"{split}.npz") as stored:
            found: np.ndarray = stored["label"]
            return found

    def feeds(self, batch: int) -> Arrays:
        """What every row is timed with: the first samples of the calibration data."""
        rows = self.rows("calibration", max(batch, 32))
        return {name: np.ascontiguousarray(array[np.arange(batch) % len(array)]) for name, array in rows.items()}

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self), default=str, indent=1))
        return path


def read_subject(path: Path) -> Subject:
    parts = json.loads(path.read_text())
    inputs: Mapping[str, dict[str, object]] = parts.pop("inputs")
    return Subject(
        inputs={name: Input(str(one["dtype"]), tuple(one["shape"])) for name, one in inputs.items()},  # type: ignore[arg-type]
        folder=Path(parts.pop("folder")),
        root=Path(parts.pop("root")),
        batches=tuple(parts.pop("batches")),
        **parts,
    )


def _picture(name: str, title: str, factory: str, kind: str = "cnn") -> Subject:
    image = {"image": Input("float32", (3, 224, 224))}
    contracts = {"ours": f"{name}.toml"}
    return Subject(name, title, f"nets:{factory}", image, CACHE / name, contracts=contracts, kind=kind)


def _text(name: str, title: str, factory: str) -> Subject:
    inputs = {"input_ids": Input("int64", (128,)), "attention_mask": Input("int64", (128,))}
    contracts = {"ours": f"{name}.toml"}
    return Subject(name, title, f"nets:{factory}", inputs, CACHE / name, contracts=contracts, kind="bert")


SUBJECTS = (
    _picture("resnet50", "ResNet-50, 224 × 224, random weights", "resnet50"),
    _picture("mobilenet-v2", "MobileNetV2, 224 × 224, random weights", "mobilenet_v2"),
    _picture("vit-b16", "ViT-B/16, 224 × 224, random weights", "vit_b16", kind="vit"),
    _text("bert-base", "BERT-base, 128 tokens, random weights", "bert_base"),
    Subject(
        "digits-cnn",
        "CNN trained on digits, 8 × 8",
        "nets:digits_cnn",
        {"image": Input("float32", (1, 8, 8))},
        CACHE / "digits-cnn",
        contracts={"ours": "digits-cnn.toml"},
        classes=10,
    ),
    Subject(
        "residual",
        "Residual net trained on digits, 32 × 32",
        "nets:residual",
        {"image": Input("float32", (1, 32, 32))},
        CACHE / "residual",
        contracts={"ours": "residual.toml", "ours-combined": "residual-combined.toml"},
        classes=10,
    ),
    Subject(
        "tabular",
        "MLP trained on breast cancer records, 30 features",
        "nets:tabular",
        {"features": Input("float32", (30,))},
        CACHE / "tabular",
        contracts={"ours": "tabular.toml"},
        kind="mlp",
        classes=2,
    ),
)

GEMM = Subject(
    "gemm",
    "Four products of matrices, [batch, 2048] × [2048, 2048]",
    "nets:gemm",
    {"x": Input("float32", (2048,))},
    CACHE / "gemm",
    batches=(512, 1024, 2048),
    kind="mlp",
)
"""What the matrix peak of each engine and precision is measured with."""
