"""A monitor's state: it goes on as if it had not stopped, and what is no state is refused."""

from __future__ import annotations

import hashlib
import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_cases import contract, draw, feed, monitor, reference
from safetensors.numpy import load, save

from shipworthy.contract import Array, Contract, InputSpec, OutputSpec, TaskSpec
from shipworthy.errors import MonitorError
from shipworthy.monitor import Monitor, MonitorOptions
from shipworthy.monitor.samples import Sample
from shipworthy.monitor.samples_file import read_samples, write_samples
from shipworthy.monitor.state import MAGIC
from shipworthy.signals import fit, make_reference

HEAD = len(MAGIC) + 32


@cache
def state(rows: int = 1730, shift: float = 0.0) -> bytes:
    watched = monitor()
    feed(watched, rows, np.random.default_rng(4), shift=shift)
    return watched.state()


def remade(arrays: dict[str, Array], header: dict[str, object]) -> bytes:
    """A state with these parts and a right digest."""
    payload = save(arrays, {"state": json.dumps(header)})
    return MAGIC + hashlib.sha256(payload).digest() + payload


def parts(data: bytes) -> tuple[dict[str, Array], dict[str, object]]:
    payload = data[HEAD:]
    length = int.from_bytes(payload[:8], "little")
    header: dict[str, object] = json.loads(json.loads(payload[8 : 8 + length])["__metadata__"]["state"])
    return load(payload), header


@pytest.mark.parametrize("rows", [37, 1730])
def test_the_evidence_goes_on_as_if_it_had_not_stopped(rows: int) -> None:
    one = monitor()
    random = np.random.default_rng(rows)
    feed(one, rows, random)
    other = monitor()
    other.restore(one.state())
    other.restore_samples(one.samples_state())
    assert other.state() == one.state()
    blocks = [draw(70, random, shift=0.5) for _ in range(20)]
    for place, (points, logits, _) in enumerate(blocks):
        found = [watched.update(points, logits, 2e9 + place) for watched in (one, other)]
        assert [alarm.raised for alarm in found[0]] == [alarm.raised for alarm in found[1]]
    assert one.check(3e9).alarms
    assert one.check(3e9).signals == other.check(3e9).signals
    assert one.check(3e9).timeline == other.check(3e9).timeline
    assert one.state() == other.state()


def test_alarms_stand_after_a_restart() -> None:
    again = monitor()
    again.restore(state(1000, 0.8))
    standing = again.check().alarms
    assert standing and all(alarm.acknowledged is None for alarm in standing)
    assert feed(again, 500, np.random.default_rng(1), shift=0.8) == []
    assert again.acknowledge(standing[0].id, "ada")


def test_a_baseline_survives() -> None:
    one = Monitor((contract(), None), options=MonitorOptions(baseline=400))
    random = np.random.default_rng(1)
    for rows in (100, 300, 200, 800):
        feed(one, rows, random)
        other = Monitor((contract(), None), options=MonitorOptions(baseline=400))
        other.restore(one.state())
        if rows == 100:
            # Nothing is fitted yet, and rows are not kept for that.
            assert other.check(2e9).collecting == (0, 400)
            continue
        assert other.state() == one.state()
        assert other.check(2e9).collecting == one.check(2e9).collecting
        assert other.check(2e9).promise == one.check(2e9).promise
    points, logits, _ = draw(700, random)
    one.update(points, logits, 2e9)
    other.update(points, logits, 2e9)
    assert one.state() == other.state()


def test_a_baseline_with_a_column_that_never_varies_survives() -> None:
    """Its deviation is infinite."""
    options = MonitorOptions(baseline=100)
    one, other = (Monitor((contract(), None), options=options) for _ in range(2))
    random = np.random.default_rng(0)
    points, logits, _ = draw(800, random)
    points[:, 0] = 1.0
    for start in range(0, 800, 100):
        one.update(points[start : start + 100], logits[start : start + 100], 1e9 + start)
    assert one.constants and any(np.isinf(array).any() for array in one.constants.values())
    other.restore(one.state())
    assert other.state() == one.state()


def test_what_was_before_a_new_baseline_survives_while_that_is_collected() -> None:
    one, other = monitor(), monitor()
    random = np.random.default_rng(0)
    feed(one, 500, random)
    one.collect_baseline(200)
    feed(one, 100, random, at=2e9)
    other.restore(one.state())
    other.restore_samples(one.samples_state())
    assert other.state() == one.state() and len(other.samples) == len(one.samples) > 0
    feed(other, 200, random, at=3e9)
    view = other.check(3e9 + 5)
    assert view.promise is not None and view.promise.reference == 200
    assert [point.scored for point in view.timeline] == [500, 100]


def test_numbers_near_the_largest_do_not_spoil_the_state() -> None:
    of = Contract(
        name="sums",
        inputs={"x": InputSpec(dtype="float64", shape=("batch", 2))},
        outputs={"y": OutputSpec(dtype="float64", shape=("batch", 1))},
        task=TaskSpec(kind="regression"),
    )
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 2))
    constants = fit(of, [({"x": x}, {"y": x[:, :1]})])
    base = make_reference(of, constants, [({"x": x}, {"y": x[:, :1]}, None)])
    one, other = (Monitor((of, base)) for _ in range(2))
    x[3:9] = 1.7e308
    one.update(x, x[:, :1], 1e9)
    other.restore(one.state())
    other.restore_samples(one.samples_state())
    assert other.state() == one.state() and other.check(2e9).scored == 200


def test_many_samples_are_read_in_one_pass() -> None:
    data = write_samples([sample(place) for place in range(3000)], ["class"], contract())
    arrays = read_samples(data, "it").samples
    assert [float(one.feeds["a/b"][0]) for one in arrays] == list(range(3000))


def sample(place: int) -> Sample:
    feeds, outputs = {"a/b": np.full(1, float(place))}, {"logits": np.zeros(3, np.float32)}
    return Sample(f"it-{place}", 1e9, "recent", feeds, outputs, np.zeros(1), float(place))


def test_without_samples_the_state_has_no_row_and_the_evidence_goes_on() -> None:
    one, other = monitor(keep=0), monitor(keep=0)
    feed(one, 730, np.random.default_rng(2))
    other.restore(one.state())
    points, logits, _ = draw(200, np.random.default_rng(3), shift=0.4)
    one.update(points, logits, 2e9)
    other.update(points, logits, 2e9)
    assert [s.evidence for s in one.check().signals] == [s.evidence for s in other.check().signals]


def test_another_reference_is_refused() -> None:
    other = Monitor((contract(), reference(seed=2)))
    with pytest.raises(MonitorError, match="another reference"):
        other.restore(state())
    with pytest.raises(MonitorError, match="another reference"):
        monitor(baseline=100).restore(state())


@pytest.mark.parametrize("place", [0, 9, 45, 300, 20_000])
def test_a_changed_byte_is_refused(place: int) -> None:
    damaged = bytearray(state())
    damaged[place] ^= 1
    watched = monitor()
    with pytest.raises(MonitorError, match="is damaged"):
        watched.restore(bytes(damaged))
    assert watched.check().scored == 0


def test_a_newer_format_is_refused() -> None:
    arrays, header = parts(state())
    with pytest.raises(MonitorError, match="update shipworthy"):
        monitor().restore(remade(arrays, {**header, "format": 2}))


@given(data=st.binary(max_size=400))
def test_bytes_of_any_kind_are_refused(data: bytes) -> None:
    for whole in (data, MAGIC + data, MAGIC + hashlib.sha256(data).digest() + data):
        with pytest.raises(MonitorError):
            WATCHED.restore(whole)


@given(data=st.binary(max_size=300))
def test_samples_of_any_kind_are_refused(data: bytes) -> None:
    with pytest.raises(MonitorError):
        read_samples(data, "it")


NUMBERS = st.sampled_from([-1, 0, 1, 2**31, 2**63, 2**200, -0.5, 1e300, None, "x", [], {}])
ARRAYS = st.sampled_from(
    [
        np.zeros(0),
        np.zeros((2, 3)),
        np.full((5, 5), np.nan),
        np.full(3, np.inf),
        np.zeros(4, np.int64),
        np.full((1, 2), -1),
        np.zeros((), np.float32),
        np.array([True]),
    ]
)


@cache
def baseline(rows: int) -> bytes:
    watched = without_reference()
    feed(watched, rows, np.random.default_rng(4))
    return watched.state()


def without_reference() -> Monitor:
    return Monitor((contract(), None), options=MonitorOptions(baseline=400))


@settings(max_examples=20)
@given(choice=st.data(), rows=st.sampled_from([0, 500, 900]))
def test_a_hostile_state_is_refused_or_read_and_never_breaks_the_monitor(choice: st.DataObject, rows: int) -> None:
    """One that has a reference of its package, one that collects it, one that has collected it."""
    arrays, header = parts(baseline(rows) if rows else state(1000, 0.8))
    for name in choice.draw(st.lists(st.sampled_from(sorted(arrays)), max_size=2)):
        if choice.draw(st.booleans()):
            arrays.pop(name, None)
        else:
            arrays[name] = choice.draw(ARRAYS)
    for name in choice.draw(st.lists(st.sampled_from(sorted(header)), max_size=2)):
        header[name] = choice.draw(NUMBERS)
    watched = without_reference() if rows else Monitor((contract(), reference()))
    try:
        watched.restore(remade(arrays, header))
    except MonitorError:
        assert watched.check().scored == 0
        return
    points, logits, _ = draw(20, np.random.default_rng(0))
    before = watched.check(3e9)
    watched.update(points, logits, 2e9)
    after = watched.check(3e9)
    assert after.scored == before.scored + 20 or before.collecting is not None


WATCHED = monitor()
