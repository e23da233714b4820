"""The promise of a whole monitor, on models whose reference and traffic are drawn alike."""

from __future__ import annotations

import numpy as np
import pytest
from monitor_cases import contract, draw, reference

from shipworthy.monitor import Monitor, MonitorOptions

STREAMS = 100
SAMPLES = 3000
RUN_LENGTH = 30_000.0


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("nodes", "samples"), [(1, 1000), (1, 100), (3, 300)])
def test_false_alarms_are_no_more_frequent_than_promised(nodes: int, samples: int) -> None:
    options = MonitorOptions(run_length=RUN_LENGTH, nodes=nodes, window_rate=0.01)
    found = {"sequential": 0, "window": 0}
    for stream in range(STREAMS):
        base = reference.__wrapped__(samples, 1000 + stream)
        detectors = set()
        for node in range(nodes):
            watched = Monitor((contract(), base), options=options, node=f"{node}-{stream}")
            random = np.random.default_rng([stream, node])
            for block in range(SAMPLES // 250):
                points, logits, _ = draw(250, random)
                alarms = watched.update(points, logits, 1e9 + block)
                detectors |= {alarm.detector for alarm in alarms}
        for detector in detectors:
            found[detector] += 1
    # Within SAMPLES of each node; and a window raises an alarm with its rate, so each stream with the sum of them.
    bounds = {"sequential": SAMPLES / RUN_LENGTH, "window": min(1.0, nodes * SAMPLES / options.window * 0.01)}
    for detector, bound in bounds.items():
        error = np.sqrt(bound * (1 - bound) / STREAMS)
        assert found[detector] / STREAMS <= bound + 3 * error, (detector, found)
