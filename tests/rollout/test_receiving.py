"""What a server needs to take labels: the key of its registry, and the way of labels there."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from following_cases import following
from live_cases import KEY
from shadow_cases import until

from rollout_world import MODEL, signed
from rollout_world import make_registry as make_world
from shipworthy.errors import RegistryError
from shipworthy.registry import Registry
from shipworthy.rollout import prediction_key
from shipworthy.rollout import receiving as receiving_room
from shipworthy.rollout.labels import Labels
from shipworthy.rollout.receiving import Receiver

FORGED = ("A" * 88, "a", None)


def counts(registry: Registry) -> dict[str, int]:
    """As another process reads them."""
    return Labels(registry, KEY).counts(MODEL)


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


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with make_world(tmp_path / "world") as made:
        yield made


@pytest.fixture
def receiver(registry: Registry) -> Iterator[Receiver]:
    made = Receiver(registry, KEY)
    yield made
    made.close()
    assert not made._thread.is_alive()


def test_labels_and_losses_on_their_way_to_the_registry(receiver: Receiver) -> None:
    ids = [signed({"predicted_class": 0}) for _ in range(4)]
    taken = receiver.take(
        MODEL,
        [(ids[0], "a", None), (ids[1], None, 1.5), (ids[2], None, 0.5), ("forged", 1, None), (ids[3], "z", None)],
    )
    assert [one.outcome for one in taken] == ["accepted", "unusable", "accepted", "forged", "unusable"]
    assert taken[1].reason == "loss is 1.5"
    assert [one.outcome for one in receiver.take(MODEL, [(ids[1], None, -1.0)])] == ["unusable"]
    assert receiver.take(MODEL, []) == []


def test_what_is_refused_is_counted_also_where_nothing_comes_after_it(registry: Registry, receiver: Receiver) -> None:
    for _ in range(3):
        receiver.take(MODEL, [FORGED])
    until(lambda: counts(registry) == {"forged": 3}, within_s=5.0)


def test_what_is_refused_last_is_counted_at_the_end(
    registry: Registry, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving_room, "COUNT_S", 60.0)
    for _ in range(3):
        receiver.take(MODEL, [FORGED])
    assert counts(registry) == {"forged": 1}
    receiver.close()
    assert counts(registry) == {"forged": 3}


def test_a_server_that_ends_counts_what_it_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving_room, "COUNT_S", 60.0)
    with following(folder) as server:
        for _ in range(3):
            sent = {"prediction_id": FORGED[0], "label": 1}
            assert server.http.post("/models/iris/feedback", json=sent).status_code == 422
    with Registry(folder) as registry:
        assert Labels(registry, KEY).counts("iris") == {"forged": 3}


def test_the_end_does_not_wait_for_a_registry_that_is_away(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(receiving_room, "LAST_S", 0.1)
    monkeypatch.setattr(receiver._labels, "settle", lambda: go.wait(20))
    receiver.take(MODEL, [FORGED])
    began = time.monotonic()
    receiver.close()
    assert time.monotonic() - began < 5
    go.set()
    receiver._thread.join(5)
    assert not receiver._thread.is_alive()


def test_old_labels_are_forgotten_beside_those_that_come(
    registry: Registry, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever sends one waits for no more than a part of it; and where it fails, it is done later."""
    monkeypatch.setattr(receiving_room, "COUNT_S", 0.01)
    monkeypatch.setattr(receiving_room, "PRUNE_S", 0.01)
    monkeypatch.setattr(receiving_room, "FORGOTTEN_AT_ONCE", 5)
    threads: list[str] = []
    found = [RegistryError("the registry", "cannot be reached", "start it"), ValueError("what nobody foresaw"), 5, 2]

    def prune() -> int:
        threads.append(threading.current_thread().name)
        one = found.pop(0) if found else 0
        if isinstance(one, Exception):
            raise one
        if one == 2:
            monkeypatch.setattr(receiving_room, "PRUNE_S", 60.0)
        return one

    monkeypatch.setattr(receiver._labels, "prune", prune)
    assert [one.outcome for one in receiver.take(MODEL, [(signed({"predicted_class": 0}), "a", None)])] == ["accepted"]
    until(lambda: len(threads) >= 4)
    time.sleep(0.1)
    assert threads == ["shipworthy-counting"] * 4, "the last part was no whole one"
    assert "what nobody foresaw" in caplog.text and receiver._thread.is_alive()


def test_a_server_that_takes_no_labels_has_no_thread_for_them(registry: Registry) -> None:
    one = Receiver(registry, KEY)
    one.close()
    assert one._thread.ident is None


def test_the_thread_ends_with_whoever_has_it(registry: Registry) -> None:
    one = Receiver(registry, KEY)
    one.take(MODEL, [FORGED])
    thread = one._thread
    del one
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
