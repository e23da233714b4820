"""Bodies of the protocol: what goes in comes out, and what is malformed is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipworthy.server.problems import ProblemError
from shipworthy.server.v2.datatypes import BYTES, DTYPES, NAMES, objects
from shipworthy.server.v2.outputs import Output
from shipworthy.server.v2.request import InferRequest
from shipworthy.server.v2.rest_tensors import read_request, write_answer

MOST = 1000
NUMBERS = [dtype for name, dtype in DTYPES.items() if name != BYTES]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
ANY = st.one_of(
    *(hnp.arrays(dtype, SHAPES) for dtype in NUMBERS),
    SHAPES.flatmap(
        lambda shape: st.lists(st.binary(max_size=9), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
            lambda elements: objects(elements, shape)
        )
    ),
)


def body(inputs: list[dict[str, Any]], raw: bytes = b"", **more: Any) -> tuple[bytes, int | None]:
    """A request as a client writes it, and the length of its JSON where bytes follow."""
    header = json.dumps({"inputs": inputs, **more}).encode()
    return header + raw, len(header) if raw else None


def as_request(answer: bytes, header_length: int | None) -> InferRequest:
    """An answer, read as if it were a request: both have their tensors in the same form."""
    header = answer if header_length is None else answer[:header_length]
    described = json.loads(header)
    rest = b"" if header_length is None else answer[header_length:]
    content = json.dumps({"inputs": described["outputs"]}).encode()
    return read_request(content + rest, None if header_length is None else len(content), MOST)


@given(st.lists(ANY, min_size=1, max_size=3))
def test_any_tensor_survives_as_bytes(arrays: list[np.ndarray]) -> None:
    outputs = [Output(f"t{place}", NAMES[array.dtype], array, True) for place, array in enumerate(arrays)]
    back = as_request(*write_answer("m", "1", "", outputs))
    for array, tensor in zip(arrays, back.tensors, strict=True):
        assert tensor.array.dtype == array.dtype and tensor.array.shape == array.shape
        if array.dtype.hasobject:
            assert tensor.array.tolist() == array.tolist()
        else:
            assert tensor.array.tobytes() == array.tobytes(), "to the bit, whatever it is"
            assert tensor.array.flags.aligned


@given(st.one_of(*(hnp.arrays(dtype, SHAPES) for dtype in NUMBERS)))
def test_any_number_survives_as_json(array: np.ndarray) -> None:
    finite = np.isfinite(array) if array.dtype.kind == "f" else np.ones(array.shape, bool)
    content, header_length = write_answer("m", "1", "", [Output("t", NAMES[array.dtype], array, False)])
    assert header_length is None
    assert [one is not None for one in json.loads(content)["outputs"][0]["data"]] == finite.ravel().tolist()
    whole = np.where(finite, array, np.zeros((), array.dtype))
    content, _ = write_answer("m", "1", "", [Output("t", NAMES[array.dtype], whole, False)])
    back = as_request(content, None).tensors[0].array
    assert back.dtype == array.dtype and back.shape == array.shape
    assert np.array_equal(back, whole)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=9), min_size=1))
def test_texts_survive_as_json(words: list[str]) -> None:
    array = objects(words, (len(words),))
    content, _ = write_answer("m", "1", "", [Output("t", BYTES, array, False)])
    assert as_request(content, None).tensors[0].array.tolist() == words


@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)))
def test_nested_and_flat_lists_are_the_same(array: np.ndarray) -> None:
    described = {"name": "x", "datatype": "INT32", "shape": list(array.shape)}
    for data in (array.tolist(), array.ravel().tolist()):
        back = read_request(*body([{**described, "data": data}]), MOST)
        assert np.array_equal(back.tensors[0].array, array)


def test_bytes_are_not_copied_where_they_are_aligned() -> None:
    array = np.arange(6, dtype=np.uint8)
    content, length = body(
        [{"name": "x", "datatype": "UINT8", "shape": [6], "parameters": {"binary_data_size": 6}}], array.tobytes()
    )
    found = read_request(content, length, MOST).tensors[0].array
    assert not found.flags.owndata
    assert np.shares_memory(found, np.frombuffer(content, np.uint8))


X = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}
RAW = {"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}

MALFORMED: list[tuple[str, bytes, int | None, str]] = [
    ("no JSON", b"{", None, "no JSON"),
    ("a number that JSON has not", b'{"inputs": [NaN]}', None, "no JSON"),
    ("endless nesting", b"[" * 100_000, None, "no JSON"),
    ("no object", b"[]", None, "expected an object"),
    ("no inputs", b"{}", None, "inputs"),
    ("empty inputs", b'{"inputs": []}', None, "empty"),
    ("inputs that are no objects", b'{"inputs": [1]}', None, "list of objects"),
    ("too many inputs", json.dumps({"inputs": [{}] * 300}).encode(), None, "256"),
    ("no name", *body([{**X, "name": ""}]), "name"),
    ("a name that is a number", *body([{**X, "name": 3}]), "name"),
    ("the same name twice", *body([X, X]), "twice"),
    ("no datatype", *body([{"name": "x", "shape": [1], "data": [1]}]), "datatype"),
    ("another datatype", *body([{**X, "datatype": "FP8"}]), "FP8"),
    ("BF16", *body([{**X, "datatype": "BF16"}]), "BF16 is not taken"),
    ("no shape", *body([{"name": "x", "datatype": "FP32", "data": [1]}]), "shape"),
    ("a negative size", *body([{**X, "shape": [-1]}]), "shape"),
    ("a size that is no number", *body([{**X, "shape": ["2"]}]), "shape"),
    ("a size that is a boolean", *body([{**X, "shape": [True, 2]}]), "shape"),
    ("a huge size", *body([{**X, "shape": [2**31]}]), "shape"),
    ("huge sizes without elements", *body([{**X, "shape": [0, 2**30, 2**30], "data": []}]), "too large"),
    ("too many dimensions", *body([{**X, "shape": [1] * 33, "data": [1]}]), "dimensions"),
    ("too few elements", *body([{**X, "data": [1]}]), "2 elements"),
    ("a string of numbers", *body([{**X, "data": ["1", "2"]}]), "expected a number"),
    ("true for a number", *body([{**X, "data": [True, 2]}]), "expected a number"),
    ("no data", *body([{"name": "x", "datatype": "FP32", "shape": [2]}]), "data is missing"),
    ("a list that is ragged", *body([{**X, "shape": [2, 2], "data": [[1, 2], [3]]}]), "neither flat nor nested"),
    ("a list in a flat list", *body([{**X, "data": [1, [2]]}]), "expected a number"),
    ("an overflow", *body([{**X, "data": [1e39, 2]}]), "overflows"),
    ("a fraction", *body([{**X, "datatype": "INT8", "data": [1.5, 2]}]), "not whole"),
    ("out of range", *body([{**X, "datatype": "INT8", "data": [128, 2]}]), "outside"),
    ("a large negative", *body([{**X, "datatype": "UINT64", "data": [-1, 2]}]), "whole number"),
    ("a BOOL that is a number", *body([{**X, "datatype": "BOOL", "data": [1, 0]}]), "true or false"),
    ("BYTES that are numbers", *body([{**X, "datatype": "BYTES"}]), "expected strings"),
    ("parameters that are a list", *body([{**X, "parameters": []}]), "parameters"),
    ("shared memory", *body([{**X, "parameters": {"shared_memory_region": "r"}}]), "shared memory"),
    ("both forms", *body([{**RAW, "data": [1, 2]}], bytes(8)), "not both"),
    ("bytes without the header", *body([RAW]), "Inference-Header-Content-Length"),
    ("too few bytes", *body([RAW], bytes(7)), "more than the body has"),
    ("too many bytes", *body([RAW], bytes(9)), "belong to no input"),
    ("a size that is not the shape's", *body([{**RAW, "shape": [3]}], bytes(8)), "expected 12 bytes"),
    ("a negative size of bytes", *body([{**RAW, "parameters": {"binary_data_size": -8}}], bytes(8)), "more than"),
    ("a JSON longer than the body", b"{}", 3, "more than the body has"),
    ("a BOOL of 2", *body([{**RAW, "datatype": "BOOL", "shape": [8]}], b"\2" * 8), "0 or 1"),
    ("BYTES cut short", *body([{**RAW, "datatype": "BYTES", "shape": [1]}], b"\5\0\0\0abcd"), "1 elements"),
    ("BYTES of another count", *body([{**RAW, "datatype": "BYTES", "shape": [1]}], bytes(8)), "1 elements"),
    ("an id that is a number", *body([X], id=7), "id"),
    ("an id that is long", *body([X], id="i" * 2000), "id"),
    ("a sequence", *body([X], parameters={"sequence_id": 4}), "no state"),
    ("a negative timeout", *body([X], parameters={"timeout": -1}), "timeout"),
    ("a timeout that is text", *body([X], parameters={"timeout": "1"}), "timeout"),
    ("a priority that is text", *body([X], parameters={"priority": "high"}), "priority"),
    ("outputs that are no list", *body([X], outputs=0), "list of objects"),
    ("an output that is asked for twice", *body([X], outputs=[{"name": "y"}] * 2), "twice"),
    ("classes that are text", *body([X], outputs=[{"name": "y", "parameters": {"classification": "3"}}]), "classes"),
    ("a choice that is a number", *body([X], parameters={"binary_data_output": 1}), "true or false"),
]


@pytest.mark.parametrize(
    ("content", "length", "words"), [case[1:] for case in MALFORMED], ids=[c[0] for c in MALFORMED]
)
def test_what_is_malformed_is_refused(content: bytes, length: int | None, words: str) -> None:
    with pytest.raises(ProblemError, match=words) as caught:
        read_request(content, length, MOST)
    assert caught.value.type.status == 400


def test_too_many_texts_are_too_large() -> None:
    with pytest.raises(ProblemError) as caught:
        read_request(*body([{"name": "x", "datatype": "BYTES", "shape": [MOST + 1], "data": []}]), MOST)
    assert caught.value.type.status == 413


def test_parameters_are_read() -> None:
    asked = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False, "classification": 2, "other": 1}}]
    content, _ = body(
        [X],
        id="seven",
        outputs=asked,
        parameters={"timeout": 1500, "binary_data_output": True, "priority": 3, "unknown": {"is": "ignored"}},
    )
    request = read_request(content, None, MOST)
    assert (request.id, request.timeout_s, request.binary) == ("seven", 0.0015, True)
    assert request.asked is not None
    assert [(one.name, one.binary, one.classes) for one in request.asked] == [("a", True, 0), ("b", False, 2)]


@settings(max_examples=300)
@given(st.data())
def test_mutated_bodies_are_read_or_refused(data: st.DataObject) -> None:
    """Every byte may be another, or missing: never anything but a request or a refusal."""
    content, length = body(
        [
            {"name": "a", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 12}},
            {**RAW, "shape": [2, 1]},
            {**X, "name": "c", "datatype": "INT16"},
        ],
        b"\2\0\0\0ab\2\0\0\0cd" + bytes(8),
        parameters={"timeout": 3},
    )
    mutated = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        if data.draw(st.booleans()):
            mutated[place] = data.draw(st.integers(0, 255))
        else:
            del mutated[place : place + data.draw(st.integers(1, 9))]
    length = data.draw(st.sampled_from([length, None, 0, len(mutated), len(mutated) + 1]))
    try:
        found = read_request(bytes(mutated), length, MOST)
    except ProblemError as error:
        assert error.type.status in (400, 413)
        assert len(error.detail) < 400
    else:
        assert found.tensors


@pytest.mark.long
def test_a_hundred_thousand_malformed_bodies(effort: float) -> None:
    """Mutations of good bodies, seeded: each is read or refused in few words, and nothing else is raised."""
    random = np.random.default_rng(11)
    binary, length = body(
        [
            {"name": "a", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 12}},
            {**RAW, "shape": [2, 1]},
        ],
        b"\2\0\0\0ab\2\0\0\0cd" + bytes(8),
        id="i",
        parameters={"timeout": 3},
    )
    plain, _ = body([X, {**X, "name": "y", "datatype": "INT8"}], outputs=[{"name": "o"}])
    outcomes = {True: 0, False: 0}
    for number in range(int(100_000 * effort)):
        content, header = (binary, length) if number % 2 else (plain, None)
        mutated = bytearray(content)
        for place in random.integers(0, len(mutated), 1 + number % 5):
            mutated[place] = random.integers(0, 256)
        cut = bytes(mutated[: random.integers(1, len(mutated) + 1)]) if number % 3 == 0 else bytes(mutated)
        try:
            assert read_request(cut, header, MOST).tensors
            outcomes[True] += 1
        except ProblemError as error:
            assert error.type.status in (400, 413) and len(error.detail) < 500
            outcomes[False] += 1
    assert min(outcomes.values()) > 0
