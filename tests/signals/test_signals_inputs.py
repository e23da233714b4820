"""Signals of inputs: columns of records, images of any size, faults."""

from __future__ import annotations

import numpy as np
import pytest
from signal_cases import batch, column, contract, names

from shipworthy.signals import Signals, fit
from shipworthy.signals.elements import MOST_ELEMENTS, pooled, thinned

Y = {"y": np.zeros((4, 3), np.float32)}


def test_a_record_has_its_columns_by_name() -> None:
    what = contract(encode={"flower": {"kind": "record", "fields": ["width", "height", "a", "b"]}})
    feeds = {"x": np.arange(16, dtype=np.float32).reshape(4, 4)}
    signals = Signals(what, fit(what, [(feeds, Y)]))
    assert [signal.name for signal in signals.signals if signal.about == "inputs" and signal.scored] == [
        "flower.width",
        "flower.height",
        "flower.a",
        "flower.b",
        "flower.distance",
    ]
    assert column(signals, feeds, Y, "flower.height").tolist() == [1, 5, 9, 13]


def test_columns_without_names_have_numbers_up_to_64() -> None:
    assert "x.63" in names(Signals(contract(inputs={"x": ["batch", 64]}), {}))
    assert names(Signals(contract(inputs={"x": ["batch", 65]}), {}))[-4:-2] == ["x.mean", "x.sd"]
    fields = [f"f{place}" for place in range(65)]
    wide = contract(inputs={"x": ["batch", 65]}, encode={"r": {"kind": "record", "fields": fields}})
    assert "r.f64" in names(Signals(wide, {}), scored=False)


def test_booleans_are_shares_and_integers_numbers() -> None:
    what = contract(inputs={"flags": ["bool", "batch", 2], "age": ["int64", "batch"]})
    kinds = {signal.name: signal.kind for signal in Signals(what, {}).signals}
    assert (kinds["flags.0"], kinds["age"]) == ("share", "number")


def test_an_image_has_brightness_contrast_and_distance() -> None:
    what = contract(inputs={"image": ["batch", 3, 6, 6]})
    images = np.random.default_rng(0).random((200, 3, 6, 6)).astype(np.float32)
    outputs = {"y": np.zeros((200, 3), np.float32)}
    constants = fit(what, [({"image": images}, outputs)])
    signals = Signals(what, constants)
    titles = {signal.name: signal.title for signal in signals.signals}
    assert titles["image.mean"] == "brightness of image"
    flat = images.reshape(200, -1).astype(float)
    np.testing.assert_allclose(column(signals, {"image": images}, outputs, "image.mean"), flat.mean(1))
    np.testing.assert_allclose(column(signals, {"image": images}, outputs, "image.sd"), flat.std(1))
    scale = flat.var(0) + 0.05**2 * flat.var()
    expected = (np.square(flat - flat.mean(0)) / scale).mean(1)
    np.testing.assert_allclose(column(signals, {"image": images}, outputs, "image.distance"), expected)


def test_the_distance_of_images_of_any_size_is_that_of_their_channels() -> None:
    what = contract(inputs={"image": ["batch", 3, "height", "width"]})
    random = np.random.default_rng(0)
    outputs = {"y": np.zeros((8, 3), np.float32)}
    chunks = [({"image": random.random((8, 3, size, 9)).astype(np.float32)}, outputs) for size in (4, 7, 12)]
    constants = fit(what, chunks)
    assert constants["inputs/image/mean"].shape == (3,)
    signals = Signals(what, constants)
    same = signals.of(*chunks[2])
    assert np.isfinite(same).all()
    assert column(signals, *chunks[1], "image.size").tolist() == [63] * 8
    tinted = {"image": chunks[2][0]["image"] * np.array([1, 1, 0.2], np.float32)[:, None, None]}
    assert column(signals, tinted, outputs, "image.distance").min() > 3


@pytest.mark.parametrize("shape", [(3, 64, 64), (4, 1024), (1, 100, 100, 4), (2048, 2)])
def test_large_rows_are_thinned_evenly(shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape))
    places = thinned(np.arange(size).reshape(1, *shape))[0].astype(int)
    assert MOST_ELEMENTS / 3 < len(places) <= MOST_ELEMENTS
    # Every column of the last axis, and every channel of the first one, has its part.
    assert len(set(places % shape[-1])) == min(shape[-1], len(places))
    assert len(set(places // (size // shape[0]))) == min(shape[0], len(places))


def test_of_large_images_of_any_size_a_part_is_looked_at() -> None:
    spec = contract(inputs={"image": ["batch", 3, "height", "width"]}).inputs["image"]
    ramp = np.broadcast_to(np.linspace(0, 1, 300)[:, None], (300, 200))
    image = np.stack([ramp, 2 * ramp, 3 * ramp])[None]
    np.testing.assert_allclose(pooled(image, spec)[0], [0.5, 1.0, 1.5], atol=0.02)
    np.testing.assert_allclose(pooled(image[:, :, :20, :30], spec)[0], image[0, :, :20, :30].mean((1, 2)))


def test_faults_are_seen_and_count_as_missing() -> None:
    what = contract()
    seen = {"x": np.random.default_rng(0).random((100, 4)).astype(np.float32)}
    signals = Signals(what, fit(what, [(seen, Y)]))
    feeds = {"x": np.array([[0.5] * 4, [np.nan, 0, 0, 0], [0, np.inf, 0, 0], [0, 0, 0, 1.6]], np.float32)}
    assert column(signals, feeds, Y, "x.missing").tolist() == [0, 1, 0, 0]
    assert column(signals, feeds, Y, "x.infinite").tolist() == [0, 0, 1, 0]
    assert column(signals, feeds, Y, "x.outside").tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(column(signals, feeds, Y, "x.0"), [0.5, np.nan, 0, 0])
    assert np.isnan(column(signals, feeds, Y, "x.distance")).tolist() == [False, True, True, False]


def test_little_more_than_the_range_is_still_within() -> None:
    what = contract()
    signals = Signals(what, fit(what, [({"x": np.array([[0.0] * 4, [1.0] * 4], np.float32)}, Y)]))
    feeds = {"x": np.array([[1.2] * 4, [1.3] * 4, [-0.2] * 4, [-0.3] * 4], np.float32)}
    assert column(signals, feeds, Y, "x.outside").tolist() == [0, 1, 0, 1]


def test_a_column_that_never_varied_adds_nothing_to_the_distance_and_is_seen_when_it_does() -> None:
    what = contract()
    seen = np.random.default_rng(0).random((50, 4)).astype(np.float32)
    seen[:, 2] = 7
    signals = Signals(what, fit(what, [({"x": seen}, Y)]))
    feeds = {"x": np.array([[0.5, 0.5, 7, 0.5], [0.5, 0.5, 8, 0.5]] * 2, np.float32)}
    distances = column(signals, feeds, Y, "x.distance")
    assert distances[0] == distances[1]
    assert column(signals, feeds, Y, "x.outside").tolist() == [0, 1, 0, 1]


def test_nothing_but_missing_values_fits_nothing() -> None:
    what = contract()
    nothing = {"x": np.full((4, 4), np.nan, np.float32)}
    signals = Signals(what, fit(what, [(nothing, Y)]))
    feeds = {"x": np.zeros((4, 4), np.float32)}
    assert column(signals, feeds, Y, "x.outside").tolist() == [0] * 4
    assert np.isfinite(signals.of(feeds, Y)).all()


def test_without_calibration_data_what_needs_it_is_left_out() -> None:
    what = contract(inputs={"image": ["batch", 1, 8, 8]})
    assert fit(what, []) == {}
    found = [signal.name for signal in Signals(what, {}).signals if signal.about == "inputs"]
    assert found == ["image.mean", "image.sd", "image.missing", "image.infinite"]


def test_small_integers_and_half_floats_are_numbers() -> None:
    what = contract(inputs={"pixels": ["uint8", "batch", 1, 8, 8], "half": ["float16", "batch", 70]})
    feeds = batch(what.signature.inputs, 9, np.random.default_rng(0))
    feeds["half"][:] = 60000
    outputs = {"y": np.zeros((9, 3), np.float32)}
    signals = Signals(what, fit(what, [(feeds, outputs)]))
    assert column(signals, feeds, outputs, "half.mean").tolist() == [float(np.float16(60000))] * 9
    assert np.isfinite(signals.of(feeds, outputs)).all()
