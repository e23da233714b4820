"""Memory and state do not grow with traffic, and what is kept has a limit in bytes."""

from __future__ import annotations

import gc

import numpy as np
import psutil
import pytest
from monitor_cases import draw, monitor

from shipworthy.contract import Contract, InputSpec, OutputSpec, TaskSpec
from shipworthy.monitor import Monitor, MonitorOptions
from shipworthy.monitor.samples import MOST_BYTES
from shipworthy.signals import fit, make_reference

MEGABYTE = 2**20


def run(watched: Monitor, blocks: int, first: int, rows: int = 5000) -> None:
    random = np.random.default_rng(first)
    points, logits, _ = draw(rows, random)
    for block in range(blocks):
        order = random.permutation(rows)
        watched.update(points[order], logits[order], 1e9 + 10.0 * (first + block), 0.002)
        watched.count(rows)


def sizes(watched: Monitor) -> tuple[int, int]:
    return len(watched.state()), len(watched.samples_state())


def test_the_state_does_not_grow() -> None:
    watched = monitor()
    run(watched, 4, 0, rows=1000)
    before = sizes(watched)
    run(watched, 8, 400, rows=1000)
    after = sizes(watched)
    # A point of the timeline has 200 bytes or so; there are at most 640.
    assert after[0] - before[0] < 8 * 600
    assert after[0] < MEGABYTE
    assert after[1] <= MOST_BYTES


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_ten_million_samples_take_no_more_memory() -> None:
    """Of the whole process, as the system counts it."""
    process = psutil.Process()
    gc.collect()
    begun = process.memory_info().rss
    watched = monitor(run_length=1e12)
    run(watched, 400, 0)
    half = process.memory_info().rss - begun, *sizes(watched)
    run(watched, 1600, 400)
    whole = process.memory_info().rss - begun, *sizes(watched)
    print(f"{half[0] / MEGABYTE:.1f} MB after 2 million, {whole[0] / MEGABYTE:.1f} MB after 10 million")
    assert watched.scored == 10_000_000
    assert whole[0] < 20 * MEGABYTE
    assert whole[0] < half[0] + 2 * MEGABYTE
    assert whole[1] < half[1] + 0.2 * MEGABYTE and whole[1] < MEGABYTE
    assert whole[2] < MOST_BYTES


def test_large_rows_are_kept_within_a_limit_of_bytes() -> None:
    of = Contract(
        name="images",
        inputs={"image": InputSpec(dtype="float32", shape=("batch", 3, 224, 224))},
        outputs={"logits": OutputSpec(dtype="float32", shape=("batch", 3), kind="logits")},
        task=TaskSpec(kind="classification"),
    )
    random = np.random.default_rng(0)
    image = random.normal(size=(32, 3, 224, 224)).astype(np.float32)
    logits = random.normal(size=(32, 3)).astype(np.float32)
    constants = fit(of, [({"image": image}, {"logits": logits})])
    reference = make_reference(of, constants, [({"image": image}, {"logits": logits}, None)])
    watched = Monitor((of, reference), options=MonitorOptions(keep=10_000))
    for _ in range(5):
        watched.update(image, logits)
    assert sum(sample.size for sample in watched.samples) <= MOST_BYTES
    assert len(watched.samples) >= 8
    assert len(watched.samples_state()) <= 1.1 * MOST_BYTES
