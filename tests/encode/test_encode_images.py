"""Images: every step that the contract can state, and everything that a file can have wrong."""

from __future__ import annotations

import base64
import builtins
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from encode_cases import encoded, image_contract
from PIL import Image, ImageFile

from shipworthy.encode import MAX_PIXELS, Codec
from shipworthy.errors import ContractError, InputError, MissingExtra


def reason(codec: Codec, data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        codec.image("image", data)
    return caught.value.problems[0].reason


def test_values_are_scaled_and_normalised_per_channel(colours: np.ndarray) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    array = Codec(image_contract(mean=mean, std=std)).image("image", encoded(colours))
    expected = ((colours / 255.0 - mean) / std).transpose(2, 0, 1).astype(np.float32)
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    np.testing.assert_allclose(array, expected, rtol=0, atol=1e-6)


def test_default_scale_equals_division_by_255() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    codec = Codec(image_contract(("batch", 1, 16, 16), size=(16, 16), mode="L"))
    np.testing.assert_array_max_ulp(
        codec.image("image", encoded(grey))[0], grey.astype(np.float32) / np.float32(255), 1
    )


def test_layouts(colours: np.ndarray) -> None:
    first = Codec(image_contract(scale=1)).image("image", encoded(colours))
    last = Codec(image_contract(("batch", 4, 6, 3), scale=1, layout="HWC")).image("image", encoded(colours))
    np.testing.assert_array_equal(first, colours.transpose(2, 0, 1))
    np.testing.assert_array_equal(last, colours)


def test_integer_input_takes_pixels_as_they_are(colours: np.ndarray) -> None:
    array = Codec(image_contract(dtype="uint8", scale=1)).image("image", encoded(colours))
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, colours.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("target", ["L", "RGB"])
def test_png_modes_convert_as_pillow_does(mode: str, target: str, colours: np.ndarray) -> None:
    image = Image.fromarray(colours).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(128)
    options = {"transparency": 0} if mode == "P" else {}
    data = encoded(image, **options)
    shape = ("batch", 1 if target == "L" else 3, 4, 6)
    array = Codec(image_contract(shape, mode=target, scale=1)).image("image", data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert(target)).reshape(4, 6, -1).transpose(2, 0, 1)
    np.testing.assert_array_equal(array, expected)


def test_cmyk_jpeg(colours: np.ndarray) -> None:
    data = encoded(Image.fromarray(colours).convert("CMYK"), "JPEG", quality=100)
    assert Codec(image_contract()).image("image", data).shape == (3, 4, 6)


def test_sixteen_bit_grey_keeps_the_high_byte() -> None:
    deep = (np.arange(24, dtype=np.uint16) * 2730).reshape(4, 6)
    array = Codec(image_contract(("batch", 1, 4, 6), mode="L", scale=1)).image("image", encoded(deep))
    np.testing.assert_array_equal(array[0], deep >> 8)


def test_exif_orientation_is_applied(colours: np.ndarray) -> None:
    turned = Image.fromarray(colours).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise to stand upright
    array = Codec(image_contract(scale=1, resize="exact")).image("image", encoded(turned, exif=exif))
    np.testing.assert_array_equal(array, colours.transpose(2, 0, 1))


def test_stretch_is_pillows_bilinear() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (31, 17, 3), dtype=np.uint8)
    array = Codec(image_contract(scale=1)).image("image", encoded(pixels))
    expected = np.asarray(Image.fromarray(pixels).resize((6, 4), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("size", [(31, 17), (17, 31), (100, 8), (4, 100), (5, 7)])
def test_shorter_covers_and_cuts_the_middle(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    codec = Codec(image_contract(("batch", 3, 4, 4), size=(4, 4), scale=1, resize="shorter", crop="center"))
    height, width = (4, 4 * size[1] // size[0]) if size[0] <= size[1] else (4 * size[0] // size[1], 4)
    whole = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    top, left = round((height - 4) / 2), round((width - 4) / 2)
    expected = np.asarray(whole)[top : top + 4, left : left + 4].transpose(2, 0, 1)
    np.testing.assert_array_equal(codec.image("image", encoded(pixels)), expected)


def test_shorter_refuses_what_would_grow_without_bound() -> None:
    codec = Codec(image_contract(("batch", 3, 224, 224), size=(224, 224), resize="shorter", crop="center"))
    assert "too long and narrow" in reason(codec, encoded(Image.new("L", (1, 60_000))))


def test_exact_refuses_another_size(colours: np.ndarray) -> None:
    codec = Codec(image_contract(resize="exact"))
    assert codec.image("image", encoded(colours)).shape == (3, 4, 6)
    assert reason(codec, encoded(colours[:, :5])) == "expected an image of 6 x 4 pixels, got 5 x 4"


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8_000, 12_000, 40_000, 2**31 - 1])
def test_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    assert str(MAX_PIXELS) in reason(Codec(image_contract()), png_that_claims(side, side))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_file_is_refused_whatever_is_wrong(kind: str, colours: np.ndarray) -> None:
    codec = Codec(image_contract())
    whole = encoded(np.kron(colours, np.ones((9, 9, 1), np.uint8)), kind)
    random = np.random.default_rng(11)
    assert "damaged" in reason(codec, whole[: len(whole) // 2])
    outcomes = set()
    for _ in range(300):
        broken = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            broken[place] = random.integers(0, 256)
        try:
            outcomes.add(codec.image("image", bytes(broken)).shape)
        except InputError as error:
            outcomes.add(error.problems[0].reason.split(",")[0])
    assert len(outcomes) > 1


def test_other_formats_and_empty_bytes_are_refused(colours: np.ndarray) -> None:
    codec = Codec(image_contract())
    assert reason(codec, encoded(colours, "GIF")) == "the bytes are no PNG or JPEG image"
    assert reason(codec, encoded(colours, "TIFF")) == "the bytes are no PNG or JPEG image"
    assert reason(codec, b"") == "the image is empty"


def test_base64_and_data_url_and_bytes_are_the_same(colours: np.ndarray) -> None:
    codec = Codec(image_contract())
    data = encoded(colours)
    text = base64.b64encode(data).decode()
    expected = codec.image("image", data)
    for value in (data, text, "data:image/png;base64," + text):
        np.testing.assert_array_equal(codec.instance({"image": value})["image"], expected)


@pytest.mark.parametrize(
    "text", ["not base64!", "aGVsbG8", "aGVs\nbG8=", "é", "\ud800", "data:text/plain;base64,aGVsbG8="]
)
def test_text_that_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not base64"):
        Codec(image_contract()).instance({"image": text})


def test_tensor_may_be_sent_instead_of_an_image(colours: np.ndarray) -> None:
    nested = colours.transpose(2, 0, 1).tolist()
    np.testing.assert_array_equal(Codec(image_contract()).instance({"image": nested})["image"], nested)


def test_bare_image_needs_a_model_with_one_input() -> None:
    assert Codec(image_contract()).accepts_image == "image"
    two = image_contract().model_dump()
    two["inputs"]["size"] = {"dtype": "float32", "shape": ("batch", 2)}
    assert Codec(type(image_contract()).model_validate(two)).accepts_image is None


def test_input_that_accepts_no_image(colours: np.ndarray) -> None:
    with pytest.raises(ContractError, match="accept"):
        Codec(image_contract()).image("other", encoded(colours))


def test_missing_pillow_is_named_at_use(colours: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    data, real = encoded(colours), builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "PIL":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra, match=r"shipworthy\[images\]"):
        Codec(image_contract()).image("image", data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exact_refuses_another_size_before_it_decodes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image))
    file = io.BytesIO()
    Image.new("RGB", (2000, 1500)).save(file, kind)
    decoded.clear()
    assert reason(Codec(image_contract(resize="exact")), file.getvalue()).endswith("got 2000 x 1500")
    assert decoded == []


def test_exact_refuses_the_size_that_an_orientation_swaps(colours: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = reason(Codec(image_contract(resize="exact")), encoded(colours, exif=exif))
    height, width = colours.shape[:2]
    assert turned == f"expected an image of {width} x {height} pixels, got {height} x {width}"
