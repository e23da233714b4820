"""In a process that serves: rows are copied where they ran, and reach the monitor process in their order."""

from __future__ import annotations

import threading
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from watching_cases import Listener, places, priced, row, wait_until, watching

from shipworthy.contract import Arrays, Contract
from shipworthy.errors import MonitorError
from shipworthy.monitor import copying
from shipworthy.monitor.copying import Watched
from shipworthy.monitor.watching import Watching
from shipworthy.monitor.wire import Rows, arrays_of

TEXTS: dict[str, Any] = {
    "name": "texts",
    "inputs": {"row": {"dtype": "float32", "shape": ("batch", "tokens:1..9")}},
    "outputs": {"price": {"dtype": "float32", "shape": ("batch", 1)}},
    "task": {"kind": "regression"},
}


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    file = tmp_path / "reference"
    file.write_bytes(b"what it is compared with")
    return file


def show(watched: Watched, feeds: Arrays, outputs: Arrays) -> None:
    """What an engine does after a run."""
    for place in watched.ran(len(next(iter(feeds.values())))) or ():
        watched.take(feeds, outputs, place, 0.5)


def test_rows_arrive_in_their_order_after_what_they_are_of(reference: Path) -> None:
    with places() as at, watching(at) as observer:
        listener = Listener(at)
        model = priced(reference)
        watched = observer.watch("prices", model)
        assert watched is not None
        for number in range(300):
            show(watched, *row(number))
        wait_until(lambda: listener.seen == 300)
        begun = listener.frames[0]
        (said,) = listener.begun()
        assert begun.message == said and bytes(begun.body) == b"what it is compared with"
        assert (said.model, said.version, said.variant) == ("prices", model.version, "numpy-fp32")
        assert Contract.model_validate_json(said.contract).digest == model.contract.digest
        asked = np.concatenate([feeds["row"] for feeds, _ in listener.rows])
        answered = np.concatenate([outputs["price"] for _, outputs in listener.rows])
        assert asked.tolist() == [[number, number] for number in range(300)]
        assert answered.tolist() == [[2 * number] for number in range(300)]
        listener.close()


def test_memory_that_is_used_again_is_copied(reference: Path) -> None:
    with places() as at, watching(at) as observer:
        listener = Listener(at)
        watched = observer.watch("prices", priced(reference))
        assert watched is not None
        feeds, outputs = row(1)
        show(watched, feeds, outputs)
        for array in (*feeds.values(), *outputs.values()):
            array[:] = 9
        wait_until(lambda: listener.rows)
        assert listener.rows[0][0]["row"].tolist() == [[1, 1]]
        listener.close()


def test_rows_of_other_shapes_keep_their_places(reference: Path) -> None:
    with places() as at, watching(at, tell_s=0.2) as observer:
        listener = Listener(at)
        watched = observer.watch("texts", priced(reference, TEXTS))
        assert watched is not None
        lengths = [3, 3, 1, 2, 3]
        for number, length in enumerate(lengths):
            feeds = {"row": np.full((1, length), number, np.float32)}
            show(watched, feeds, {"price": np.full((1, 1), number, np.float32)})
        wait_until(lambda: listener.seen == 5)
        ((said, body),) = [(one.message, one.body) for one in listener.frames if isinstance(one.message, Rows)]
        assert [(part.rows, part.places) for part in said.parts] == [(3, [0, 1, 4]), (1, [2]), (1, [3])]
        found = {}
        for seats, feeds, outputs in arrays_of(said, body)[1]:
            for seat, price in zip(seats.tolist(), outputs["price"][:, 0].tolist(), strict=True):
                found[seat] = (feeds["row"].shape[1], price)
        assert [found[seat] for seat in range(5)] == list(zip(lengths, range(5), strict=True))
        listener.close()


def test_what_rows_hold_has_no_part_in_the_choice(reference: Path) -> None:
    """Of twice as many rows, once small and once large, the same places are chosen."""
    chosen = []
    for length in (1, 9):
        with places() as at:
            observer = Watching(at, rate=50, tell_s=1000, chance=lambda: Random(3))
            watched = observer.watch("texts", priced(reference, TEXTS))
            assert watched is not None
            found = []
            for number in range(20):
                for place in watched.ran(16) or ():
                    found.append(16 * number + place)
                    watched.take({"row": np.ones((16, length), np.float32)}, {"price": np.ones((16, 1))}, place, 0.0)
                if number % 5 == 0:
                    watched.choosing.turn(1.0)
            chosen.append(found)
            observer._leaving.set()
    assert chosen[0] == chosen[1] and 40 < len(chosen[0]) < 250


def test_rows_that_find_no_room_are_counted_whatever_their_size(
    reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "MOST_BYTES", 8 * (12 + 3 * copying.OBJECT_BYTES) + 4)
    with places() as at, watching(at, tell_s=0.3) as observer:
        listener = Listener(at)
        watched = observer.watch("prices", priced(reference))
        assert watched is not None
        monkeypatch.setattr(watched.choosing, "_most_bytes", 10**9)
        for number in range(30):
            show(watched, *row(number))
        wait_until(lambda: listener.seen == 30)
        kept = len(listener.rows[0][0]["row"])
        assert kept == 9 and listener.lost == 21, "12 bytes and three objects each, and the ninth goes over the brim"
        listener.close()


def test_a_version_without_a_reference_is_watched_only_for_a_baseline(reference: Path) -> None:
    with places() as at, watching(at) as observer, watching(at, baseline=True) as collecting:
        assert observer.watch("prices", priced(None)) is None
        assert observer._thread is None, "nobody is to be told anything"
        listener = Listener(at)
        assert collecting.watch("prices", priced(None)) is not None
        wait_until(listener.begun)
        assert bytes(listener.frames[0].body) == b""
        listener.close()


def test_a_broken_connection_is_made_anew_and_what_was_lost_is_counted(
    reference: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with places() as at, watching(at) as observer:
        listener = Listener(at)
        watched = observer.watch("prices", priced(reference))
        assert watched is not None
        show(watched, *row(0))
        wait_until(lambda: listener.seen == 1)
        listener.cut()
        wait_until(lambda: listener.ended == 1)
        for number in range(1, 9):
            show(watched, *row(number))
        wait_until(lambda: listener.seen == 9)
        assert len(listener.begun()) == 2
        assert sum(len(feeds["row"]) for feeds, _ in listener.rows) + listener.lost == 9
        listener.close()
    assert len(caplog.records) == 1, "an outage is said once"


def test_nobody_waits_where_nobody_listens(reference: Path) -> None:
    with places() as at, watching(at) as observer:
        watched = observer.watch("prices", priced(reference))
        assert watched is not None
        for number in range(3000):
            show(watched, *row(number))
        assert watched.choosing.seen() == 3000
        listener = Listener(at)
        wait_until(lambda: listener.seen == 3000)
        listener.close()


def test_a_version_that_is_closed_is_told_of_to_its_last_row(reference: Path) -> None:
    with places() as at, watching(at) as observer:
        listener = Listener(at)
        watched = observer.watch("prices", priced(reference))
        other = observer.watch("prices", priced(reference))
        assert watched is not None and other is not None
        show(watched, *row(1))
        watched.close()
        wait_until(listener.over)
        assert [said.number for said in listener.over()] == [watched.number] and listener.seen == 1
        show(other, *row(2))
        wait_until(lambda: listener.seen == 2)
        listener.close()


def test_the_end_sends_what_is_left(reference: Path) -> None:
    with places() as at:
        listener = Listener(at)
        observer = Watching(at, rate=500, tell_s=60)
        watched = observer.watch("prices", priced(reference))
        assert watched is not None
        show(watched, *row(1))
        observer.close()
        wait_until(lambda: listener.seen == 1)
        listener.close()


def test_files_that_have_gone_end_no_other_version(reference: Path, tmp_path: Path) -> None:
    with places() as at, watching(at) as observer:
        gone, kept = observer.watch("gone", priced(tmp_path / "none")), observer.watch("kept", priced(reference))
        assert gone is not None and kept is not None
        listener = Listener(at)
        show(gone, *row(1))
        show(kept, *row(2))
        wait_until(lambda: listener.seen)
        assert [said.model for said in listener.begun()] == ["kept"]
        listener.close()


def test_several_threads_lose_no_row(reference: Path) -> None:
    with places() as at, watching(at, rate=100_000) as observer:
        listener = Listener(at)
        watched = observer.watch("prices", priced(reference))
        assert watched is not None

        def stream() -> None:
            for number in range(2000):
                show(watched, *row(number))

        threads = [threading.Thread(target=stream) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: sum(len(feeds["row"]) for feeds, _ in listener.rows) + listener.lost >= 7900)
        total = sum(len(feeds["row"]) for feeds, _ in listener.rows)
        # Two that count at the very same moment may take one for the other.
        assert 7900 <= total <= 8000 and listener.lost == 0
        listener.close()


def test_an_acknowledgement_that_nobody_hears_is_an_error() -> None:
    with places() as at, watching(at) as observer, pytest.raises(MonitorError, match="does not answer"):
        observer.acknowledge("prices", "a", "me", "")


def test_there_is_nothing_to_see_before_the_process_has_shown_anything() -> None:
    with places() as at, watching(at) as observer:
        assert observer.exposition(openmetrics=False) == b"" and observer.view("prices") == []
        at.view("a/../b").write_bytes(b'[{"version": "1"}]')
        at.exposition.write_bytes(b"# HELP x_total Xs.\n# TYPE x_total counter\nx_total 1.0\n")
        assert observer.view("a/../b") == [{"version": "1"}]
        assert observer.exposition(openmetrics=False).startswith(b"# HELP x_total")
        assert observer.exposition(openmetrics=True) == b"# HELP x Xs.\n# TYPE x counter\nx_total 1.0\n"
