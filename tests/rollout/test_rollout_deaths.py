"""A challenger whose native code ends the processes that run it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from lifecycle_cases import serving, until

from shipworthy.registry import Registry
from shipworthy.rollout import Rollouts, Spec
from shipworthy.rollout.deaths import MOST, Trying
from shipworthy.server.plan import Share


@pytest.fixture
def share(tmp_path: Path) -> Share:
    return Share(slot=1, workers=2, counters=str(tmp_path))


def test_what_a_worker_tried_is_left_when_it_dies(share: Share) -> None:
    first = Trying(share)
    assert first.left() == []
    first.note({3, 2})
    assert Trying(share).left() == [2, 3]
    assert Trying(Share(slot=0, workers=2, counters=share.counters)).left() == []


def test_one_that_ends_in_order_leaves_nothing(share: Share) -> None:
    Trying(share).note([2])
    second = Trying(share)
    assert second.left() == [2]
    # It tries nothing, and has not died of what the one before it tried.
    second.note([])
    assert Trying(share).left() == []


def test_a_file_that_was_cut_off_says_nothing(share: Share, tmp_path: Path) -> None:
    (tmp_path / "trying-1.json").write_text("[1")
    assert Trying(share).left() == []


@pytest.mark.full
def test_a_challenger_that_ends_its_workers_has_lost(folder: Path) -> None:
    """Native code that ends its process looks from outside like a SIGKILL."""
    with Registry(folder) as registry:
        (model,) = registry.models()
        champion = registry.aliases(model.name)["champion"]
        challenger = registry.version(f"{model.name}:{champion + 1}")
        rollouts = Rollouts(registry)
        with serving(f"{model.name}@champion", "--registry", folder, "--workers", 2) as server:
            until(lambda: len(server.workers()) == 2)
            rollout = rollouts.start(model.name, challenger.name, Spec("canary", ramp=(0.5,)))
            until(lambda: {str(champion), str(challenger.number)} <= server.versions())
            for death in range(1, MOST + 1):
                assert rollouts.get(rollout.id).running
                os.kill(server.workers()[0], signal.SIGKILL)
                until(lambda death=death: rollouts.get(rollout.id).tally.deaths == death)  # type: ignore[misc]
                until(lambda: len(server.workers()) == 2)
            ended = rollouts.get(rollout.id)
            assert ended.state == "rollback"
            assert ended.reason.startswith(f"{MOST} worker processes died while they tried the challenger")
            kinds = [event.kind for event in registry.history(model.name)]
            assert kinds.count("worker-died") == MOST
            until(lambda: server.versions() == {str(champion)})
