"""Samples that were kept, as small pictures or as values."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...contract import Array
from ..samples import Sample
from ..telling import number
from ..view import View
from .words import moment

MOST = 12
_SHOWN = 8
"""Values of a row that are written."""
_PIXELS = 96
"""Larger pictures are thinned, so that the page stays small."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One sample on the page."""

    id: str
    at: str
    pictures: tuple[str, ...]
    """As data: URLs."""
    values: tuple[tuple[str, str], ...]
    answer: str


def chosen(view: View, samples: Iterable[Sample]) -> list[Shown]:
    """Those that the alarms name first, then those that show drift most."""
    kept = {sample.id: sample for sample in samples}
    named = [kept[name] for alarm in view.alarms for name in alarm.samples if name in kept]
    ranked = sorted(kept.values(), key=lambda one: -one.priority)
    others = [one for reason in ("drift", "unusual") for one in ranked if one.reason == reason]
    first = {sample.id: sample for sample in (*named, *others)}
    return [_shown(view, sample) for sample in list(first.values())[:MOST]]


def png(pixels: Array) -> bytes:
    """uint8 [height, width] or [height, width, 3] as PNG (ISO/IEC 15948), every row without a filter."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + pixels[row].tobytes() for row in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pixels(array: Array) -> Array | None:
    """What can be seen of an input: uint8, from the least value (black) to the largest (white); None for no picture.

    Takes [height, width], [1 or 3, height, width] and [height, width, 1 or 3], of 4 pixels at least each way."""
    values = np.asarray(array)
    if values.dtype.kind not in "fiu" or values.ndim not in (2, 3):
        return None
    if values.ndim == 3 and values.shape[0] in (1, 3):
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if min(values.shape[:2]) < 4 or (values.ndim == 3 and values.shape[-1] != 3):
        return None
    step = max(1, max(values.shape[:2]) // _PIXELS)
    values = np.nan_to_num(values[::step, ::step].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    return np.round((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)


def _shown(view: View, sample: Sample) -> Shown:
    pictures, values = [], []
    for name, array in sample.feeds.items():
        seen = pixels(array)
        if seen is None:
            values.append((name, _written(array)))
        else:
            pictures.append("data:image/png;base64," + base64.b64encode(png(seen)).decode())
    return Shown(sample.id, moment(view, sample.at), tuple(pictures), tuple(values), _answer(view, sample))


def _written(array: Array) -> str:
    flat = np.asarray(array).ravel()
    words = [number(float(value)) if flat.dtype.kind in "fiub" else str(value)[:40] for value in flat[:_SHOWN]]
    return ", ".join(words) + (f" … ({flat.size} values)" if flat.size > _SHOWN else "")


def _answer(view: View, sample: Sample) -> str:
    """The class and the confidence where there are such signals, else the first output."""
    places = {signal.name: place for place, signal in enumerate(view.signals)}
    told: list[str] = []
    if (place := places.get("class")) is not None and np.isfinite(sample.values[place]):
        index = int(sample.values[place])
        names: Sequence[str] = view.signals[place].classes
        told.append(names[index] if 0 <= index < len(names) else str(index))
    if (place := places.get("confidence")) is not None and np.isfinite(sample.values[place]):
        told.append(f"confidence {sample.values[place]:.2f}")
    if told:
        return ", ".join(told)
    return next((f"{name}: {_written(array)}" for name, array in sample.outputs.items()), "")
