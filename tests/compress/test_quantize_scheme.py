"""The layout of integers for a processor, and the arithmetic of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.compress.quantization.onnx_integers import grid_of, integer_bias, integer_weight, least_weight_scale
from shipworthy.compress.quantization.scheme import Scheme, scheme_for
from shipworthy.runtime import Host, this_host


def host(arch: str, *isa: str) -> Host:
    return replace(this_host(), arch=arch, isa=frozenset(isa))


@pytest.mark.parametrize("flag", ["avx512_vnni", "avx_vnni", "amx_int8"])
def test_dot_products_of_x86_take_eight_bits(flag: str) -> None:
    scheme = scheme_for(host("x86-64", "avx2", flag))
    assert (scheme.signed_activations, scheme.symmetric_activations, scheme.narrow_weights) == (False, False, False)
    assert "VNNI" in scheme.reason


@pytest.mark.parametrize("isa", [(), ("avx2",), ("avx2", "avx512f", "avx512bw", "avx512_bf16")])
def test_x86_without_dot_products_gets_seven_bits(isa: tuple[str, ...]) -> None:
    scheme = scheme_for(host("x86-64", *isa))
    assert (scheme.signed_activations, scheme.symmetric_activations, scheme.narrow_weights) == (False, False, True)
    assert "7-bit" in scheme.reason and "saturate" in scheme.reason


@pytest.mark.parametrize("isa", [("asimddp",), ("asimddp", "i8mm", "bf16"), ()])
def test_arm_is_signed_and_symmetric(isa: tuple[str, ...]) -> None:
    scheme = scheme_for(host("aarch64", *isa))
    assert (scheme.signed_activations, scheme.symmetric_activations, scheme.narrow_weights) == (True, True, False)


X86, OLD, ARM = (scheme_for(host(*what)) for what in (("x86-64", "avx_vnni"), ("x86-64",), ("aarch64",)))
NUMBERS = st.floats(-1e6, 1e6, width=32)


@given(NUMBERS, NUMBERS, st.sampled_from([X86, OLD, ARM]))
def test_a_grid_holds_zero_exactly_and_its_range_within_half_a_step(one: float, other: float, scheme: Scheme) -> None:
    low, high = min(one, other, 0.0), max(one, other, 0.0)
    grid = grid_of(min(one, other), max(one, other), scheme)
    limits = np.iinfo(grid.zero_point.dtype)
    assert grid.zero_point.dtype == (np.int8 if scheme.signed_activations else np.uint8)
    step, zero = float(grid.scale), int(grid.zero_point)
    assert limits.min <= zero <= limits.max and step > 0
    for value in (low, 0.0, high):
        rounded = (np.clip(np.rint(value / step) + zero, limits.min, limits.max) - zero) * step
        # The zero point is rounded too, so that an end of the range may lie half a step outside.
        assert abs(rounded - value) <= 0.51 * step + 1e-6 * abs(value)


def test_symmetric_grids_waste_no_half_where_nothing_is_negative() -> None:
    assert int(grid_of(-1.0, 2.0, ARM).zero_point) == 0
    positive = grid_of(0.0, 2.0, ARM)
    assert int(positive.zero_point) == -128
    assert float(positive.scale) == pytest.approx(2 / 255)


def test_weights_have_a_scale_for_each_channel_and_the_range_of_the_scheme() -> None:
    weight = (
        np.random.default_rng(0).standard_normal((6, 5, 3)).astype(np.float32) * np.logspace(-3, 3, 6)[:, None, None]
    )
    weight[2] = 0
    for scheme, top in ((X86, 127), (ARM, 127), (OLD, 63)):
        integers, scale = integer_weight(weight, 0, scheme)
        assert integers.dtype == np.int8 and scale.shape == (6,)
        assert set(np.abs(integers).max(axis=(1, 2)).tolist()) == {top, 0}
        error = np.abs(integers * scale[:, None, None] - weight)
        assert (error <= scale[:, None, None] * 0.501).all()


def test_a_large_bias_widens_the_scale_of_the_weights_until_it_fits() -> None:
    x, bias = grid_of(0.0, 1e-3, X86), np.array([1e4, 1.0], np.float32)
    weight = np.full((2, 4), 1e-3, np.float32)
    _, scale = integer_weight(weight, 0, X86, least_weight_scale(bias, x))
    integers, bias_scale = integer_bias(bias, x, scale)
    np.testing.assert_allclose(integers * bias_scale.astype(np.float64), bias, rtol=1e-6)
    assert np.abs(integers.astype(np.int64)).max() <= 2**30 + 64
