"""A hundred thousand requests that nobody should send: each gets a documented answer, and nothing is left of it."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import random
import re
import struct
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from connection_cases import Listening, listening, request, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from server_cases import DIGITS, digits, digits_run, pixels, png, predictor, prices, sentiment, text64

from shipworthy.server import bodies, create_app

IMAGE = png(pixels())
FORM = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + IMAGE + b"\r\n--b--\r\n"
JSON, PNG, MULTIPART = "application/json", "image/png", "multipart/form-data; boundary=b"
BINARY = "application/octet-stream"


def v2(name: str, datatype: str, shape: list[int], data: Any) -> bytes:
    tensor = {"name": name, "datatype": datatype, "shape": shape, "data": data}
    return json.dumps({"id": "1", "inputs": [tensor], "outputs": [{"name": "price"}]}).encode()


def binary(name: str, shape: list[int], data: bytes) -> tuple[bytes, int]:
    parameters = {"binary_data_size": len(data)}
    head = json.dumps(
        {"inputs": [{"name": name, "datatype": "FP32", "shape": shape, "parameters": parameters}]}
    ).encode()
    return head + data, len(head)


BINARY_BODY, BINARY_HEAD = binary("row", [1, 2], struct.pack("<2f", 1, 2))
VALID: list[tuple[str, bytes, dict[str, str]]] = [
    ("/models/prices/predict", b'{"row": [1, 2.5]}', {"content-type": JSON}),
    (
        "/models/prices/predict",
        b'{"instances": [{"house": {"rooms": 3, "area": 1e3}}, {"row": [1, 2]}]}',
        {"content-type": JSON},
    ),
    ("/models/prices/predict?round=3", b'{"house": {"rooms": 3, "area": 10}}', {"content-type": JSON}),
    ("/models/digits/predict", json.dumps({"image": text64(IMAGE)}).encode(), {"content-type": JSON}),
    ("/models/digits/predict", IMAGE, {"content-type": PNG}),
    ("/models/digits/predict", FORM, {"content-type": MULTIPART}),
    (
        "/models/sentiment/predict",
        b'{"text": "the cat \\u00e9 sat"}',
        {"content-type": JSON, "x-request-timeout-ms": "900"},
    ),
    (
        "/models/sentiment/predict",
        b'{"instances": [{"text": "cat"}, {"ids": [1, 2], "mask": [1, 1]}]}',
        {"content-type": JSON},
    ),
    ("/v2/models/prices/infer", v2("row", "FP32", [1, 2], [1, 2.5]), {"content-type": JSON}),
    ("/v2/models/prices/infer", v2("row", "FP32", [2, 2], [[1, 2], [3, 4]]), {"content-type": JSON}),
    (
        "/v2/models/prices/infer",
        BINARY_BODY,
        {"content-type": BINARY, "inference-header-content-length": str(BINARY_HEAD)},
    ),
]
WORDS = [
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"1e-400", b"9" * 400, b'""', b"[]", b"{}", b'"\\ud800"',
    b'"\\u0000"', b"\xff\xfe", b"\xed\xa0\x80", b"[" * 300, b'{"a":' * 300, b'"instances":', b'"row":', b",", b":",
    b"\0",
    b'"binary_data_size": -1', b'"binary_data_size": 1e9', b'"shape": [-1, 2]', b'"shape": [4611686018427387904, 4]',
    b'"datatype": "BYTES"', b"\r\n--b\r\n", b"--b--", b"IHDR", b"\x7f\xff\xff\xff", b"=" * 5, b"\xf0\x9f\x90\x88",
]  # fmt: skip
HEADERS = {
    "content-type": [
        "",
        "text/plain",
        "application/json; charset=utf-16",
        "image/gif",
        "multipart/form-data",
        "a" * 3_000,
        "/",
    ],
    "content-encoding": ["gzip", "br", ""],
    "content-length": ["5", "0", "99999999999999999999", "x", "-1", ""],
    "x-request-timeout-ms": ["0", "-1", "1e3", "", "9" * 30, "1", "\u00b2", "nan"],
    "x-request-id": ["", "a b", "x" * 500, "<>"],
    "inference-header-content-length": ["0", "-1", "5", "999999", "x", "", "9" * 30],
    "traceparent": ["00-0-0-0", "", "x" * 500],
    "accept": ["", "text/html", "application/octet-stream"],
}


def mutate(rng: random.Random, body: bytes) -> bytes:
    """Bytes changed, cut out, doubled, swapped, or put in; or the whole cut short."""
    made = bytearray(body)
    for _ in range(rng.randint(0, 5)):
        at = rng.randint(0, len(made))
        until = min(len(made), at + rng.choice((0, 1, 2, 5, 40)))
        piece = bytes(made[at:until])
        made[at:until] = rng.choice((b"", piece * 2, piece[::-1], rng.choice(WORDS), rng.randbytes(rng.randint(0, 6))))
    return bytes(made[: rng.randint(0, len(made))] if rng.random() < 0.15 else made)


def mutated(rng: random.Random) -> tuple[str, bytes, dict[str, str]]:
    """A request whose body belongs to it, or to another one, changed here and there."""
    path, body, headers = rng.choice(VALID)
    if rng.random() < 0.2:
        body = rng.choice(VALID)[1]
    headers = dict(headers)
    while rng.random() < 0.2:
        name = rng.choice(list(HEADERS))
        headers[name] = rng.choice(HEADERS[name])
    if rng.random() < 0.1:
        path = path.split("?")[0] + "?round=" + rng.choice(("", "-1", "18", "\u00b2", "1&round=x", "9" * 400))
    return path, mutate(rng, body), headers


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["FP32", "BYTES", "row", "image", text64(IMAGE)]),
)
WORDS_OF_PROTOCOLS = (
    *("row", "house", "rooms", "area", "image", "text", "ids", "mask", "instances", "", "name", "shape", "data", "id"),
    *("inputs", "outputs", "datatype", "parameters", "binary_data_size", "binary_data_output"),
)
KEYS = st.sampled_from(WORDS_OF_PROTOCOLS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=16,
)


class Asker:
    """Asks an application without a socket, as a web server would."""

    def __init__(self, folder: Path) -> None:
        models = (prices(), digits(), sentiment(folder))
        self.app = create_app({model.contract.name: model for model in models})
        fast: Any = self.app.app
        self.document = fast.openapi()
        self.seen: Counter[tuple[str, int]] = Counter()

    async def ask(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        """Check what comes back."""
        path, _, query = path.partition("?")
        pieces = [body[:50], body[50:]] if len(body) > 50 else [body]
        messages = [{"type": "http.request", "body": piece, "more_body": piece is not pieces[-1]} for piece in pieces]
        messages.reverse()
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        given = {"host": "localhost", "content-length": str(len(body)), **headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }
        await self.app(scope, receive, send)
        self._check(path, sent)

    def _check(self, path: str, sent: list[dict[str, Any]]) -> None:
        status = sent[0]["status"]
        headers = dict(sent[0]["headers"])
        content = b"".join(message["body"] for message in sent[1:])
        self.seen[path, status] += 1
        assert status < 500 or status == 504, content
        assert str(status) in self._documented(path), f"{status} of {path} is not in the OpenAPI document"
        assert int(headers[b"content-length"]) == len(content)
        if b"json" in headers[b"content-type"] and b"inference-header-content-length" not in headers:
            answer = json.loads(content)
            if status != 200 and path.startswith("/v2"):
                assert isinstance(answer["error"], str)
            elif status != 200:
                assert headers[b"content-type"] == b"application/problem+json"
                assert answer["status"] == status and answer["detail"]
                assert (status == 422) == bool(answer.get("errors"))

    def _documented(self, path: str) -> dict[str, Any]:
        """The answers of the operation that is asked, by status."""
        for known, item in self.document["paths"].items():
            parts, asked = known.split("/"), path.split("/")
            if len(parts) == len(asked) and all(a == b or a.startswith("{") for a, b in zip(parts, asked, strict=True)):
                found: dict[str, Any] = item["post"]["responses"]
                return found
        raise AssertionError(f"{path} is not in the OpenAPI document")

    @property
    def held(self) -> int:
        """Requests that a model still has on its books."""
        catalog = self.app._catalog
        return sum(lane.queue.requests for model in catalog.models.values() for lane in model.versions.values())


@pytest.fixture
def asker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asker:
    # A server does not let it warn of every malformed form, which is its sender's doing.
    monkeypatch.setattr(logging.getLogger("python_multipart"), "level", logging.CRITICAL)
    return Asker(tmp_path)


async def in_bulk(asker: Asker, rng: random.Random, count: int) -> None:
    """Some at a time, so that they share batches."""
    for _ in range(count // 20):
        await asyncio.gather(*(asker.ask(*mutated(rng)) for _ in range(20)))


@pytest.mark.long
def test_mutated_requests_leave_nothing(asker: Asker, effort: float) -> None:
    """90,000 of them; memory, tasks, threads and places are afterwards as they were after the first tenth."""
    count = int(90_000 * effort)
    rng = random.Random(7)

    async def run() -> tuple[int, int]:
        for path, body, headers in VALID:
            await asker.ask(path, body, headers)
            assert asker.seen[path.split("?")[0], 200], f"{body[:60]!r} is valid"
        await in_bulk(asker, rng, count // 10)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        threads, tasks = threading.active_count(), len(asyncio.all_tasks())
        await in_bulk(asker, rng, count - count // 10)
        assert asker.held == 0
        assert len(asyncio.all_tasks()) == tasks
        assert threading.active_count() <= threads + 8, "no more threads than decode and run"
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        return grown, count - count // 10

    grown, asked = asyncio.run(run())
    assert grown < 200_000 + 20 * asked, f"{grown} bytes are left of {asked} requests"
    statuses = {status for _, status in asker.seen}
    assert statuses >= {200, 400, 413, 415, 422}, "the requests reach every kind of answer"


@pytest.mark.long
def test_generated_values_leave_nothing(asker: Asker, effort: float) -> None:
    """10,000 values of JSON that use the words of the protocols in the wrong places."""
    paths = sorted({path.split("?")[0] for path, _, _ in VALID})
    with asyncio.Runner() as runner:

        @settings(max_examples=int(10_000 * effort), deadline=None, derandomize=True, database=None)
        @given(path=st.sampled_from(paths), value=st.dictionaries(KEYS, VALUES, max_size=5) | VALUES)
        def check(path: str, value: Any) -> None:
            runner.run(asker.ask(path, json.dumps(value).encode(), {"content-type": JSON}))

        check()
    assert asker.held == 0


BOMBS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "deep list": lambda: ("/models/prices/predict", b"[" * 1_000_000),
    "deep object": lambda: ("/models/prices/predict", b'{"row":' * 100_000),
    "deep and closed": lambda: ("/models/prices/predict", b'{"row":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "long number": lambda: ("/models/prices/predict", b'{"row": [' + b"9" * 1_000_000 + b", 1]}"),
    "long exponent": lambda: ("/models/prices/predict", b'{"row": [1e' + b"9" * 1_000_000 + b", 1]}"),
    "many long numbers": lambda: ("/models/prices/predict", b'{"row": [' + (b"9" * 4_000 + b",") * 1_000 + b"1]}"),
    "long name": lambda: ("/models/prices/predict", b'{"' + b"x" * 2**21 + b'": 1}'),
    "long text": lambda: ("/models/prices/predict", b'{"row": "' + b"x" * 2**21 + b'"}'),
    "many instances": lambda: ("/models/prices/predict", b'{"instances": [' + b"0," * 10_001 + b"0]}"),
    "one name often": lambda: ("/models/prices/predict", b"{" + b'"row": [1, 2], ' * 50_000 + b'"row": [1, 2]}'),
    "deep v2": lambda: ("/v2/models/prices/infer", b'{"inputs": ' + b"[" * 100_000),
    "shape beyond memory": lambda: ("/v2/models/prices/infer", v2("row", "FP32", [2**40, 2**40], [1])),
    "shape without data": lambda: ("/v2/models/prices/infer", v2("row", "FP32", [0, 2], [])),
}


@pytest.mark.parametrize("bomb", BOMBS, ids=str)
def test_bombs(asker: Asker, bomb: str) -> None:
    path, body = BOMBS[bomb]()
    asyncio.run(asker.ask(path, body, {"content-type": JSON}))
    assert all(400 <= status < 500 for _, status in asker.seen) == (bomb != "one name often")


def test_images_are_counted_before_they_are_decoded(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a hundred bytes becomes as many numbers as any."""
    monkeypatch.setattr(bodies, "MAX_UNFOLDED", 4 * 64 * 4)
    image = text64(IMAGE)
    for count in (4, 5):
        body = json.dumps({"instances": [{"image": image}] * count}).encode()
        asyncio.run(asker.ask("/models/digits/predict", body, {"content-type": JSON}))
        body = v2("image", "BYTES", [count], [image] * count).replace(b"price", b"logits")
        asyncio.run(asker.ask("/v2/models/digits/infer", body, {"content-type": JSON}))
    assert asker.seen == {
        (path, status): 1 for path in ("/models/digits/predict", "/v2/models/digits/infer") for status in (200, 413)
    }


def test_pixels_are_counted_before_they_are_decoded(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of thirty kilobytes can keep a decoder for a quarter of a second."""
    contract = copy.deepcopy(DIGITS)
    contract["inputs"]["image"]["accept"]["resize"] = "stretch"
    asker.app = create_app({"digits": predictor(contract, digits_run)})
    monkeypatch.setattr(bodies, "MAX_CLAIMED", 4 * 40 * 40)
    image = text64(png(np.zeros((40, 40), np.uint8)))
    for count in (4, 5):
        body = json.dumps({"instances": [{"image": image}] * count}).encode()
        asyncio.run(asker.ask("/models/digits/predict", body, {"content-type": JSON}))
    assert asker.seen == {("/models/digits/predict", 200): 1, ("/models/digits/predict", 413): 1}


def conversation(server: Listening, data: bytes) -> bytes:
    """What comes back. What follows the request fills up a body that is too short, and then is none: it ends the
    connection, unless the length was changed to a large one."""
    got = b""
    with server.connect(timeout=0.3) as client:
        try:
            client.sendall(data + b"\xff" * 4_096)
            while piece := client.recv(65_536):
                got += piece
        except (ConnectionError, TimeoutError):
            return got
    return got


def test_mutated_bytes_on_the_wire(asker: Asker, effort: float) -> None:
    """4,000 requests changed anywhere, also in their heads; the server answers good ones all the while."""
    rng, count, answered = random.Random(11), int(4_000 * effort), 0
    with listening(asker.app) as server:
        good = request(
            "POST",
            "/models/prices/predict",
            b'{"row": [1, 2]}',
            b"content-type: application/json",
            b"connection: close",
        )
        for number in range(count):
            path, body, headers = rng.choice(VALID)
            lines = [f"{name}: {value}".encode() for name, value in headers.items()]
            got = conversation(server, mutate(rng, request("POST", path, body, *lines)))
            answered += got.startswith(b"HTTP/")
            for status in re.findall(rb"HTTP/1.1 ([0-9]{3}) ", got):
                assert int(status) < 500, got
            if number % 50 == 0:
                assert server.ask(good).startswith(b"HTTP/1.1 200 ")
        assert answered > 0.95 * count
        wait_until(lambda: asker.held == 0)
