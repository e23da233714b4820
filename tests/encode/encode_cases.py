"""Contracts with one way each of sending inputs, and encoded images to send."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shipworthy.contract import Contract


def contract(inputs: dict[str, Any], encode: dict[str, Any] | None = None, root: Path = Path()) -> Contract:
    return Contract.model_validate({"name": "m", "inputs": inputs, "encode": encode or {}, "root": root})


def image_contract(shape: tuple[Any, ...] = ("batch", 3, 4, 6), dtype: str = "float32", **accept: Any) -> Contract:
    given = {"kind": "image", "size": (4, 6), **accept}
    return contract({"image": {"dtype": dtype, "shape": shape, "accept": given}})


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
