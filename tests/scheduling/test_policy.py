"""The policy at work in the simulator: what it promises, and that fixed-delay batching does no better."""

from __future__ import annotations

import pytest

from shipworthy.scheduling.simulator import Deadlines, Engine, FixedDelay, Load, Model, Policy, Result, Served, simulate

RESNET = {1: 0.0095, 2: 0.018, 4: 0.035, 8: 0.069, 16: 0.137}
HUNGRY = {bucket: 0.001 + 0.00005 * bucket for bucket in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)}
TARGET = 0.05
CAPACITY = 2 * 4 / RESNET[4]
"""Requests a second of two streams in the best bucket that is done within the target."""


def resnet(**settings: object) -> Engine:
    return Engine(RESNET, **{"streams": 2, "noise": 0.05, **settings})  # type: ignore[arg-type]


def run(
    engine: Engine, *loads: Load, policy: Policy | None = None, seconds: float = 20.0, **settings: object
) -> Result:
    model = Model("m", engine, loads, settings.pop("believed", None))  # type: ignore[arg-type]
    return simulate([model], policy or Deadlines(), seconds=seconds, **settings)  # type: ignore[arg-type]


def one(engine: Engine, *loads: Load, **settings: object) -> Served:
    return run(engine, *loads, **settings).models["m"]  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("contention", [0.0, 0.1])
def test_at_twice_the_capacity_nearly_all_of_it_is_good(seed: int, contention: float) -> None:
    served = one(resnet(contention=contention), Load(rate=2 * CAPACITY), seed=seed)
    assert served.goodput >= 0.9 * CAPACITY / (1 + contention)
    assert served.timely >= 0.99 and served.quantile(0.99) <= TARGET


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8, 0.9, 1.0, 1.2, 1.5, 4.0])
def test_what_is_taken_on_is_in_time_at_any_load(load: float) -> None:
    served = one(resnet(), Load(rate=load * CAPACITY))
    assert served.timely >= 0.99 and served.quantile(0.99) <= TARGET
    assert served.goodput >= 0.9 * min(load, 1.0) * CAPACITY


def test_at_low_load_there_is_no_delay() -> None:
    served = one(resnet(noise=0.0), Load(rate=5.0))
    assert served.quantile(0.9) == pytest.approx(RESNET[1]) and not served.refused


def test_a_throughput_hungry_engine_gets_its_batches() -> None:
    best = max(size / seconds for size, seconds in HUNGRY.items() if seconds <= TARGET)
    served = one(Engine(HUNGRY), Load(rate=2 * best), seconds=3.0, warmup=1.0)
    assert served.goodput >= 0.95 * best and served.timely >= 0.99
    few = run(Engine(HUNGRY, noise=0.0), Load(rate=20.0))
    assert few.models["m"].quantile(0.5) == pytest.approx(HUNGRY[1]), "and does not wait for them when it is idle"


@pytest.mark.parametrize("load", [0.5, 0.9, 1.0, 1.2, 2.0])
def test_no_fixed_delay_does_better(load: float, effort: float) -> None:
    """All settings are tried on the very load that they are then compared on, which is more than a user can do."""
    arrivals, seconds = Load(rate=load * CAPACITY), 12.0 + 48.0 * effort
    ours = one(resnet(), arrivals, seconds=seconds).goodput
    delays = (0.0, 0.005) if effort == 1.0 else (0.0,)
    grid = [FixedDelay(size, delay, room) for size in (1, 2, 4) for delay in delays for room in (2, 4, 6)]
    best = max(one(resnet(), arrivals, seconds=seconds, policy=policy).goodput for policy in grid)
    assert ours >= 0.99 * best


def test_what_others_do_by_default_collapses() -> None:
    arrivals = Load(rate=2 * CAPACITY)
    assert one(resnet(), arrivals, policy=FixedDelay(8, 0.01)).goodput < 0.1 * one(resnet(), arrivals).goodput


@pytest.mark.parametrize("off", [1 / 3, 3.0])
@pytest.mark.parametrize("rate", [0.45, 2.0])
def test_a_wrong_curve_is_recovered_from(off: float, rate: float) -> None:
    believed = {bucket: seconds * off for bucket, seconds in RESNET.items()}
    served = one(resnet(), Load(rate=rate * CAPACITY), believed=believed, seconds=12.0)
    assert served.goodput >= 0.9 * min(rate, 1.0) * CAPACITY and served.timely >= 0.99


def test_an_engine_that_slows_down_and_recovers() -> None:
    loads = (
        Load(rate=2 * CAPACITY, stop=10.0),
        Load(rate=2 * CAPACITY, start=11.0, stop=20.0),
        Load(rate=2 * CAPACITY, start=21.0),
    )
    engine = resnet(drift=((10.0, 2.0), (20.0, 1.0)))
    before, slow, after = run(engine, *loads, seconds=30.0, warmup=0.0).loads["m"]
    assert before.timely >= 0.985 and slow.timely >= 0.985 and after.timely >= 0.985
    assert before.in_time / 10 >= 0.9 * CAPACITY
    # At twice the time of a run, a batch of one is all that fits into the target; it has 92 % of the best rate.
    assert slow.in_time / 9 >= 0.85 * CAPACITY / 2
    assert after.in_time / 9 >= 0.9 * CAPACITY


def test_one_very_slow_batch_is_soon_forgotten() -> None:
    engine = resnet(drift=((5.0, 20.0), (5.02, 1.0)))
    loads = (Load(rate=2 * CAPACITY, stop=5.0), Load(rate=2 * CAPACITY, start=5.5, stop=6.5))
    _, after = run(engine, *loads, seconds=8.0).loads["m"]
    assert after.in_time >= 0.9 * CAPACITY and after.timely >= 0.98


@pytest.mark.parametrize("target", [0.002, 0.009])
def test_a_target_that_cannot_be_met_still_gets_answers(target: float) -> None:
    quiet = one(resnet(noise=0.0), Load(clients=2, target=target))
    assert len(quiet.latencies) == pytest.approx(18 * 2 / RESNET[1], rel=0.02) and not quiet.refused
    flood = one(resnet(), Load(rate=2 * CAPACITY, target=target))
    assert len(flood.latencies) > 0.7 * 18 * CAPACITY


def test_deadlines_beat_the_order_of_arrival() -> None:
    loads = (Load(rate=0.45 * CAPACITY, target=0.03, burst=2), Load(rate=0.45 * CAPACITY, target=0.5, burst=8))
    ours, fifo = (run(resnet(), *loads, policy=policy) for policy in (Deadlines(), FixedDelay(2, 0.0)))
    assert ours.goodput > 1.2 * fifo.goodput
    assert ours.loads["m"][1].timely >= 0.99


def test_patient_and_impatient_callers_share_an_overload() -> None:
    loads = (Load(rate=CAPACITY, target=0.05), Load(rate=CAPACITY, target=0.5))
    result = run(resnet(), *loads)
    assert min(served.goodput for served in result.loads["m"]) >= 0.3 * CAPACITY
    assert all(served.timely >= 0.99 for served in result.loads["m"])
    assert result.goodput >= 0.9 * CAPACITY


def test_large_requests_do_not_stand_before_single_ones() -> None:
    result = run(resnet(), Load(rate=0.45 * CAPACITY), Load(rate=0.5, rows=100), seconds=30.0)
    single, large = result.loads["m"]
    assert single.timely >= 0.99 and single.goodput >= 0.97 * single.offered / single.seconds
    assert not large.refused and large.timely == 1.0
    alone = one(resnet(noise=0.0), Load(clients=1, rows=100), seconds=30.0)
    assert alone.quantile(0.5) < 1.1 * 100 * RESNET[2] / 4, "and are not slowed where nobody else comes"


def test_a_light_model_beside_a_flooded_one() -> None:
    light = Model("light", Engine({1: 0.002, 2: 0.003, 4: 0.005}), (Load(rate=20.0, target=0.05),))
    for target in (0.05, 0.5):
        flooded = Model("flooded", resnet(), (Load(rate=2 * CAPACITY, target=target),))
        result = simulate([flooded, light], Deadlines(), seconds=20.0)
        assert result.models["light"].in_time >= 0.99 * result.models["light"].offered
        assert result.models["flooded"].goodput >= 0.85 * CAPACITY


def test_flooded_models_get_the_same_time() -> None:
    heavy = Model("heavy", resnet(), (Load(rate=400.0, target=0.1),))
    small = Model("small", Engine({1: 0.002, 2: 0.003, 4: 0.005}, streams=2), (Load(rate=4000.0, target=0.1),))
    result = simulate([heavy, small], Deadlines(), seconds=20.0)
    assert result.core_seconds["heavy"] == pytest.approx(result.core_seconds["small"], rel=0.05)
    assert all(served.timely >= 0.99 for served in result.models.values())


def test_a_model_that_needs_every_core_is_not_starved() -> None:
    narrow = Model("narrow", resnet(), (Load(rate=400.0, target=0.1),))
    wide = Model("wide", Engine({1: 0.006, 2: 0.01, 4: 0.018}, cores=2.0), (Load(rate=400.0, target=0.1),))
    result = simulate([narrow, wide], Deadlines(), seconds=20.0)
    assert result.core_seconds["wide"] == pytest.approx(result.core_seconds["narrow"], rel=0.2)
    assert all(served.timely >= 0.99 for served in result.models.values())


def test_rows_of_other_sizes_cost_what_they_cost() -> None:
    scales = {0.5: 0.5, 1.0: 1.0, 3.0: 3.0}
    loads = [Load(rate=40.0, key=key, scale=key) for key in scales]
    told = run(resnet(scales=scales), *loads)
    assert told.models["m"].timely >= 0.99
    # Nobody said so: it is learned.
    untold = run(resnet(scales=scales), *(Load(rate=40.0, key=key) for key in scales))
    assert untold.goodput >= 0.9 * told.goodput


def test_callers_in_a_loop_get_the_whole_capacity() -> None:
    served = one(resnet(), Load(clients=8))
    assert served.goodput >= 0.95 * CAPACITY and not served.refused
