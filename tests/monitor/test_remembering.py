"""What is known of a version, between two runs of the process that watches it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from monitor_cases import draw, monitor

from shipworthy.errors import MonitorError
from shipworthy.monitor import Monitor
from shipworthy.monitor.remembering import Memory, Remembering
from shipworthy.monitor.store import States


@pytest.fixture
def states(tmp_path: Path) -> States:
    return States(str(tmp_path))


@pytest.fixture
def remembering(states: States) -> Iterator[Remembering]:
    found = Remembering(states)
    yield found
    found.close()


def settled(remembering: Remembering) -> None:
    """All that it was given is done."""
    done = threading.Event()
    remembering.do(("the", "last"), done.set)
    assert done.wait(30)


def fed(watched: Monitor, rows: int) -> Monitor:
    points, logits, _ = draw(rows, np.random.default_rng(0))
    watched.update(points, logits, 1e9)
    return watched


def test_a_place_that_cannot_be_read_at_first_loses_nothing(
    states: States, remembering: Remembering, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("points", "3", "a")
    Memory(remembering, *names, shared=False).keep(fed(monitor(), 700))
    settled(remembering)
    before = states.state(*names)
    assert before is not None
    again, memory = monitor(), Memory(remembering, *names, shared=False)
    with monkeypatch.context() as patched:
        patched.setattr(States, "state", _away)
        memory.restore(again)
        memory.keep(fed(again, 10))
        settled(remembering)
    assert "is looked for again" in caplog.text and "begins anew" not in caplog.text
    # Nothing was written over it; it is read when it can be, and then the monitor goes on from there.
    assert states.state(*names) == before
    memory.keep(again)
    settled(remembering)
    memory.keep(again)
    settled(remembering)
    assert again.scored == 700
    assert states.state(*names) == again.state()


def _away(states: States, model: str, version: str, node: str) -> bytes | None:
    raise MonitorError("the place", "cannot be reached", "try again")
