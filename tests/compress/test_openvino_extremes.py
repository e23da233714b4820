"""Ranges made of observed extremes, against NNCF's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quantize_subjects import FLOATS, IMAGES, WORDS, Attention, Conv, case
from torch import nn

from shipworthy.compress.quantization.calibration import feeds_of
from shipworthy.compress.quantization.openvino import read_base
from shipworthy.compress.quantization.openvino_extremes import observed_extremes, over_channels, widened, wider
from shipworthy.compress.quantization.openvino_graph import QUANTIZER, biases_of, of_weights
from shipworthy.compress.quantization.openvino_ranges import _quantized, decibels, held_back


class _Mixed(nn.Module):
    """Activations with a negative part (GELU), of which ranges have a zero point, and a depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(nn.functional.gelu(self.deep(nn.functional.gelu(self.first(x))))).mean((2, 3))


class _Joined(nn.Module):
    """A concatenation, whose inputs have one range."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(1, 8, 3), nn.Conv2d(1, 8, 3), nn.Conv2d(16, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([torch.relu(self.a(x)), 3 * torch.relu(self.b(x))], 1)
        return self.last(nn.functional.max_pool2d(joined, 2)).flatten(1)


def _ranges(model: Any) -> dict[str, list[np.ndarray[Any, Any]]]:
    return {
        node.get_friendly_name(): [node.input_value(port).get_node().data.ravel() for port in range(1, 5)]
        for node in model.get_ordered_ops()
        if node.get_type_name() == QUANTIZER and not of_weights(node)
    }


@pytest.mark.full
@pytest.mark.parametrize(
    ("net", "inputs", "lengths"),
    [(Conv, IMAGES, (6,)), (_Mixed, IMAGES, (6,)), (_Joined, IMAGES, (6,)), (Attention, WORDS, (4, 9))],
)
def test_widened_ranges_hold_everything_and_are_no_wider_than_nncfs_for_extremes(
    net: type[nn.Module], inputs: dict[str, Any], lengths: tuple[int, ...], tmp_path: Path
) -> None:
    job = case(net(), inputs, tmp_path, lengths=lengths).job
    assert job.calibration is not None
    model, feeds = read_base(job), feeds_of(job.calibration, job.contract)
    mean, theirs = _quantized(model, job, feeds, "mean"), _quantized(model, job, feeds, "extreme")
    seen = observed_extremes(mean, biases_of(model), feeds, threads=1)
    before, ours, expected = _ranges(mean), _ranges(widened(mean, seen)), _ranges(theirs)
    assert ours.keys() == expected.keys() and ours
    assert net is not _Mixed or any(ends[0].size > 1 for ends in expected.values()), "there is a range per channel"
    moved = 0
    for name, (low, high, *_) in expected.items():
        found_low, found_high = ours[name][:2]
        step = (high - low).max() / 255
        least, most = seen[name][:, 0].min(axis=0).ravel(), seen[name][:, 1].max(axis=0).ravel()
        assert (found_low <= least + 1e-3 * step).all() and (found_high >= most - 1e-3 * step).all()
        # A zero point that happens to lie in the middle of the old range is kept there.
        if not np.allclose(before[name][0], before[name][1] * -128 / 127, rtol=1e-5):
            assert (found_high - found_low <= high - low + step).all()
            assert (found_high - found_low >= 0.95 * (high - low) - step).all()
        moved += bool((np.abs(before[name][1] - high) > step).any())
    assert moved > len(expected) / 2, "extremes are other ranges than means"


def test_extremes_are_told_for_each_sample(tmp_path: Path) -> None:
    job = case(nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)), FLOATS, tmp_path).job
    assert job.calibration is not None
    model, feeds = read_base(job), feeds_of(job.calibration, job.contract)
    seen = observed_extremes(_quantized(model, job, feeds), biases_of(model), feeds, threads=1)
    found = [over_channels(ends) for ends in seen.values()]
    assert all(ends.shape == (len(feeds), 2) for ends in found)
    name = next(iter(job.contract.inputs))
    expected = [[feed[name].min(), feed[name].max()] for feed in feeds]
    assert any(np.allclose(ends, expected, rtol=1e-6) for ends in found)


def test_what_is_not_finite_moves_no_range(tmp_path: Path) -> None:
    job = case(nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)), FLOATS, tmp_path).job
    assert job.calibration is not None
    model, feeds = read_base(job), feeds_of(job.calibration, job.contract)
    mean = _quantized(model, job, feeds)
    seen = observed_extremes(mean, biases_of(model), feeds, threads=1)
    broken = {name: np.concatenate([ends, np.full_like(ends[:1], np.inf)]) for name, ends in seen.items()}
    for name, values in _ranges(widened(mean, broken)).items():
        for got, want in zip(values, _ranges(widened(mean, seen))[name], strict=True):
            np.testing.assert_array_equal(got, want)
    never = {name: np.full_like(ends, np.nan) for name, ends in seen.items()}
    for name, values in _ranges(widened(mean, never)).items():
        for got, want in zip(values, _ranges(mean)[name], strict=True):
            np.testing.assert_array_equal(got, want)


SIGNED, ASYMMETRIC = (-128.0, 127.0), (-10.0, 245.0)


@pytest.mark.parametrize(
    ("old", "seen", "expected"),
    [
        pytest.param(SIGNED, (-100.0, 254.0), (-256.0, 254.0), id="symmetric by the positive end"),
        pytest.param(SIGNED, (-254.0, 100.0), (-256.0, 254.0), id="symmetric by the negative end"),
        pytest.param((0.0, 255.0), (0.0, 510.0), (0.0, 510.0), id="from zero"),
        pytest.param((0.0, 255.0), (3.0, 510.0), (0.0, 510.0), id="from zero though nothing is so small"),
        pytest.param(ASYMMETRIC, (-20.0, 490.0), (-20.0, 490.0), id="zero is on the grid"),
        pytest.param(ASYMMETRIC, (-5.0, 100.0), ASYMMETRIC, id="narrower than it was"),
        pytest.param(ASYMMETRIC, (-20.0, 100.0), (-20.283019, 100.0), id="one end out, the other in"),
        pytest.param((-1.0, 9.2), (-1.01, 9.1), (-1.033188, 9.1), id="wider at one end only"),
        pytest.param(ASYMMETRIC, (0.0, 0.0), ASYMMETRIC, id="nothing but zeros"),
        pytest.param((-510.0, 0.0), (-1020.0, -1.0), (-1020.0, 0.0), id="up to zero"),
    ],
)
def test_a_range_stays_of_its_kind(
    old: tuple[float, float], seen: tuple[float, float], expected: tuple[float, float]
) -> None:
    found = wider(*map(np.float32, old), *map(np.float32, seen), 256)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_any_range_holds_what_was_seen_and_has_zero_on_its_grid() -> None:
    random = np.random.default_rng(0)
    least, most = -random.exponential(1.0, 1000), random.exponential(1.0, 1000)
    low, high = wider(np.full(1000, -1e-6), np.full(1000, 3e-6), least, most, 256)
    assert (low <= least + 1e-9).all() and (high >= most - 1e-9).all()
    zero = -low / (high - low) * 255
    np.testing.assert_allclose(zero, np.rint(zero), atol=1e-6)
    assert ((high - low) <= (most - least) * 1.01 + 1e-9).all(), "and is hardly wider than it has to be"


def test_channels_are_widened_each_by_itself() -> None:
    low, high = wider(np.zeros((1, 3)), np.ones((1, 3)), np.zeros((1, 3)), np.array([[0.5, 1.0, 4.0]]), 256)
    np.testing.assert_allclose(high, [[1.0, 1.0, 4.0]])
    np.testing.assert_allclose(low, 0)


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (31, 31), (32, 24), (300, 292)])
def test_samples_are_held_back_where_there_are_enough(count: int, kept: int) -> None:
    feeds = [{"x": np.array(row)} for row in range(count)]
    fitted, judged = held_back(feeds)
    assert len(fitted) == kept and len(judged) == min(8, count)
    apart = {int(feed["x"]) for feed in fitted}.isdisjoint(int(feed["x"]) for feed in judged)
    assert apart == (kept < count)
    if kept < count:
        assert fitted[0] is feeds[0] and fitted[-1] is feeds[-1], "the ends of an order by size calibrate"
    assert len(held_back(feeds, every=True)[0]) == count


def test_what_is_masked_has_no_say_in_the_noise_and_what_breaks_loses() -> None:
    wanted = [[np.array([1.0, -np.inf, 2.0], np.float32)]]
    near, broken = np.array([1.1, -np.inf, 2.0], np.float32), np.array([1.0, -np.inf, -np.inf], np.float32)
    assert 20 < decibels(wanted, [[near]]) < 30
    assert decibels(wanted, [[broken]]) == -np.inf
    assert decibels(wanted, wanted) == np.inf
