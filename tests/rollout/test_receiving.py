"""What a server needs to take labels: the key of its registry, and the way of labels there."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from live_cases import KEY

from rollout_world import MODEL, signed
from rollout_world import make_registry as make_world
from shipworthy.errors import RegistryError
from shipworthy.registry import Registry
from shipworthy.rollout import prediction_key
from shipworthy.rollout import receiving as receiving_room
from shipworthy.rollout.receiving import Receiver


def test_every_server_of_a_registry_has_its_key(tmp_path: Path) -> None:
    with Registry(tmp_path / "one") as one, Registry(tmp_path / "one") as again, Registry(tmp_path / "two") as two:
        keys: list[bytes] = []
        asking = [
            threading.Thread(target=lambda part=part: keys.append(prediction_key(part))) for part in (one, again) * 4
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert len(keys) == 8 and len(set(keys)) == 1 and len(keys[0]) == 32
        assert prediction_key(two) not in keys


def test_labels_and_losses_on_their_way_to_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_world(tmp_path / "world") as registry:
        receiver = Receiver(registry, KEY)
        ids = [signed({"predicted_class": 0}) for _ in range(4)]
        taken = receiver.take(
            MODEL,
            [(ids[0], "a", None), (ids[1], None, 1.5), (ids[2], None, 0.5), ("forged", 1, None), (ids[3], "z", None)],
        )
        assert [one.outcome for one in taken] == ["accepted", "unusable", "accepted", "forged", "unusable"]
        assert taken[1].reason == "loss is 1.5"
        assert [one.outcome for one in receiver.take(MODEL, [(ids[1], None, -1.0)])] == ["unusable"]
        assert receiver.take(MODEL, []) == []
        # What is done now and then comes first: where it fails, none of the labels is kept, as it is said.
        monkeypatch.setattr(receiving_room, "PRUNE_S", -1.0)
        pruned = []

        def prune() -> int:
            pruned.append(True)
            raise RegistryError("the registry", "cannot be reached", "start it")

        monkeypatch.setattr(receiver._labels, "prune", prune)
        with pytest.raises(RegistryError):
            receiver.take(MODEL, [(ids[3], "a", None)])
        monkeypatch.setattr(receiving_room, "PRUNE_S", 3600.0)
        assert [one.outcome for one in receiver.take(MODEL, [(ids[3], "a", None)])] == ["accepted"]
        assert pruned == [True]
