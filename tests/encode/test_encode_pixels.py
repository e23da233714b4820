"""Decoded pixels: the numbers of a PNG with the same pixels, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from encode_cases import contract, encoded, image_contract
from hypothesis import given, settings
from hypothesis import strategies as st

from shipworthy.encode import Codec
from shipworthy.errors import ContractError, InputError

CHANNELS = {"L": 1, "RGB": 3}
SCALES = st.floats(0.05, 2)


@st.composite
def accepts(draw: st.DrawFn) -> dict[str, Any]:
    mode = draw(st.sampled_from(["L", "RGB"]))
    counts = st.sampled_from(sorted({1, CHANNELS[mode]}))
    accept = {
        "mode": mode,
        "layout": draw(st.sampled_from(["CHW", "HWC"])),
        "size": draw(st.tuples(st.integers(1, 9), st.integers(1, 9))),
        "scale": draw(st.one_of(st.sampled_from([1.0, 1 / 255]), SCALES)),
    }
    for name, values in (("mean", st.floats(-2, 2)), ("std", SCALES)):
        count = draw(counts)
        accept[name] = tuple(draw(st.lists(values, min_size=count, max_size=count)))
    return accept


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@settings(max_examples=60)
@given(accept=accepts(), rows=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_as_from_a_file(dtype: str, accept: dict[str, Any], rows: int, seed: int) -> None:
    channels = CHANNELS[accept["mode"]]
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, *accept["size"], channels), dtype=np.uint8)
    first = accept["layout"] == "CHW"
    given_pixels = pixels.transpose(0, 3, 1, 2) if first else pixels
    codec = Codec(image_contract(("batch", *given_pixels.shape[1:]), dtype, **accept))
    files = [encoded(image[..., 0] if channels == 1 else image) for image in pixels]
    expected = np.stack([codec.image("image", file) for file in files])
    for array in (given_pixels, np.ascontiguousarray(given_pixels)):
        found = codec.pixels("image", array)
        assert found.dtype == np.dtype(dtype) and found.flags.c_contiguous
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("layout", "shape"), [("CHW", ("batch", 3, 16, 16)), ("HWC", ("batch", 16, 16, 3))])
def test_every_value_of_every_channel(layout: str, shape: tuple[Any, ...]) -> None:
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    codec = Codec(image_contract(shape, size=(16, 16), layout=layout, mean=tuple(mean), std=tuple(std)))
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    planes = np.stack([values, values.T, values[::-1]], axis=0 if layout == "CHW" else -1)
    exact = ((np.moveaxis(planes, 0, -1) if layout == "CHW" else planes) / 255.0 - mean) / std
    expected = np.moveaxis(exact, -1, 0) if layout == "CHW" else exact
    np.testing.assert_allclose(codec.pixels("image", planes[None])[0], expected, rtol=0, atol=1e-6)


def test_pixels_are_left_alone() -> None:
    codec = Codec(image_contract(scale=1))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 6), dtype=np.uint8)
    pixels.flags.writeable = False
    np.testing.assert_array_equal(codec.pixels("image", pixels), pixels)
    assert codec.pixels("image", pixels[:0]).shape == (0, 3, 4, 6)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((1, 4, 6, 3), np.uint8),
        np.zeros((3, 4, 6), np.uint8),
        np.zeros((1, 3, 4, 7), np.uint8),
        np.zeros((1, 3, 4, 6), np.int8),
        np.zeros((1, 3, 4, 6), np.float32),
        np.uint8(3),
    ],
)
def test_other_arrays_are_refused(array: Any) -> None:
    with pytest.raises(InputError, match=r"expected uint8 \[batch, 3, 4, 6\], got ") as caught:
        Codec(image_contract()).pixels("image", np.asarray(array))
    assert caught.value.problems[0].field == "image"


def test_which_inputs_take_pixels() -> None:
    codec = Codec(image_contract())
    assert codec.pixel_inputs == ("image",)
    with pytest.raises(ContractError, match=r"inputs\.other\.accept: is not given"):
        codec.pixels("other", np.zeros((1, 3, 4, 6), np.uint8))
    assert Codec(image_contract(dtype="uint8", scale=1)).pixel_inputs == ()
    assert Codec(contract({"x": {"dtype": "float32", "shape": ("batch", 3)}})).pixel_inputs == ()
