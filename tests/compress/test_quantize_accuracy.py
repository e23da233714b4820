"""The least operations in float that keep the metric within its limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantize_subjects import IMAGES, with_outliers

from shipworthy.compress import AccuracyAware, Static
from shipworthy.compress.quantization.accuracy import GIVE_BACK, keep_fewest, ranked
from shipworthy.compress.quantization.verb import quantize
from shipworthy.contract import Contract
from shipworthy.errors import CompressError

pytestmark = pytest.mark.usefixtures("single_threaded")

HARMS = st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=40)


def _additive(harms: list[float]) -> tuple[list[str], Callable[[Collection[str]], float]]:
    """Operations of which each costs its own drop, the worst first."""
    costs = {f"op{place}": harm for place, harm in enumerate(sorted(harms, reverse=True))}
    return list(costs), lambda kept: sum(cost for name, cost in costs.items() if name not in kept)


@given(HARMS, st.floats(0, 5, allow_nan=False))
def test_with_drops_that_add_up_the_number_in_float_is_the_least(harms: list[float], limit: float) -> None:
    names, drop_of = _additive(harms)
    found = keep_fewest(names, drop_of, limit)
    least = next(count for count in range(len(names) + 1) if drop_of(names[:count]) <= limit)
    assert len(found.names) == least
    assert found.drop == drop_of(found.names) <= limit
    assert len(found.trials) <= 2 + math.ceil(math.log2(len(names))) + GIVE_BACK


@given(st.integers(1, 24), st.integers(0, 2**32 - 1), st.floats(0, 1, allow_nan=False))
def test_whatever_the_drops_are_the_result_was_judged_to_be_within_the_limit(
    count: int, seed: int, limit: float
) -> None:
    import random

    names = [f"op{place}" for place in range(count)]
    seen: dict[frozenset[str], float] = {}

    def drop_of(kept: Collection[str]) -> float:
        key = frozenset(kept)
        assert key not in seen, "no set is evaluated twice"
        seen[key] = 0.0 if len(key) == count else random.Random(f"{seed}{sorted(key)}").random()
        return seen[key]

    found = keep_fewest(names, drop_of, limit)
    assert seen[found.names] <= limit
    assert len(seen) <= 2 + math.ceil(math.log2(count)) + GIVE_BACK if count > 1 else len(seen) <= 2


def test_operations_that_were_ranked_too_low_are_given_back() -> None:
    names = [f"op{place}" for place in range(8)]
    found = keep_fewest(names, lambda kept: 0.0 if "op5" in kept else 1.0, 0.5)
    assert found.names == {"op5"}


def test_a_limit_that_even_float_misses_is_refused() -> None:
    with pytest.raises(CompressError, match=r"every operation in float the metric still drops by 0\.3"):
        keep_fewest(["a", "b"], lambda kept: 0.3, 0.1)


def test_a_drop_that_is_no_number_is_within_no_limit() -> None:
    found = keep_fewest(["a", "b"], lambda kept: 0.0 if "a" in kept else math.nan, 0.1)
    assert found.names == {"a"}


def test_what_was_not_measured_comes_last() -> None:
    assert ranked(["a", "b", "c", "d"], {"b": 30.0, "d": 12.0}) == ("d", "b", "a", "c")


@pytest.mark.full
def test_a_net_with_outlier_channels_keeps_few_operations_in_float(
    digits: Callable[[], tuple[Any, Any, Any]], tmp_path: Path
) -> None:
    net, fitted, held = digits()
    with_outliers(net, [1, 4])
    contract = Contract(
        name="digits",
        inputs=IMAGES,
        task={"kind": "classification", "labels": [str(digit) for digit in range(10)]},
        limits={"max_metric_drop": 0.02},
    )
    data = {"calibration": fitted.take(np.arange(64)), "validation": held}
    plain = quantize(net, contract, Static(samples=64), directory=tmp_path / "plain", **data)
    aware = quantize(net, contract, AccuracyAware(max_drop=0.02, samples=64), directory=tmp_path, **data)
    assert _drop(plain, net, held) > 0.02
    assert _drop(aware, net, held) <= 0.02
    kept = [operation for operation in aware.report.operations if operation.precision == "fp32"]
    assert 0 < len(kept) <= 3 < len(aware.report.operations) - len(kept)
    assert all("drops by more than 0.02" in operation.reason for operation in kept)
    measured = {operation.name: operation.sqnr_db for operation in aware.report.operations}
    assert all(value is not None for value in measured.values())
    worst = sorted(measured, key=lambda name: measured[name] or 0)[:2]
    assert set(worst) & {operation.name for operation in kept}


def _drop(quantized: Any, net: Any, held: Any) -> float:
    import torch

    from shipworthy.runtime import open_runner

    (chunk,) = held.chunks
    with torch.no_grad():
        eager = net(torch.from_numpy(chunk.inputs["x"])).numpy()
    runner = open_runner(quantized.artifact)
    try:
        (found,) = runner.run(chunk.inputs).values()
    finally:
        runner.close()
    return float((eager.argmax(1) == chunk.targets).mean() - (found.argmax(1) == chunk.targets).mean())
