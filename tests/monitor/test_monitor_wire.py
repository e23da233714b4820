"""Frames: what was sent is what is read, in whatever pieces it comes, and garbage is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import MonitorError
from shipworthy.monitor.wire import (
    MAGIC,
    MOST_BODY,
    MOST_HEADER,
    Acknowledge,
    Acknowledged,
    Begin,
    End,
    Frame,
    Layout,
    Message,
    Part,
    Reader,
    Rows,
    arrays_of,
    packed,
)

TEXT = st.text(max_size=20)
NAMES = st.text(min_size=1, max_size=20)
NUMBERS = st.integers(0, 2**31)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Begin, number=NUMBERS, model=NAMES, version=NAMES, variant=TEXT, contract=TEXT),
    st.builds(
        Rows,
        number=NUMBERS,
        at=st.floats(0, 1e12),
        seen=NUMBERS,
        lost=NUMBERS,
        parts=st.lists(
            st.builds(
                Part,
                rows=st.integers(1, 9),
                places=st.none() | st.lists(st.integers(-1, 9), max_size=9),
                arrays=st.lists(
                    st.builds(
                        Layout,
                        name=NAMES,
                        output=st.booleans(),
                        dtype=TEXT,
                        shape=st.lists(st.integers(0, 9), max_size=3),
                    ),
                    max_size=2,
                ),
            ),
            max_size=3,
        ),
    ),
    st.builds(End, number=NUMBERS),
    st.builds(Acknowledge, model=TEXT, alarm=TEXT, who=TEXT, why=TEXT),
    st.builds(Acknowledged, found=st.booleans()),
)


def sent(frames: list[tuple[Message, bytes]]) -> bytes:
    return b"".join(piece for message, body in frames for piece in packed(message, [body]))


@given(st.lists(st.tuples(MESSAGES, st.binary(max_size=50)), max_size=4), st.lists(st.integers(1, 300), max_size=20))
def test_frames_arrive_as_they_were_sent_in_whatever_pieces(
    frames: list[tuple[Message, bytes]], sizes: list[int]
) -> None:
    data, reader, found = sent(frames), Reader(), list[Frame]()
    for size in [*sizes, len(data)]:
        found += reader.feed(data[:size])
        data = data[size:]
    assert [(frame.message, bytes(frame.body)) for frame in found] == frames
    assert reader.waiting == 0


@given(MESSAGES, st.binary(max_size=30), st.data())
def test_what_is_damaged_is_refused_or_waits_and_never_crashes(
    message: Message, body: bytes, data: st.DataObject
) -> None:
    whole = bytearray(sent([(message, body)]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    reader = Reader()
    try:
        for frame in reader.feed(bytes(whole)):
            if isinstance(frame.message, Rows):
                arrays_of(frame.message, frame.body)
    except MonitorError as error:
        assert "restart the server" in str(error)
    else:
        assert reader.waiting <= len(whole)


@given(st.binary(min_size=1, max_size=64))
def test_garbage_is_refused_as_soon_as_it_shows(garbage: bytes) -> None:
    if MAGIC.startswith(garbage[: len(MAGIC)]):
        return
    with pytest.raises(MonitorError, match="does not begin as a frame"):
        list(Reader().feed(garbage))


@pytest.mark.parametrize(("header", "body"), [(MOST_HEADER + 1, 0), (2, MOST_BODY + 1), (2, 2**63)])
def test_no_memory_is_taken_for_lengths_that_cannot_be(header: int, body: int) -> None:
    head = MAGIC + header.to_bytes(4, "little") + body.to_bytes(8, "little")
    with pytest.raises(MonitorError, match="of header and"):
        list(Reader().feed(head))


def rows_of(*parts: Part) -> Rows:
    return Rows(number=0, at=0.0, seen=9, lost=0, parts=list(parts))


def test_rows_are_the_arrays_that_were_sent() -> None:
    x, y = np.arange(6, dtype="<f4").reshape(2, 3), np.array([1, -1], "<i8")
    said = rows_of(
        Part(
            rows=2,
            places=[0, 2],
            arrays=[
                Layout(name="x", output=False, dtype="<f4", shape=[3]),
                Layout(name="y", output=True, dtype="<i8", shape=[]),
                Layout(name="none", output=True, dtype="|b1", shape=[0, 4]),
            ],
        ),
        Part(rows=1, places=[1], arrays=[Layout(name="x", output=False, dtype="<f4", shape=[1])]),
    )
    seconds = np.array([0.5, 0.25, 1.0])
    last = np.array([7.0], "<f4")
    body = b"".join(array.tobytes() for array in (seconds, x, y, last))
    found, parts = arrays_of(said, body)
    assert found.tolist() == seconds.tolist()
    ((places, feeds, outputs), (others, more, none)) = parts
    assert (places.tolist(), others.tolist()) == ([0, 2], [1])
    assert np.array_equal(feeds["x"], x) and np.array_equal(outputs["y"], y) and outputs["none"].shape == (2, 0, 4)
    assert more["x"].tolist() == [[7.0]] and not none


def layout(dtype: str, shape: list[int]) -> Part:
    return Part(rows=2, arrays=[Layout(name="x", output=False, dtype=dtype, shape=shape)])


@pytest.mark.parametrize(
    ("part", "body"),
    [
        (layout("<f4", [3]), np.zeros(2).tobytes() + bytes(23)),
        (layout("<f4", [3]), np.zeros(2).tobytes() + bytes(25)),
        (layout("<f4", [3]), b""),
        (layout("O", []), np.zeros(2).tobytes() + bytes(16)),
        (layout("<U2", []), np.zeros(2).tobytes() + bytes(16)),
        (layout("(2,)<f4", []), np.zeros(2).tobytes() + bytes(16)),
        (layout("f4,f4", []), np.zeros(2).tobytes() + bytes(16)),
        (layout("no", []), np.zeros(2).tobytes()),
        (layout("<f4", [-1, -1]), np.zeros(2).tobytes() + bytes(8)),
        (layout("<f4", [2**62, 2**62]), np.zeros(2).tobytes() + bytes(8)),
        (layout("<f4", [0, 2**70]), np.zeros(2).tobytes()),
    ],
)
def test_a_layout_that_is_not_that_of_the_body_is_refused(part: Part, body: bytes) -> None:
    with pytest.raises(MonitorError):
        arrays_of(rows_of(part), body)


@pytest.mark.parametrize("places", [[0], [0, 2], [1, 0], [0, 0], [-1, 0], [0, 2**70], [0, 1, 2]])
def test_places_that_are_not_those_of_all_rows_are_refused(places: list[int]) -> None:
    body = np.zeros(3).tobytes()
    one, other = Part(rows=2, places=[0, 1], arrays=[]), Part(rows=1, places=[2], arrays=[])
    assert arrays_of(rows_of(one, other), body)[1][0][0].tolist() == [0, 1]
    with pytest.raises(MonitorError):
        arrays_of(rows_of(Part(rows=2, places=places, arrays=[]), other), body)


def test_no_arrays_are_no_rows() -> None:
    seconds, parts = arrays_of(rows_of(), b"")
    assert len(seconds) == 0 and parts == []
