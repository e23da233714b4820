"""PNG and JPEG to tensors, in exactly the steps that the contract states.

decode → upright by its EXIF orientation → `mode` → `resize` and `crop` → `scale` → `mean`, `std` → `layout`.

Conversion to `mode` is Pillow's own, so what a notebook got from `Image.open(f).convert(mode)` is what the model gets:
palettes are looked up and alpha is dropped. One thing differs: 16-bit grey keeps its high byte, as Pillow itself does
for 16-bit colour, where its conversion would turn everything above 255 white. Resizing is bilinear with antialiasing.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract import Array, ImageAccept, TensorSpec
from ..contract.accept import CHANNELS
from ..errors import MissingExtra
from .faults import FieldError, brief

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 32_000_000
"""An image with more is refused before it is decoded: a file of a few kilobytes can claim any size."""

_FORMATS = ("PNG", "JPEG")
_DATA_URL = re.compile(r"data:image/(?:png|jpeg);base64,", re.ASCII)


class ImageCodec:
    """Turns encoded images into the array of one input."""

    def __init__(self, name: str, accept: ImageAccept, spec: TensorSpec) -> None:
        self.feeds: tuple[str, ...] = (name,)
        self._accept = accept
        self._values = _values(accept, spec)
        self._first = accept.layout == "CHW"
        channels = len(self._values)
        self._shape = (channels, *accept.size) if self._first else (*accept.size, channels)
        self.nbytes = math.prod(self._shape) * spec.numpy.itemsize
        """Of the array that an image becomes, however small its file is."""

    def takes(self, value: object) -> bool:
        return isinstance(value, str | bytes)

    def encode(self, value: Any) -> dict[str, Array]:
        """From base64, alone or in a data URL, or from the bytes of a file."""
        return {self.feeds[0]: self.decode(value if isinstance(value, bytes) else _from_base64(value))}

    def open(self) -> None:
        """MissingExtra where there is no library that decodes."""
        _pillow()

    def decode(self, data: bytes) -> Array:
        """From the bytes of a PNG or JPEG file to [C, H, W] or [H, W, C]."""
        if not data:
            raise FieldError("the image is empty")
        pixels = np.asarray(self._resize(self._open(data)), dtype=np.uint8)
        planes = pixels.reshape(*pixels.shape[:2], -1)
        found: Array = self.pixels((planes.transpose(2, 0, 1) if self._first else planes)[None])[0]
        return found

    def claimed(self, value: str | bytes) -> int:
        """Pixels that a file says it has, which are all decoded where it is to be resized; 0 where it is none.

        MissingExtra without Pillow."""
        _pillow()
        from PIL import Image

        if self._accept.resize == "exact":
            return 0  # Others than that are refused before they are decoded.
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = value if isinstance(value, bytes) else _from_base64(value)
                width, height = Image.open(io.BytesIO(data), formats=_FORMATS).size
        # Why it is none, whatever was raised, is said by whoever decodes it.
        except Exception:  # noqa: BLE001
            return 0
        return width * height

    def pixels(self, array: Array) -> Array:
        """From uint8 [n, C, H, W] or [n, H, W, C], as `layout` says, to the model's numbers; FieldError for others."""
        if array.dtype != np.uint8 or array.shape[1:] != self._shape:
            expected = ", ".join(map(str, self._shape))
            raise FieldError(f"expected uint8 [batch, {expected}], got {array.dtype} {list(array.shape)}")
        return self._planes(array) if self._first or self._values.shape[0] == 1 else self._colours(array)

    def _planes(self, array: Array) -> Array:
        """Each channel lies by itself: one look-up for each."""
        array = np.ascontiguousarray(array)
        found = np.empty(array.shape, self._values.dtype)
        channels = len(self._values)
        height, width = self._accept.size
        split = (len(array), channels, height * width)
        for pixels, values in zip(array.reshape(split), found.reshape(split), strict=True):
            for channel in range(channels):
                # Every uint8 is an index of the table; "clip" only says that nobody needs to check it.
                np.take(self._values[channel], pixels[channel], out=values[channel], mode="clip")
        return found

    def _colours(self, array: Array) -> Array:
        """Channels last: one look-up in the tables of all channels, one behind the other."""
        width, channels = array.shape[2:]
        # Broadcasting over whole rows of the image is ten times quicker than over the channels of a pixel.
        offsets = np.tile(np.arange(channels, dtype=np.uint16) * 256, width)
        index = array.reshape(-1, width * channels) + offsets
        found = np.empty(array.shape, self._values.dtype)
        np.take(self._values.ravel(), index, out=found.reshape(index.shape), mode="clip")
        return found

    def _open(self, data: bytes) -> Image.Image:
        return _open(data, self._accept.mode, self._accept.size if self._accept.resize == "exact" else None)

    def _resize(self, image: Image.Image) -> Image.Image:
        from PIL import Image

        height, width = self._accept.size
        if image.size == (width, height):
            return image
        if self._accept.resize == "exact":
            raise _wrong_size(image, (height, width))
        if self._accept.resize == "stretch":
            return image.resize((width, height), Image.Resampling.BILINEAR)
        covering = _cover(image.size, (width, height))
        left, top = round((covering[0] - width) / 2), round((covering[1] - height) / 2)
        return image.resize(covering, Image.Resampling.BILINEAR).crop((left, top, left + width, top + height))


def _cover(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The smallest (width, height) of the same proportions that covers `target`; fractions are cut off."""
    (width, height), (to_width, to_height) = size, target
    if to_width * height >= to_height * width:
        covering = (to_width, max(to_height, to_width * height // width))
    else:
        covering = (max(to_width, to_height * width // height), to_height)
    if covering[0] * covering[1] > MAX_PIXELS:
        raise FieldError(f"an image of {width} x {height} pixels is too long and narrow")
    return covering


def _values(accept: ImageAccept, spec: TensorSpec) -> Array:
    """The model's number for every channel and pixel value, [C, 256]: computed in float64 and rounded once."""
    channels = CHANNELS[accept.mode]
    mean, std = np.broadcast_to(accept.mean, channels), np.broadcast_to(accept.std, channels)
    exact = (np.arange(256.0)[:, None] * accept.scale - mean) / std
    return np.ascontiguousarray(exact.astype(spec.numpy).T)


def _from_base64(text: str) -> bytes:
    start = _DATA_URL.match(text)
    try:
        return base64.b64decode(text[start.end() :] if start else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FieldError(f"{brief(text, 20)} is not base64 (RFC 4648, no line breaks) of a PNG or JPEG file") from error


def _pillow() -> None:
    try:
        import PIL.Image
        import PIL.ImageOps  # noqa: F401
    except ImportError as error:
        raise MissingExtra("image input", "PIL", "images") from error


def _open(data: bytes, mode: str, size: tuple[int, int] | None) -> Image.Image:
    """Decode, turn upright, convert. What has not `size` (height, width), whichever way up, is not decoded."""
    _pillow()
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns of large images and of damaged metadata; both are judged here.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            _refuse_huge(image)
            # An orientation may swap the sides. PNG can have it behind the pixels, so it is not asked for here.
            if size is not None and sorted(image.size) != sorted(size):
                raise _wrong_size(image, size)
            return _convert(ImageOps.exif_transpose(image), mode)
    except FieldError:
        raise
    except Image.DecompressionBombError as error:
        raise FieldError(f"the image has more than {MAX_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        raise FieldError("the bytes are no PNG or JPEG image") from error
    # Damaged files make decoders raise nearly anything (OSError, SyntaxError, struct.error, ZeroDivisionError, ...).
    except Exception as error:
        raise FieldError("the image is damaged and cannot be decoded") from error


def _refuse_huge(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise FieldError(f"the image has {image.width} x {image.height} pixels; at most {MAX_PIXELS} are decoded")


def _wrong_size(image: Image.Image, size: tuple[int, int]) -> FieldError:
    height, width = size
    return FieldError(f"expected an image of {width} x {height} pixels, got {image.width} x {image.height}")


def _convert(image: Image.Image, mode: str) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    image.load()
    return image if image.mode == mode else image.convert(mode)
