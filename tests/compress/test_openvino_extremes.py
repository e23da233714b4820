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
from shipworthy.compress.quantization.openvino_extremes import observed_extremes, whole_tensor, widened
from shipworthy.compress.quantization.openvino_graph import QUANTIZER, biases_of, of_weights
from shipworthy.compress.quantization.openvino_ranges import _quantized


class _Mixed(nn.Module):
    """Activations with a negative part (GELU), of which ranges have a zero point, and a depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(nn.functional.gelu(self.deep(nn.functional.gelu(self.first(x))))).mean((2, 3))


def _ranges(model: Any) -> dict[str, list[np.ndarray[Any, Any]]]:
    return {
        node.get_friendly_name(): [node.input_value(port).get_node().data.ravel() for port in range(1, 5)]
        for node in model.get_ordered_ops()
        if node.get_type_name() == QUANTIZER and not of_weights(node)
    }


@pytest.mark.parametrize(
    ("net", "inputs", "lengths"), [(Conv, IMAGES, (6,)), (_Mixed, IMAGES, (6,)), (Attention, WORDS, (4, 9))]
)
def test_widened_ranges_are_those_that_nncf_finds_for_extremes(
    net: type[nn.Module], inputs: dict[str, Any], lengths: tuple[int, ...], tmp_path: Path
) -> None:
    job = case(net(), inputs, tmp_path, lengths=lengths).job
    assert job.calibration is not None
    model, feeds = read_base(job), feeds_of(job.calibration, job.contract)
    mean, theirs = _quantized(model, job, feeds, "mean"), _quantized(model, job, feeds, "extreme")
    seen = observed_extremes(mean, biases_of(model), feeds, threads=1)
    before, ours, expected = _ranges(mean), _ranges(widened(mean.clone(), seen)), _ranges(theirs)
    assert ours.keys() == expected.keys() and ours
    moved = 0
    for name, wanted in expected.items():
        step = (wanted[1] - wanted[0]).max() / 255
        for got, want in zip(ours[name], wanted, strict=True):
            # A zero point that happens to lie in the middle is kept there, which costs a step or two.
            np.testing.assert_allclose(got, want, atol=2 * step)
        moved += any(np.abs(a - b).max() > step for a, b in zip(before[name], wanted, strict=True))
    assert moved > len(expected) / 2, "extremes are other ranges than means"


def test_extremes_are_told_for_each_sample(tmp_path: Path) -> None:
    job = case(nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)), FLOATS, tmp_path).job
    assert job.calibration is not None
    model, feeds = read_base(job), feeds_of(job.calibration, job.contract)
    seen = observed_extremes(_quantized(model, job, feeds), biases_of(model), feeds, threads=1)
    found = [whole_tensor(ends) for ends in seen.values()]
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
    for name, values in _ranges(widened(mean.clone(), broken)).items():
        for got, want in zip(values, _ranges(widened(mean.clone(), seen))[name], strict=True):
            np.testing.assert_array_equal(got, want)
    never = {name: np.full_like(ends, np.nan) for name, ends in seen.items()}
    for name, values in _ranges(widened(mean.clone(), never)).items():
        for got, want in zip(values, _ranges(mean)[name], strict=True):
            np.testing.assert_array_equal(got, want)
