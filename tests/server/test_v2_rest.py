"""The REST routes by themselves: forms that the client library does not send, refusals, and the document."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from connection_cases import wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_cases import digits, digits_run, pixels, png, prices, text64
from v2_cases import Served, echo, serving, slow

from shipworthy.server import Settings
from shipworthy.server.v2 import document_infer
from shipworthy.server.v2.codings import RATIO, inflate, most_bytes

LIMIT = 200_000
ROW = {"inputs": [{"name": "row", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    bounds = Settings(max_body_bytes=LIMIT, max_instances=100)
    with serving(digits(), prices(), echo(), slow(), settings=bounds, grpc=False) as server:
        yield server


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{served.http}", timeout=20) as client:
        yield client


def refused(response: httpx.Response, status: int, words: str) -> None:
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert words in response.json()["error"]


def test_a_row_of_json(http: httpx.Client) -> None:
    response = http.post("/v2/models/prices/infer", json={**ROW, "id": "a"})
    assert response.status_code == 200, response.text
    assert response.json() == {
        "model_name": "prices",
        "model_version": "0" * 12,
        "id": "a",
        "outputs": [{"name": "price", "datatype": "FP32", "shape": [1, 1], "data": [3.0]}],
    }


def test_a_body_that_is_nothing_but_the_input(http: httpx.Client) -> None:
    rows = np.random.default_rng(2).random((3, 1, 8, 8), dtype=np.float32)
    response = http.post(
        "/v2/models/digits/infer", content=rows.tobytes(), headers={"inference-header-content-length": "0"}
    )
    length = int(response.headers["inference-header-content-length"])
    assert response.headers["content-type"] == "application/octet-stream"
    described = json.loads(response.content[:length])["outputs"][0]
    assert described["parameters"] == {"binary_data_size": 120} and described["shape"] == [3, 10]
    found = np.frombuffer(response.content[length:], np.float32).reshape(3, 10)
    assert np.allclose(found, digits_run({"image": rows})["logits"], rtol=1e-6)
    short = http.post("/v2/models/digits/infer", content=b"1", headers={"inference-header-content-length": "0"})
    refused(short, 400, "multiple of 256 bytes")
    many = http.post("/v2/models/echo/infer", content=b"1", headers={"inference-header-content-length": "0"})
    refused(many, 400, "9 inputs")


def test_a_header_that_is_no_number(http: httpx.Client) -> None:
    for value in ("-1", "x", "1e3", "9" * 40):
        response = http.post(
            "/v2/models/digits/infer", content=b"{}", headers={"inference-header-content-length": value}
        )
        assert response.status_code == 400


def test_limits(http: httpx.Client) -> None:
    refused(http.post("/v2/models/digits/infer", content=bytes(LIMIT + 1)), 413, str(LIMIT))
    rows = {"inputs": [{"name": "row", "datatype": "FP32", "shape": [101, 2], "data": [0] * 202}]}
    refused(http.post("/v2/models/prices/infer", json=rows), 413, "100 rows")


def test_a_bomb_is_not_unpacked(http: httpx.Client) -> None:
    for coding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        bomb = pack(bytes(50_000_000))
        assert len(bomb) < LIMIT
        answer = http.post("/v2/models/digits/infer", content=bomb, headers={"content-encoding": coding})
        refused(answer, 413, "unpacked")


def test_packed_bodies_count_as_what_they_may_become() -> None:
    """Else a thousand small ones, which unfold while they wait, would take all memory."""
    zeros = bytes(50_000_000)
    assert len(zeros) <= RATIO * len(zlib.compress(zeros, 9))
    assert [most_bytes(10, coding, 9_000) for coding in ("gzip", "", "Identity")] == [9_000, 10, 10]
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
    plain = json.dumps(body).encode()
    packed = gzip.compress(plain)
    with serving(slow(), grpc=False) as served, ThreadPoolExecutor(1) as pool:
        lane, sizes = served.catalog.lane("slow"), []
        admit = lane.admit
        lane.admit = lambda size, timeout_s: (sizes.append(size), admit(size, timeout_s))[1]
        url, headers = f"http://{served.http}/v2/models/slow/infer", {"content-encoding": "gzip"}
        answer = pool.submit(httpx.post, url, content=packed, headers=headers)
        wait_until(lambda: lane.queue.bytes == len(plain))
        assert sizes == [len(packed) * RATIO]
        assert answer.result().status_code == 200


def test_images_that_wait_count_as_what_they_have_become() -> None:
    go_on = threading.Event()

    def run(feeds: Any) -> dict[str, np.ndarray]:
        go_on.wait(10)
        return digits_run(feeds)

    images = {"name": "image", "datatype": "BYTES", "shape": [2], "data": [text64(png(pixels()))] * 2}
    with serving(digits(run=run), grpc=False) as served, ThreadPoolExecutor(1) as pool:
        queue = served.catalog.lane("digits").queue
        answer = pool.submit(httpx.post, f"http://{served.http}/v2/models/digits/infer", json={"inputs": [images]})
        wait_until(lambda: queue.bytes == 2 * 64 * 4)
        go_on.set()
        assert answer.result().status_code == 200
        assert queue.bytes == 0


@pytest.mark.parametrize(
    ("content", "coding", "status"),
    [
        (b"no gzip", "gzip", 400),
        (gzip.compress(b"{}")[:-3], "gzip", 400),
        (gzip.compress(b"{}") + b"more", "gzip", 400),
        (b"{}", "br", 415),
        (zlib.compress(b"{}"), "gzip, deflate", 415),
    ],
    ids=["no gzip", "cut short", "with a tail", "another coding", "two codings"],
)
def test_bad_codings_are_refused(http: httpx.Client, content: bytes, coding: str, status: int) -> None:
    answer = http.post("/v2/models/digits/infer", content=content, headers={"content-encoding": coding})
    refused(answer, status, "")


def test_identity_is_no_coding() -> None:
    assert inflate(b"as it is", "identity", 100) == b"as it is"


def test_an_answer_is_compressed_only_for_who_names_the_coding(http: httpx.Client) -> None:
    rows = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [50, 1, 8, 8], "data": [0] * 3200}]}
    plain = http.post("/v2/models/digits/infer", json=rows)
    assert "content-encoding" not in plain.headers, "httpx offers gzip, deflate by itself"
    packed = http.post("/v2/models/digits/infer", json=rows, headers={"accept-encoding": "gzip"})
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "accept-encoding")
    assert packed.json() == plain.json()


def test_numbers_that_json_has_not_are_null(http: httpx.Client) -> None:
    arrays = {
        name: np.zeros((1, 3), name)
        for name in ("float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
    }
    arrays["float32"] = np.array([[np.nan, np.inf, 1]], np.float32)
    names = {"float64": "FP64", "float16": "FP16", "float32": "FP32", "bool": "BOOL"}
    inputs, raw = [], b""
    for name, array in arrays.items():
        size = {"binary_data_size": array.nbytes}
        inputs.append({"name": name, "datatype": names.get(name, name.upper()), "shape": [1, 3], "parameters": size})
        raw += array.tobytes()
    header = json.dumps({"inputs": inputs, "outputs": [{"name": "float32_out"}]}).encode()
    answer = http.post(
        "/v2/models/echo/infer", content=header + raw, headers={"inference-header-content-length": str(len(header))}
    )
    assert answer.json()["outputs"][0]["data"] == [None, None, 1.0]


def test_a_deadline_of_the_headers_counts_too(http: httpx.Client) -> None:
    asked = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
    answer = http.post("/v2/models/slow/infer", json=asked, headers={"x-request-timeout-ms": "20"})
    refused(answer, 504, "in time")


def test_repository_bodies(http: httpx.Client) -> None:
    everything = http.post("/v2/repository/index")
    ready = http.post("/v2/repository/index", json={"ready": True})
    assert everything.status_code == ready.status_code == 200
    assert {one["name"] for one in ready.json()} == {"digits", "prices", "echo", "slow"}
    refused(http.post("/v2/repository/index", json={"ready": "perhaps"}), 400, "ready")
    refused(http.post("/v2/repository/index", content=b"{"), 400, "JSON")
    plain = {"content-type": "application/x-www-form-urlencoded"}
    refused(http.post("/v2/repository/index", content=b'{"ready": true}', headers=plain), 400, "application/json")
    refused(http.post("/v2/repository/index", content=bytes(100_000)), 413, "65536")
    refused(http.post("/v2/repository/models/nothing/unload"), 404, "no model")


def test_unknown_models_are_not_found(http: httpx.Client) -> None:
    for path in ("", "/ready", "/config", "/stats", "/versions/1", "/versions/1/stats"):
        refused(http.get(f"/v2/models/nothing{path}"), 404, "no model")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_requests_never_fail_the_server(http: httpx.Client, data: st.DataObject) -> None:
    header = json.dumps(
        {
            "id": "q",
            "inputs": [
                {"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "parameters": {"binary_data_size": 256}}
            ],
            "outputs": [{"name": "logits", "parameters": {"classification": 2, "binary_data": True}}],
        }
    ).encode()
    content = bytearray(header + bytes(256))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    length = data.draw(st.one_of(st.just(len(header)), st.integers(0, 600)))
    answer = http.post(
        "/v2/models/digits/infer",
        content=bytes(content[:cut]),
        headers={"inference-header-content-length": str(length)},
    )
    assert answer.status_code in (200, 400, 413), answer.text


def test_the_document_names_every_route(served: Served, http: httpx.Client) -> None:
    api: dict[str, Any] = http.get("/openapi.json").json()
    assert {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/stats",
        "/v2/models/{model}",
        "/v2/models/{model}/versions/{version}",
        "/v2/models/{model}/versions/{version}/config",
        "/v2/repository/index",
        "/v2/repository/models/{model}/load",
        "/v2/models/prices/infer",
        "/v2/models/prices/versions/{version}/infer",
    } <= set(api["paths"])
    operations = [one["operationId"] for path in api["paths"].values() for one in path.values()]
    assert len(set(operations)) == len(operations)
    example = api["paths"]["/v2/models/prices/infer"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert http.post("/v2/models/prices/infer", json=example).status_code == 200


def test_requests_and_answers_are_as_documented(served: Served, http: httpx.Client) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    api: dict[str, Any] = {"paths": {}}
    document_infer(api, served.catalog.lane("prices"))
    schemas = api["components"]["schemas"]
    jsonschema.validate(ROW, schemas["InferRequest"])
    jsonschema.validate(http.post("/v2/models/prices/infer", json=ROW).json(), schemas["InferResponse"])
