"""The latency curve follows what is seen, and is not thrown off by one slow run."""

from __future__ import annotations

from random import Random

import pytest

from shipworthy.scheduling import Curve

RESNET = {1: 0.0095, 2: 0.018, 4: 0.035, 8: 0.069, 16: 0.137}


def test_a_curve_starts_as_measured() -> None:
    curve = Curve(RESNET)
    assert curve.buckets == (1, 2, 4, 8, 16) and curve.largest == 16
    assert [curve.mean(bucket) for bucket in curve.buckets] == list(RESNET.values())


@pytest.mark.parametrize(("rows", "bucket"), [(1, 1), (2, 2), (3, 4), (16, 16), (17, 16), (0.5, 1)])
def test_the_bucket_is_the_smallest_that_holds_the_rows(rows: float, bucket: int) -> None:
    assert Curve(RESNET).bucket(rows) == bucket


@pytest.mark.parametrize("off", [1 / 3, 3.0])
def test_a_curve_that_is_three_times_off_is_right_after_forty_batches(off: float) -> None:
    random = Random(1)
    curve = Curve({bucket: seconds * off for bucket, seconds in RESNET.items()})
    for _ in range(40):
        curve.observe(2, RESNET[2] * random.lognormvariate(0, 0.05))
    assert curve.mean(2) == pytest.approx(RESNET[2], rel=0.1)
    # The buckets that never ran have moved along.
    assert curve.mean(4) == pytest.approx(RESNET[4], rel=0.3)


def test_one_slow_run_hardly_moves_it() -> None:
    curve = Curve(RESNET)
    for _ in range(50):
        curve.observe(2, RESNET[2])
    curve.observe(2, 100 * RESNET[2])
    assert curve.mean(2) < 1.2 * RESNET[2]


def test_noise_is_averaged() -> None:
    random = Random(2)
    curve = Curve(RESNET)
    seen = []
    for _ in range(2000):
        curve.observe(2, RESNET[2] * random.lognormvariate(0, 0.1))
        seen.append(curve.mean(2))
    assert max(seen[100:]) < 1.15 * RESNET[2] and min(seen[100:]) > 0.87 * RESNET[2]
    assert curve.spread == pytest.approx(0.08, abs=0.03)


def test_streams_that_slow_each_other_are_no_slower_engine() -> None:
    curve = Curve(RESNET)
    for _ in range(400):
        curve.observe(1, RESNET[1], 0)
        curve.observe(1, 1.3 * RESNET[1], 1)
    assert curve.mean(1) == pytest.approx(RESNET[1], rel=0.05)
    assert curve.beside(1) == pytest.approx(1.3, rel=0.05)
    assert curve.beside(3) == curve.beside(1)


def test_a_bucket_that_once_looked_slow_is_tried_again() -> None:
    curve = Curve(RESNET)
    for _ in range(60):
        curve.observe(4, 1.5 * RESNET[4])
        curve.observe(1, RESNET[1])
    slow = curve.mean(4) / curve.mean(1)
    for _ in range(400):
        curve.observe(1, RESNET[1])
    assert slow > 1.1 * RESNET[4] / RESNET[1]
    assert curve.mean(4) / curve.mean(1) == pytest.approx(RESNET[4] / RESNET[1], rel=0.02)
