"""ONNX Runtime: its defaults, and its own static quantization as its documentation recommends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .make_torch import Said, tensors
from .subject import Subject


def plain(subject: Subject, folder: Path, name: str) -> Said:
    write_onnx(subject, folder / "model.onnx")
    return {"size_mb": (folder / "model.onnx").stat().st_size / 1e6, "precision": "fp32"}


def static(subject: Subject, folder: Path, name: str) -> Said:
    """Pre-processing, then QDQ with signed 8-bit activations and weights, a scale per channel.

    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html: QDQ with S8S8 is the first choice."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    float_model, ready, made = folder / "float.onnx", folder / "ready.onnx", folder / "model.onnx"
    write_onnx(subject, float_model)
    if subject.kind in ("bert", "vit"):
        _fuse(subject, float_model)
    # Symbolic shape inference does not know the operations that the fusion brings.
    quant_pre_process(str(float_model), str(ready), skip_symbolic_shape=subject.kind in ("bert", "vit"))
    quantize_static(
        str(ready),
        str(made),
        _Calibration(subject),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    for file in (float_model, ready):
        file.unlink()
    return {"size_mb": made.stat().st_size / 1e6, "precision": "int8"}


def write_onnx(subject: Subject, path: Path) -> None:
    """By the torch.export-based exporter, with a free batch size and the weights inside."""
    batch = torch.export.Dim("batch", min=1, max=max(subject.batches))
    torch.onnx.export(
        subject.module(),
        tensors(subject, 2),
        str(path),
        input_names=list(subject.inputs),
        output_names=["output"],
        dynamic_shapes=tuple({0: batch} for _ in subject.inputs),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _fuse(subject: Subject, path: Path) -> None:
    """ONNX Runtime's transformer optimizer, which its documentation puts before the quantization of transformers."""
    from onnxruntime.transformers import optimizer

    fused = optimizer.optimize_model(str(path), model_type=subject.kind, num_heads=12, hidden_size=768)
    fused.save_model_to_file(str(path))


class _Calibration:
    """What quantize_static reads: feeds of 8 samples, and then None."""

    def __init__(self, subject: Subject) -> None:
        self._feeds = self._batches(subject)

    def _batches(self, subject: Subject) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        rows = subject.rows("calibration")
        for start in range(0, len(next(iter(rows.values()))), 8):
            yield {name: array[start : start + 8] for name, array in rows.items()}

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        return next(self._feeds, None)

    def __iter__(self) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        return self._feeds
