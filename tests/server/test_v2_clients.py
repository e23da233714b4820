"""The public clients, unchanged, against a server on loopback."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from server_cases import digits, digits_run, pixels, png, prices, sentiment
from v2_cases import DTYPES, Served, broken, echo, serving, slow

tritonclient = pytest.importorskip("tritonclient")
import tritonclient.grpc as grpc_client  # noqa: E402
import tritonclient.grpc.aio as grpc_aio  # noqa: E402
import tritonclient.http as http_client  # noqa: E402
import tritonclient.http.aio as http_aio  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402

VERSION = "0" * 12


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    text = sentiment(tmp_path_factory.mktemp("text"))
    with serving(digits(), prices(), echo(), slow(), broken(), text) as server:
        yield server


@pytest.fixture(scope="module", params=["http", "grpc"])
def asking(request: pytest.FixtureRequest, served: Served) -> Iterator[tuple[Any, Any]]:
    """A module of the client library, and a client of its."""
    module, address = (http_client, served.http) if request.param == "http" else (grpc_client, served.grpc)
    client = module.InferenceServerClient(address)
    yield module, client
    client.close()


def images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).random((count, 1, 8, 8), dtype=np.float32)


def sent(module: Any, name: str, array: np.ndarray, datatype: str) -> Any:
    tensor = module.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def as_dict(answer: Any) -> dict[str, Any]:
    """HTTP gives dictionaries, gRPC messages."""
    if isinstance(answer, dict):
        return answer
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def test_health_and_readiness(asking: tuple[Any, Any]) -> None:
    _, client = asking
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("digits") and client.is_model_ready("digits", VERSION)
    assert not client.is_model_ready("nothing")
    assert not client.is_model_ready("digits", "7")


def test_metadata(asking: tuple[Any, Any]) -> None:
    _, client = asking
    server = as_dict(client.get_server_metadata())
    assert server["name"] == "shipworthy"
    assert {"binary_tensor_data", "classification", "statistics", "model_repository"} <= set(server["extensions"])
    model = as_dict(client.get_model_metadata("digits"))
    assert (model["name"], model["versions"], model["platform"]) == ("digits", [VERSION], "numpy")
    assert [one["name"] for one in model["inputs"]] == ["image"]
    assert model["inputs"][0]["datatype"] == "FP32"
    assert [int(size) for size in model["inputs"][0]["shape"]] == [-1, 1, 8, 8]
    assert [int(size) for size in model["outputs"][0]["shape"]] == [-1, 10]


def test_config(asking: tuple[Any, Any], served: Served) -> None:
    _, client = asking
    config = as_dict(client.get_model_config("digits", VERSION))
    config = config.get("config", config)
    assert (config["name"], config["backend"], config["max_batch_size"]) == ("digits", "numpy", 10_000)
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert [int(size) for size in config["input"][0]["dims"]] == [1, 8, 8]
    assert config["dynamic_batching"]["preferred_batch_size"] == list(
        served.catalog.lane("digits").predictor.batch_sizes
    )
    assert config["instance_group"][0]["kind"] == "KIND_CPU"


def test_infers_the_model_own_numbers(asking: tuple[Any, Any]) -> None:
    module, client = asking
    array = images()
    result = client.infer("digits", [sent(module, "image", array, "FP32")], request_id="mine", model_version=VERSION)
    assert np.allclose(result.as_numpy("logits"), digits_run({"image": array})["logits"], rtol=1e-6)
    response = as_dict(result.get_response())
    assert (response["id"], response["model_name"], response["model_version"]) == ("mine", "digits", VERSION)


def test_every_datatype_comes_back(asking: tuple[Any, Any]) -> None:
    module, client = asking
    random = np.random.default_rng(3)
    arrays = {dtype: (random.random((2, 3)) * 100).astype(dtype) for dtype in DTYPES}
    inputs = [
        sent(module, name, array, tritonclient.utils.np_to_triton_dtype(array.dtype)) for name, array in arrays.items()
    ]
    result = client.infer("echo", inputs)
    for name, array in arrays.items():
        back = result.as_numpy(f"{name}_out")
        assert back.dtype == array.dtype and np.array_equal(back, array)
    chosen = client.infer("echo", inputs, outputs=[module.InferRequestedOutput("int8_out")])
    assert [one["name"] for one in as_dict(chosen.get_response())["outputs"]] == ["int8_out"]


def test_json_both_ways(served: Served) -> None:
    with http_client.InferenceServerClient(served.http) as client:
        tensor = http_client.InferInput("image", [3, 1, 8, 8], "FP32")
        tensor.set_data_from_numpy(images(), binary_data=False)
        asked = http_client.InferRequestedOutput("logits", binary_data=False)
        result = client.infer("digits", [tensor], outputs=[asked])
        assert "data" in result.get_output("logits")
        assert np.allclose(result.as_numpy("logits"), digits_run({"image": images()})["logits"], rtol=1e-6)


def test_classification(asking: tuple[Any, Any]) -> None:
    module, client = asking
    asked = module.InferRequestedOutput("logits", class_count=3)
    best = client.infer("digits", [sent(module, "image", images(), "FP32")], outputs=[asked]).as_numpy("logits")
    scores = digits_run({"image": images()})["logits"]
    assert best.shape == (3, 3)
    for row, found in zip(scores, best, strict=True):
        values, places, labels = zip(*(one.decode().split(":") for one in found), strict=True)
        assert list(map(int, places)) == np.argsort(-row, kind="stable")[:3].tolist()
        assert labels == places
        assert np.allclose([float(value) for value in values], sorted(row)[:-4:-1], rtol=1e-6)


def test_images_as_files_and_as_pixels(asking: tuple[Any, Any]) -> None:
    module, client = asking
    pictures = [pixels(seed) for seed in range(2)]
    files = np.array([png(one) for one in pictures], dtype=object)
    raw = np.stack(pictures)[:, None]
    expected = digits_run({"image": raw.astype(np.float32) * np.float32(0.0625)})["logits"]
    for tensor in (
        sent(module, "image", files, "BYTES"),
        sent(module, "image", files[:, None], "BYTES"),
        sent(module, "image", raw, "UINT8"),
    ):
        assert np.allclose(client.infer("digits", [tensor]).as_numpy("logits"), expected, rtol=1e-5)


def test_texts_of_different_lengths(asking: tuple[Any, Any]) -> None:
    module, client = asking
    words = np.array(["the cat sat", "sat", "the cat"], dtype=object)
    scores = client.infer("sentiment", [sent(module, "text", words, "BYTES")]).as_numpy("score")
    assert scores[:, 1].tolist() == [6.0, 3.0, 3.0]


def test_text_as_json(served: Served) -> None:
    with http_client.InferenceServerClient(served.http) as client:
        tensor = http_client.InferInput("text", [1], "BYTES")
        tensor.set_data_from_numpy(np.array(["the cat sat"], dtype=object), binary_data=False)
        assert client.infer("sentiment", [tensor]).as_numpy("score")[0, 1] == 6.0


def test_records_as_objects_of_json(asking: tuple[Any, Any], served: Served) -> None:
    module, client = asking
    houses = np.array(['{"rooms": 3, "area": 0.5}', '{"area": 1, "rooms": 2.5}'], dtype=object)
    prices = client.infer("prices", [sent(module, "house", houses, "BYTES")]).as_numpy("price")
    assert prices.ravel().tolist() == [3.5, 3.5]
    given = {"name": "house", "datatype": "BYTES", "shape": [1], "data": [houses[0]]}
    answer = httpx.post(f"http://{served.http}/v2/models/prices/infer", json={"inputs": [given]}).json()
    assert answer["outputs"][0]["data"] == [3.5]
    for element, words in (
        (b"{", "no JSON|object of JSON"),
        (b"3", "house: cannot be a number"),
        (b'{"rooms": 3}', "house.area: missing"),
        (b"\xff", "object of JSON"),
    ):
        with pytest.raises(InferenceServerException, match=words):
            client.infer("prices", [sent(module, "house", np.array([element], dtype=object), "BYTES")])
    with pytest.raises(InferenceServerException, match="is a record"):
        client.infer("prices", [sent(module, "house", np.ones((1, 2), np.float32), "FP32")])


def test_deadline_passes(asking: tuple[Any, Any]) -> None:
    module, client = asking
    with pytest.raises(InferenceServerException) as caught:
        client.infer("slow", [sent(module, "x", np.ones((1, 2), np.float32), "FP32")], timeout=20_000)
    assert caught.value.status() in ("504", "StatusCode.DEADLINE_EXCEEDED")


def test_refusals_say_why(asking: tuple[Any, Any]) -> None:
    module, client = asking
    good = sent(module, "image", images(), "FP32")
    wrong_type = sent(module, "image", images().astype(np.float64), "FP64")
    wrong_shape = sent(module, "image", np.ones((1, 4), np.float32), "FP32")
    unknown = sent(module, "picture", images(), "FP32")
    for model, version, inputs, outputs, words in (
        ("nothing", "", [good], None, "no model"),
        ("digits", "9", [good], None, "no version"),
        ("digits", "", [wrong_type], None, "expected FP32"),
        ("digits", "", [wrong_shape], None, "expected float32"),
        ("digits", "", [unknown], None, "is no input"),
        ("digits", "", [good, unknown], None, "is no input"),
        ("digits", "", [good, good], None, "named twice"),
        ("digits", "", [good], [module.InferRequestedOutput("labels")], "is no output"),
    ):
        with pytest.raises(InferenceServerException, match=words) as caught:
            client.infer(model, inputs, version, outputs=outputs)
        missing = "no model" in words or "no version" in words
        expected = ("404", "StatusCode.NOT_FOUND") if missing else ("400", "StatusCode.INVALID_ARGUMENT")
        assert caught.value.status() in expected


def test_the_rows_at_fault_are_named(asking: tuple[Any, Any]) -> None:
    module, client = asking
    files = np.array([png(pixels()), b"no image", *[b"nor this"] * 9], dtype=object)
    with pytest.raises(InferenceServerException, match=r"row 1, image: .*; and 5 more"):
        client.infer("digits", [sent(module, "image", files, "BYTES")])


def test_an_engine_that_fails_keeps_its_secrets(asking: tuple[Any, Any]) -> None:
    module, client = asking
    with pytest.raises(InferenceServerException) as caught:
        client.infer("broken", [sent(module, "x", np.ones((1, 2), np.float32), "FP32")])
    assert caught.value.status() in ("500", "StatusCode.INTERNAL")
    assert "secret" not in caught.value.message()


def test_shared_memory_is_refused(asking: tuple[Any, Any]) -> None:
    module, client = asking
    tensor = module.InferInput("image", [1, 1, 8, 8], "FP32")
    tensor.set_shared_memory("region", 256)
    with pytest.raises(InferenceServerException, match="shared memory"):
        client.infer("digits", [tensor])


def test_statistics_count(asking: tuple[Any, Any]) -> None:
    module, client = asking

    def count() -> tuple[int, int]:
        stats = as_dict(client.get_inference_statistics("prices"))["model_stats"]
        assert [one["name"] for one in stats] == ["prices"]
        return int(stats[0]["inference_count"]), int(stats[0]["inference_stats"]["compute_infer"]["count"])

    before = count()
    client.infer("prices", [sent(module, "row", np.ones((5, 2), np.float32), "FP32")])
    after = count()
    assert (after[0] - before[0], after[1] - before[1]) == (5, 1)
    assert {one["name"] for one in as_dict(client.get_inference_statistics())["model_stats"]} >= {"digits", "echo"}


def test_index_names_what_is_served(asking: tuple[Any, Any]) -> None:
    _, client = asking
    index = client.get_model_repository_index()
    models = index if isinstance(index, list) else as_dict(index)["models"]
    assert {(one["name"], one["state"]) for one in models} >= {("digits", "READY"), ("prices", "READY")}


def test_unload_and_load_are_commands() -> None:
    with serving(digits(), prices()) as server:
        with http_client.InferenceServerClient(server.http) as client:
            client.unload_model("prices")
            assert not client.is_model_ready("prices")
            with pytest.raises(InferenceServerException, match="operator"):
                client.load_model("prices", config="{}")
            with pytest.raises(InferenceServerException, match="no packages"):
                client.load_model("prices")
        with grpc_client.InferenceServerClient(server.grpc) as client:
            client.unload_model("digits")
            with pytest.raises(InferenceServerException, match="operator"):
                client.load_model("digits", config="{}")
            with pytest.raises(InferenceServerException, match="no packages"):
                client.load_model("digits")
        assert server.commands == [("unload", "prices"), ("load", "prices"), ("unload", "digits"), ("load", "digits")]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compression_both_ways(served: Served, coding: str) -> None:
    array = np.zeros((64, 1, 8, 8), np.float32)
    with http_client.InferenceServerClient(served.http) as client:
        result = client.infer(
            "digits",
            [sent(http_client, "image", array, "FP32")],
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )
        assert result.as_numpy("logits").shape == (64, 10)
    with grpc_client.InferenceServerClient(served.grpc) as client:
        result = client.infer("digits", [sent(grpc_client, "image", array, "FP32")], compression_algorithm=coding)
        assert result.as_numpy("logits").shape == (64, 10)


def test_asyncio_clients(served: Served) -> None:
    async def ask(module: Any, client: Any, plain: Any) -> None:
        async with client:
            assert await client.is_server_ready()
            tensor = sent(plain, "image", images(), "FP32")
            results = await asyncio.gather(*(client.infer("digits", [tensor], request_id=str(n)) for n in range(8)))
            for result in results:
                assert np.allclose(result.as_numpy("logits"), digits_run({"image": images()})["logits"], rtol=1e-6)

    async def both() -> None:
        await ask(http_aio, http_aio.InferenceServerClient(served.http), http_client)
        await ask(grpc_aio, grpc_aio.InferenceServerClient(served.grpc), grpc_client)

    asyncio.run(both())


def test_asyncio_streaming(served: Served) -> None:
    async def ask() -> list[float]:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            for number in range(10):
                row = np.full((1, 2), number, np.float32)
                yield {"model_name": "prices", "inputs": [sent(grpc_client, "row", row, "FP32")]}

        async with grpc_aio.InferenceServerClient(served.grpc) as client:
            answers = [answer async for answer in client.stream_infer(requests())]
        assert all(error is None for _, error in answers)
        return [float(result.as_numpy("price")[0, 0]) for result, _ in answers]

    assert asyncio.run(ask()) == [2.0 * number for number in range(10)]


def test_streaming_keeps_the_order_and_survives_faults(served: Served) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    good = [sent(grpc_client, "row", np.full((1, 2), number, np.float32), "FP32") for number in range(20)]
    with grpc_client.InferenceServerClient(served.grpc) as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        for number, tensor in enumerate(good):
            client.async_stream_infer("prices", [tensor], request_id=str(number))
        client.async_stream_infer("prices", [sent(grpc_client, "rows", images(), "FP32")], request_id="bad")
        client.async_stream_infer("prices", [good[7]], request_id="last", enable_empty_final_response=True)
        found = [answers.get(timeout=10) for _ in range(22)]
        client.stop_stream()
    for number, (result, error) in enumerate(found[:20]):
        assert error is None and result.get_response().id == str(number)
        assert result.as_numpy("price")[0, 0] == 2 * number
    assert "is no input" in found[20][1].message()
    assert found[21][0].as_numpy("price")[0, 0] == 14
    assert found[21][0].get_response().parameters["triton_final_response"].bool_param
