"""Every refusal: its status, its type, and that it says what is wrong and nothing of the inside."""

from __future__ import annotations

import asyncio
import builtins
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from server_cases import PRICES, assert_problem, client, digits, pixels, png, predictor, prices, text64

from shipworthy.contract import Array, Arrays
from shipworthy.errors import EngineError, ServeError
from shipworthy.server import Settings, create_app

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}


async def test_every_fault_of_every_instance_is_named() -> None:
    instances = [{"image": text64(png(pixels()))}, {"image": "?"}, {}, {"image": [[1]], "more": 1}, 5]
    async with client(digits()) as http:
        response = await http.post("/predict", json={"instances": instances})
    errors = assert_problem(response, 422, "invalid-input")["errors"]
    assert [(error["sample_index"], error["field"]) for error in errors] == [
        (1, "image"),
        (2, "image"),
        (3, "image"),
        (3, "more"),
        (4, "instance"),
    ]
    assert all(error["reason"] for error in errors)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"row": [NaN, 1]}',
        b'{"row": [Infinity, 1]}',
        b'{"row": [1, 2]} {}',
        b"[" * 100_000,
        b'{"row":' * 100_000,
        b"9" * 100_000,
        '{"row": "\ufeff'.encode("utf-16"),
        b'{"row": "\\ud800"}',
    ],
    ids=lambda body: ascii(body[:12]),
)
async def test_body_that_is_no_json(body: bytes) -> None:
    async with client(prices()) as http:
        assert_problem(await http.post("/predict", content=body, headers=JSON), 400, "malformed")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("[]", "body"),
        ("null", "body"),
        ("3", "body"),
        ("{}", "row"),
        ('{"instances": []}', "instances"),
        ('{"instances": {}}', "instances"),
        ('{"instances": [{"row": [1, 2]}], "row": [1, 2]}', "row"),
        ('{"row": [1, 1e999]}', "row"),
        ('{"row": [1, 1' + "0" * 400 + "]}", "row"),
        ('{"row": [true, 1]}', "row"),
    ],
)
async def test_json_that_is_no_input(body: str, field: str) -> None:
    async with client(prices()) as http:
        response = await http.post("/predict", content=body, headers=JSON)
    assert assert_problem(response, 422, "invalid-input")["errors"][0]["field"] == field


async def test_duplicate_keys_count_once() -> None:
    async with client(prices()) as http:
        response = await http.post("/predict", content=b'{"row": [9, 9], "row": [1, 2]}', headers=JSON)
    assert response.json()["value"] == 3.0


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "image/gif",
        "application/json-seq",
        "é",
        "json",
        ";",
    ],
)
async def test_content_type_that_the_model_does_not_take(content_type: str | None) -> None:
    headers = [] if content_type is None else [(b"content-type", content_type.encode())]
    async with client(prices()) as http:
        response = await http.post("/predict", content=b'{"row": [1, 2]}', headers=headers)
    assert "application/json" in assert_problem(response, 415, "unsupported-media-type")["detail"]


async def test_content_type_may_have_parameters_and_capitals() -> None:
    async with client(prices()) as http:
        headers = {"content-type": "Application/JSON; charset=utf-8"}
        assert (await http.post("/predict", content=b'{"row": [1, 2]}', headers=headers)).status_code == 200


async def test_image_where_none_is_accepted() -> None:
    async with client(prices()) as http:
        headers = {"content-type": "image/png"}
        assert_problem(
            await http.post("/predict", content=png(pixels()), headers=headers), 415, "unsupported-media-type"
        )


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"nonsense"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno headers\r\n--x--\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\ncut',
        ),
        ("multipart/form-data; boundary=" + "x" * 500, b"--x--"),
        ("multipart/form-data; boundary*=a; boundary*1=b", b"--b--"),
        ("multipart/form-data; boundary*" + "9" * 5000 + "=x", b"--x--"),
        ("multipart/form-data; boundary*0*=idna''b", b"--b--"),
        ("multipart/form-data; boundary*=punycode''a%ff", b"--a--"),
    ],
)
async def test_form_that_is_malformed(content_type: str, body: bytes) -> None:
    async with client(digits()) as http:
        response = await http.post("/predict", content=body, headers={"content-type": content_type})
    assert_problem(response, 400, "malformed")


async def test_form_with_plain_fields_and_with_broken_files() -> None:
    async with client(digits()) as http:
        plain = await http.post("/predict", files={"image": ("a", png(pixels()))}, data={"name": "value"})
        broken = await http.post("/predict", files=[("image", ("a", png(pixels()))), ("image", ("b", b"broken"))])
    assert assert_problem(plain, 422, "invalid-input")["errors"][0]["reason"] == "expected a file"
    errors = assert_problem(broken, 422, "invalid-input")["errors"]
    assert errors == [{"sample_index": 1, "field": "image", "reason": "the bytes are no PNG or JPEG image"}]


async def test_unknown_routes_and_methods() -> None:
    async with client(prices()) as http:
        assert_problem(await http.get("/nothing"), 404, "not-found")
        assert_problem(await http.post("/predict/", json={}), 404, "not-found")
        assert_problem(await http.get("/models/none"), 404, "not-found")
        assert_problem(await http.post("/models/none/predict", json={"row": [1, 2]}), 404, "not-found")
        refused = await http.get("/predict")
        assert_problem(refused, 405, "method-not-allowed")
        assert refused.headers["allow"] == "POST"


async def test_announced_length_above_the_limit_is_refused_unread() -> None:
    async with client(prices(), settings=Settings(max_body_bytes=100)) as http:
        response = await http.post("/predict", content=b" " * 101, headers=JSON)
        assert_problem(response, 413, "too-large")
        headers = {**JSON, "content-length": "9" * 5000}
        assert_problem(await http.post("/predict", content=b"{}", headers=headers), 413, "too-large")
        assert (await http.post("/predict", content=b'{"row": [1, 2]}'.ljust(100), headers=JSON)).status_code == 200


async def test_stream_is_left_where_it_passes_the_limit() -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * 10

    async with client(prices(), settings=Settings(max_body_bytes=100)) as http:
        assert_problem(await http.post("/predict", content=chunks(), headers=JSON), 413, "too-large")
    assert sent == 11


async def test_bodies_in_chunks_do_not_fill_the_queue() -> None:
    """Nobody knows their length before they are read; then it is known."""
    go = threading.Event()

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        assert go.wait(30)
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}

    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"row": [1, 2]}'

    headers = {**JSON, "x-request-timeout-ms": "30000"}
    async with client(predictor(PRICES, run), settings=Settings(max_body_bytes=1000, max_waiting_bytes=2500)) as http:
        asked = [asyncio.create_task(http.post("/predict", content=chunks(), headers=headers)) for _ in range(6)]
        for _ in range(50):
            await asyncio.sleep(0)
        go.set()
        assert [response.status_code for response in await asyncio.gather(*asked)] == [200] * 6


async def test_too_many_instances() -> None:
    async with client(prices(), settings=Settings(max_instances=2)) as http:
        assert_problem(await http.post("/predict", json={"instances": [{"row": [1, 2]}] * 3}), 413, "too-large")


async def test_failure_in_the_engine_says_nothing_of_the_inside() -> None:
    def fails(feeds: Arrays) -> dict[str, Array]:
        raise EngineError("/secret/model.onnx", "the kernel failed")

    async with client(digits(run=fails)) as http:
        headers = {"x-request-id": "r-1"}
        response = await http.post("/predict", json={"image": text64(png(pixels()))}, headers=headers)
    body = assert_problem(response, 500, "internal")
    assert "secret" not in response.text
    assert "kernel" not in response.text
    assert body["request_id"] == "r-1"


async def test_failure_is_logged_once_under_the_id_of_its_request(caplog: pytest.LogCaptureFixture) -> None:
    def fails(feeds: Arrays) -> dict[str, Array]:
        raise EngineError("model.onnx", "the kernel failed")

    app = create_app({"digits": digits(run=fails)})
    # The transport raises what the application raises, which a web server would log once more.
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        body = {"image": text64(png(pixels()))}
        await http.post("/models/digits/predict", json=body, headers={"x-request-id": "r-2"})
        assert (await http.post("/predict", json={})).status_code == 422
    (record,) = (record for record in caplog.records if record.name == "shipworthy.server")
    assert record.levelname == "ERROR"
    assert record.getMessage() == "request r-2 failed: POST '/models/digits/predict'"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], EngineError)


async def test_answer_that_is_not_finite_is_the_inputs_fault() -> None:
    async with client(prices()) as http:
        huge = float(np.finfo(np.float32).max)
        response = await http.post("/predict", json={"instances": [{"row": [1, 2]}, {"row": [huge, huge]}]})
    assert [error["sample_index"] for error in assert_problem(response, 422, "invalid-input")["errors"]] == [1]


class Gate:
    """A model whose runs wait until they are let go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.runs = 0

    def __call__(self, feeds: Arrays) -> dict[str, Array]:
        self.runs += 1
        assert self.open.wait(30)
        return {"price": feeds["row"].sum(axis=1, keepdims=True)}


def gated(gate: Gate, settings: Settings | None = None) -> httpx.AsyncClient:
    return client(predictor(PRICES, gate), settings=settings)


async def test_full_queue_sheds_and_recovers() -> None:
    gate = Gate()
    async with gated(gate, Settings(max_waiting=3)) as http:
        waiting = [asyncio.create_task(http.post("/predict", json={"row": [1, i]})) for i in range(3)]
        await asyncio.sleep(0.05)
        shed = await http.post("/predict", json={"row": [1, 1]})
        assert_problem(shed, 503, "overloaded")
        assert int(shed.headers["retry-after"]) >= 1
        gate.open.set()
        assert [(await task).json()["value"] for task in waiting] == [1.0, 2.0, 3.0]
        assert (await http.post("/predict", json={"row": [1, 1]})).status_code == 200


async def test_images_that_wait_for_a_decoder_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, decoding, decoded = digits(), threading.Event(), 0
    real = model.codec.instances

    def slow(instances: Any) -> Any:
        nonlocal decoded
        decoded += 1
        assert decoding.wait(30)
        return real(instances)

    monkeypatch.setattr(model.codec, "instances", slow)
    body = {"image": text64(png(pixels()))}
    async with client(model, settings=Settings(max_waiting=3, decoders=1)) as http:
        late = await http.post("/predict", json=body, headers={"x-request-timeout-ms": "20"})
        assert_problem(late, 504, "deadline-exceeded")
        waiting = [asyncio.create_task(http.post("/predict", json=body)) for _ in range(3)]
        await asyncio.sleep(0.05)
        shed = await http.post("/predict", json=body)
        assert_problem(shed, 503, "overloaded")
        assert int(shed.headers["retry-after"]) >= 1
        late = await http.post("/predict", json=body, headers={"x-request-timeout-ms": "20"})
        assert_problem(late, 503, "overloaded")
        decoding.set()
        assert [(await task).status_code for task in waiting] == [200, 200, 200]
        assert (await http.post("/predict", json=body)).status_code == 200
    assert decoded == 5


async def test_body_of_a_caller_that_left_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, decoding, decoded = digits(), threading.Event(), 0

    def slow(instances: Any) -> Any:
        nonlocal decoded
        decoded += 1
        assert decoding.wait(30)
        return [{"image": np.zeros((1, 8, 8), np.float32)}]

    monkeypatch.setattr(model.codec, "instances", slow)
    body = {"image": text64(png(pixels()))}
    async with client(model, settings=Settings(max_waiting=2, decoders=1)) as http:
        first = asyncio.create_task(http.post("/predict", json=body))
        await asyncio.sleep(0.05)
        for _ in range(4):
            late = await http.post("/predict", json=body, headers={"x-request-timeout-ms": "20"})
            assert_problem(late, 504, "deadline-exceeded")
        decoding.set()
        assert (await first).status_code == 200
    assert decoded == 1


async def test_deadline_frees_the_place_in_the_queue() -> None:
    gate = Gate()
    async with gated(gate, Settings(max_waiting=2)) as http:
        running = asyncio.create_task(http.post("/predict", json={"row": [1, 1]}))
        await asyncio.sleep(0.05)
        late = await http.post("/predict", json={"row": [1, 1]}, headers={"x-request-timeout-ms": "300"})
        assert_problem(late, 504, "deadline-exceeded")
        for _ in range(3):
            # What runs is overdue by now, so that it may be foreseen that the deadline passes.
            late = await http.post("/predict", json={"row": [1, 1]}, headers={"x-request-timeout-ms": "20"})
            assert late.status_code in (503, 504)
            assert late.json()["detail"] != "as many requests wait as may"
        gate.open.set()
        assert (await running).status_code == 200
        assert (await http.post("/predict", json={"row": [1, 1]})).status_code == 200
    assert gate.runs == 2


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "99999999999999999999"])
async def test_deadline_that_is_none(value: str) -> None:
    async with client(prices()) as http:
        response = await http.post("/predict", json={"row": [1, 2]}, headers={"x-request-timeout-ms": value})
    assert assert_problem(response, 422, "invalid-input")["errors"][0]["field"] == "x-request-timeout-ms"


async def test_missing_extra_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    body, real = {"image": text64(png(pixels()))}, builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "PIL":
            raise ImportError(name)
        return real(name, *rest)

    async with client(digits()) as http:
        monkeypatch.setattr(builtins, "__import__", absent)
        response = await http.post("/predict", json=body)
    assert "images" in assert_problem(response, 415, "unsupported-media-type")["detail"]


def test_settings_and_models_are_checked() -> None:
    with pytest.raises(ServeError, match=r"settings\.max_waiting"):
        Settings(max_waiting=0)
    with pytest.raises(ServeError, match="no model"):
        create_app({})
