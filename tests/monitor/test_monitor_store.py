"""The place of states: a folder, or what fsspec knows."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitor_cases import feed, monitor

from shipworthy.errors import MonitorError, ShipworthyError
from shipworthy.monitor import States
from shipworthy.monitor.alarms import Acknowledgement
from shipworthy.monitor.beside import place_of
from shipworthy.monitor.store import part_of


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The url of a bucket of an S3 server on this host."""
    import botocore.session
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"states-{uuid4().hex[:8]}"
    session = botocore.session.get_session()
    session.create_client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket=name)
    yield f"s3://{name}"
    server.stop()


@pytest.fixture(params=["folder", "memory", pytest.param("s3", marks=pytest.mark.full)])
def states(request: pytest.FixtureRequest, tmp_path: Path) -> States:
    if request.param == "s3":
        return States(f"{request.getfixturevalue('bucket')}/below/states")
    return States(tmp_path / "below" / "states" if request.param == "folder" else f"memory://{uuid4().hex}/states")


def test_what_is_written_is_read(states: States) -> None:
    watched = monitor()
    feed(watched, 300, np.random.default_rng(0))
    view = watched.check(2e9)
    states.write("points", "3", "a", state=watched.state(), view=view, samples=watched.samples_state())
    states.write("points", "3", "b", view=view)
    states.write("points", "10", "a", state=b"x")
    assert states.models() == ["points"]
    assert sorted(states.versions("points")) == ["10", "3"]
    assert states.nodes("points", "3") == ["a", "b"]
    assert states.state("points", "3", "a") == watched.state()
    assert states.state("points", "3", "b") is None
    assert [each.scored for each in states.views("points", "3")] == [300, 300]
    assert states.views("points", "3")[0].signals == view.signals
    assert len(states.views("points")) == 2
    ((version, kept),) = states.kept("points")
    assert version == "3"
    assert [sample.id for sample in kept.samples] == [sample.id for sample in watched.samples]
    assert kept.samples[0].feeds["point"].tobytes() == next(iter(watched.samples)).feeds["point"].tobytes()


def test_an_empty_place_has_nothing(states: States) -> None:
    assert states.models() == states.versions("points") == states.nodes("points", "1") == []
    assert states.views("points") == [] and states.kept("points") == []
    assert states.acknowledgements("points", "1") == []
    assert states.state("points", "1", "a") is states.view("points", "1", "a") is None


def test_empty_samples_remove_those_that_were_kept(states: States) -> None:
    states.write("points", "3", "a", samples=b"some")
    assert states.sample_bytes("points", "3", "a") == b"some"
    states.write("points", "3", "a", samples=b"")
    states.write("points", "3", "a", samples=b"")
    assert states.sample_bytes("points", "3", "a") is None


def test_acknowledgements_reach_every_node(states: States) -> None:
    first = Acknowledgement("first", "ada", "seen", 2.0, new_baseline=1000)
    second = Acknowledgement("../second", "bob", "", 1.0)
    for said in (first, second):
        states.acknowledge("points", "3", said)
    assert states.acknowledgements("points", "3") == [second, first]
    assert states.nodes("points", "3") == []


def test_an_alarm_of_a_node_that_is_gone_is_acknowledged(states: States) -> None:
    watched = monitor()
    feed(watched, 600, np.random.default_rng(0), shift=1.0)
    states.write("points", "3", "a", view=watched.check(2e9))
    first, *others = states.views("points", "3")[0].alarms
    states.acknowledge("points", "3", Acknowledgement(first.id, "ada", "seen", 5.0))
    alarms = {alarm.id: alarm for alarm in states.views("points", "3")[0].alarms}
    assert (alarms[first.id].who, alarms[first.id].acknowledged) == ("ada", 5.0)
    assert all(alarms[other.id].acknowledged is None for other in others)


def test_a_version_is_forgotten(states: States) -> None:
    for node in "ab":
        states.write("points", "3", node, state=b"x")
    states.forget("points", "3", "a")
    assert states.nodes("points", "3") == ["b"]
    states.forget("points", "3")
    states.forget("points", "3")
    assert states.versions("points") == []


def test_damaged_files_are_refused(states: States, tmp_path: Path) -> None:
    if "memory" in states.place or "s3" in states.place:
        pytest.skip("written as files")
    folder = Path(states.place) / "points" / "3"
    states.write("points", "3", "a", state=b"x", samples=b"y")
    (folder / "a" / "view.json").write_text('{"model": 1}')
    with pytest.raises(MonitorError, match="is no view"):
        states.views("points")
    with pytest.raises(MonitorError, match="is damaged"):
        states.kept("points")
    said = {"alarm": "z", "who": "ada", "why": "", "at": 1.0}
    for wrong in ([], {}, {**said, "at": float("nan")}, {**said, "new_baseline": 3}, {**said, "new_baseline": 1e400}):
        states.acknowledge("points", "3", Acknowledgement("z", "ada", "", 1.0))
        (folder / "acknowledged" / "z.json").write_text(json.dumps(wrong))
        with pytest.raises(MonitorError, match="no acknowledgement"):
            states.acknowledgements("points", "3")


def test_what_has_not_changed_is_not_read_again(states: States, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that have gone stay in the place, and a monitor looks every ten seconds."""
    view, said = monitor().check(2e9), Acknowledgement("first", "ada", "", 1.0)
    states.write("points", "3", "a", view=view)
    states.acknowledge("points", "3", said)
    first = (states.views("points", "3"), states.acknowledgements("points", "3"))
    read = states._files.get
    monkeypatch.setattr(states._files, "get", lambda path: pytest.fail(f"{path} is read again"))
    assert (states.views("points", "3"), states.acknowledgements("points", "3")) == first
    monkeypatch.setattr(states._files, "get", read)
    States(states.place).write("points", "3", "a", view=replace(view, requests=7))
    States(states.place).acknowledge("points", "3", replace(said, alarm="second"))
    assert [one.requests for one in states.views("points", "3")] == [7]
    assert [one.alarm for one in states.acknowledgements("points", "3")] == ["first", "second"]
    states.forget("points", "3")
    assert states.views("points", "3") == [] and states.acknowledgements("points", "3") == []
    monkeypatch.setattr(states._files, "stamp", lambda path: "")
    states.write("points", "3", "a", view=view)
    states.views("points", "3")
    States(states.place).write("points", "3", "a", view=replace(view, requests=9))
    assert [one.requests for one in states.views("points", "3")] == [9]


def test_the_views_of_all_other_nodes(states: States) -> None:
    watched = monitor()
    feed(watched, 600, np.random.default_rng(0), shift=1.0)
    for node in "ab":
        states.write("points", "3", node, view=replace(watched.check(2e9), nodes=(node,)))
    gone = watched.check(2e9).alarms[0].id
    states.acknowledge("points", "3", Acknowledgement(gone, "ada", "", 5.0))
    (other,) = states.views("points", "3", without="a")
    assert other.nodes == ("b",)
    assert [alarm.who for alarm in other.alarms if alarm.id == gone] == ["ada"]


def test_only_its_user_looks_into_a_folder(tmp_path: Path) -> None:
    states = States(tmp_path / "states")
    states.write("points", "3", "a", state=b"x")
    for path in (tmp_path / "states").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert stat.S_IMODE((tmp_path / "states").stat().st_mode) == 0o700
    assert [path.name for path in (tmp_path / "states" / "points" / "3" / "a").iterdir()] == ["state"]


@given(name=st.text(min_size=1, max_size=40), other=st.text(min_size=1, max_size=40))
def test_names_are_one_part_of_a_path_and_differ(name: str, other: str) -> None:
    try:
        part = part_of(name)
    except MonitorError:
        return
    assert "/" not in part and not part.startswith(".") and part != "acknowledged" and "\0" not in part
    if name != other:
        try:
            assert part != part_of(other)
        except MonitorError:
            return


@pytest.mark.parametrize("name", ["", "acknowledged", "x" * 300])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(MonitorError, match="cannot be the name"):
        part_of(name)


@pytest.mark.parametrize("place", ["", "http://example.org/x", "file:///tmp/x", "a::b://c", "nothing://x"])
def test_places_that_cannot_be(place: str) -> None:
    with pytest.raises(ShipworthyError):
        States(place).models()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MonitorError, match="check the address"):
        States(tmp_path / "file" / "states").write("points", "1", "a", state=b"x")


def test_the_place_beside_a_registry(tmp_path: Path) -> None:
    assert place_of("/given", tmp_path) == "/given"
    assert place_of(None, tmp_path / "registry") == str(tmp_path / "registry" / "monitor")
    assert place_of(None, f"sqlite:///{tmp_path}/r.db") == str(tmp_path / "r.db.monitor")
