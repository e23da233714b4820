"""The store keeps what is finished, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipworthy.contract import Strict
from shipworthy.errors import MeasureError
from shipworthy.select import read_journal
from shipworthy.select.results import Pace, Refusal
from shipworthy.select.store import NotStoredError, Store


class Number(Strict):
    value: float


def _store(path: Path, **identity: object) -> Store:
    return Store(path, {"model": "a", **identity})


def test_a_finished_measurement_is_not_repeated(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        assert store.once("pace", "x", Number, lambda _: Number(value=1.5)).value == 1.5
    with _store(tmp_path) as store:
        assert store.once("pace", "x", Number, lambda _: pytest.fail("measured again")).value == 1.5
    assert [entry.event for entry in read_journal(tmp_path)] == ["started", "finished", "reused"]


@pytest.mark.parametrize(("stage", "subject", "depends", "identity"), [
    ("quality", "x", None, {}), ("pace", "y", None, {}),
    ("pace", "x", ["rival"], {}), ("pace", "x", None, {"model": "b"}),
])  # fmt: skip
def test_whatever_it_depends_on_makes_another(
    stage: str, subject: str, depends: object, identity: dict[str, object], tmp_path: Path
) -> None:
    with _store(tmp_path) as store:
        store.once("pace", "x", Number, lambda _: Number(value=1))
    with _store(tmp_path, **identity) as store:
        assert store.once(stage, subject, Number, lambda _: Number(value=2), depends=depends).value == 2


def test_what_raised_is_not_finished(tmp_path: Path) -> None:
    def fail(_: str) -> Number:
        raise RuntimeError("broken")

    with _store(tmp_path) as store:
        with pytest.raises(RuntimeError):
            store.once("pace", "x", Number, fail)
        assert store.once("pace", "x", Number, lambda _: Number(value=3)).value == 3


def test_a_result_whose_files_are_gone_is_measured_again(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        store.once("export", "x", Number, lambda _: Number(value=1))
        again = store.once("export", "x", Number, lambda _: Number(value=2), intact=lambda old: old.value > 1)
    assert again.value == 2


def test_two_builds_do_not_share_a_folder_at_one_time(tmp_path: Path) -> None:
    with (
        _store(tmp_path),
        pytest.raises(MeasureError, match="another build is working here"),
        _store(tmp_path),
    ):
        pass
    with _store(tmp_path):
        pass


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        store.once("pace", "x", Number, lambda _: Number(value=1))
    with (tmp_path / "journal.jsonl").open("a") as journal:
        journal.write('{"event": "star')
    with _store(tmp_path) as store:
        store.once("pace", "y", Number, lambda _: Number(value=1))
    assert [(entry.event, entry.subject) for entry in read_journal(tmp_path)] == [
        ("started", "x"),
        ("finished", "x"),
        ("started", "y"),
        ("finished", "y"),
    ]


def test_half_a_result_is_none(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        key = store.key("pace", "x")
        (tmp_path / "results" / f"pace-{key}.part").write_text('{"val')
        assert store.once("pace", "x", Number, lambda _: Number(value=4)).value == 4


@pytest.mark.parametrize(("gate", "reason", "kept"), [
    ("hang", "gave no answer", False), ("memory", "held too much", False),
    ("crash", "died of SIGKILL (by the system)", False), ("crash", "died of SIGSEGV", True), ("export", "no", True),
])  # fmt: skip
def test_what_the_host_ended_is_tried_again(gate: str, reason: str, kept: bool, tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        first = store.once("pace", "x", Pace, lambda _: Pace(refusal=Refusal(gate=gate, reason=reason)))
        second = store.once("pace", "x", Pace, lambda _: Pace(load_s=1))
    assert first.refusal is not None
    assert (second == first) is kept
    assert read_journal(tmp_path)[1].event == ("finished" if kept else "dropped")


def test_a_result_of_another_form_is_measured_again(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        key = store.key("pace", "x")
        (tmp_path / "results" / f"pace-{key}.json").write_text('{"worth": 1}')
        assert store.once("pace", "x", Number, lambda _: Number(value=4)).value == 4


def test_only_the_finished_can_be_asked_for(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        store.once("pace", "x", Number, lambda _: Number(value=1))
        with store.finished_only():
            assert store.once("pace", "x", Number, lambda _: Number(value=2)).value == 1
            with pytest.raises(NotStoredError, match="pace of y"):
                store.once("pace", "y", Number, lambda _: Number(value=2))
        assert store.once("pace", "y", Number, lambda _: Number(value=2)).value == 2
