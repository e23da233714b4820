"""The simulator itself: known answers, and the same again from the same seed."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from shipworthy.scheduling.simulator import Deadlines, Engine, FixedDelay, Load, Model, Policy, Result, simulate

EXACT = Engine({1: 0.01, 2: 0.018, 4: 0.034}, noise=0.0)


def run(policy: Policy, *loads: Load, engine: Engine = EXACT, **settings: float) -> Result:
    return simulate([Model("m", engine, loads)], policy, **{"seconds": 20.0, "warmup": 0.0, **settings})  # type: ignore[arg-type]


def test_a_seed_gives_the_same_again() -> None:
    engine = Engine(EXACT.seconds, noise=0.1, hiccups=(0.01, 5.0))
    first, again = (run(Deadlines(), Load(rate=150.0), engine=engine, seed=3) for _ in range(2))
    assert np.array_equal(first.models["m"].latencies, again.models["m"].latencies)
    assert first.batches == again.batches
    other = run(Deadlines(), Load(rate=150.0), engine=engine, seed=4)
    assert len(other.models["m"].latencies) != len(first.models["m"].latencies)


def test_what_comes_does_not_depend_on_the_policy() -> None:
    ours, peer = (run(policy, Load(rate=150.0)) for policy in (Deadlines(), FixedDelay(4, 0.01)))
    assert ours.models["m"].offered == peer.models["m"].offered


def test_poisson_arrivals_have_their_rate() -> None:
    times = list(Load(rate=1000.0).arrivals(100.0, Random(1)))
    gaps = np.diff(times)
    assert len(times) == pytest.approx(100_000, rel=0.01)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.02)
    bursts = list(Load(rate=1000.0, burst=10, start=1.0, stop=2.0).arrivals(100.0, Random(1)))
    assert len(bursts) == 10 * len(set(bursts)) and min(bursts) >= 1.0 and max(bursts) < 2.0


def test_one_client_waits_for_the_engine_only() -> None:
    served = run(Deadlines(), Load(clients=1)).models["m"]
    assert served.latencies == pytest.approx(0.01) and served.goodput == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(("rows", "exact", "padded"), [(1, 0.01, 0.01), (3, 0.026, 0.034), (8, 0.068, 0.068)])
def test_an_engine_takes_its_time(rows: int, exact: float, padded: float) -> None:
    assert EXACT.exact(rows) == pytest.approx(padded)
    assert Engine(EXACT.seconds, padded=False).exact(rows) == pytest.approx(exact)


def test_what_slows_an_engine() -> None:
    engine = Engine({1: 0.01}, noise=0.0, contention=0.5, drift=((10.0, 2.0),), scales={"long": 3.0})
    calls = [(None, 0, 0.5, 0.0), (None, 1, 1.0, 0.0), (None, 0, 2.0, 0.0), (None, 0, 1.0, 11.0), ("long", 0, 1.0, 0.0)]
    seconds = [engine.duration(1, key, busy, crowd, now, Random(0)) for key, busy, crowd, now in calls]
    assert seconds == pytest.approx([0.01, 0.015, 0.02, 0.02, 0.03])
    hiccup = Engine({1: 0.01}, noise=0.0, hiccups=(1.0, 7.0))
    assert hiccup.duration(1, None, 0, 1.0, 0.0, Random(0)) == pytest.approx(0.07)


def test_a_fixed_delay_is_waited_for() -> None:
    alone = run(FixedDelay(4, 0.005), Load(clients=1)).models["m"]
    assert alone.latencies == pytest.approx(0.015)
    full = run(FixedDelay(4, 0.005), Load(clients=4)).models["m"]
    assert full.latencies == pytest.approx(0.034, rel=1e-3), "a full batch does not wait"


def test_a_bounded_queue_refuses_and_an_endless_one_does_not() -> None:
    endless = run(FixedDelay(4, 0.0), Load(rate=300.0)).models["m"]
    assert not endless.refused and endless.quantile(0.5) > 1.0 and endless.timely < 0.1
    bounded = run(FixedDelay(4, 0.0, 2), Load(rate=300.0)).models["m"]
    assert bounded.refused["requests"] > 2000 and bounded.quantile(1.0) < 0.1


def test_requests_of_many_rows_are_first_come_first_served() -> None:
    result = run(FixedDelay(4, 0.0), Load(clients=1, rows=12), Load(clients=1))
    assert result.loads["m"][1].quantile(0.5) > 0.1


def test_callers_leave_and_time_runs_out() -> None:
    served = run(Deadlines(), Load(rate=200.0, leave=0.5, body=0.002), Load(rate=50.0, timeout=0.02)).models["m"]
    assert served.left > 300
    assert served.offered == len(served.latencies) + sum(served.refused.values()) + served.left + served.expired
    late = run(FixedDelay(4, 0.0), Load(rate=300.0, timeout=0.05))
    assert late.models["m"].offered == len(late.models["m"].latencies) + late.models["m"].expired
