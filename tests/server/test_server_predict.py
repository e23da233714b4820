"""What is asked and answered over HTTP, of one instance and of many."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server_cases import PRICES, client, digits, pixels, png, predictor, prices, sentiment, text64

from shipworthy.contract import Array, Arrays
from shipworthy.server import Settings

pytestmark = pytest.mark.anyio

TIMING = re.compile(r"queue;dur=\d+\.\d{3}, compute;dur=\d+\.\d{3}")


def without_ids(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer but for the id, which is another each time."""
    if "predictions" in answer:
        return {"predictions": [without_ids(one) for one in answer["predictions"]]}
    assert len(answer["prediction_id"]) > 0
    return {key: value for key, value in answer.items() if key != "prediction_id"}


async def test_one_instance_is_answered_by_one_answer() -> None:
    model = digits()
    image = (pixels() * 0.0625).reshape(1, 8, 8).tolist()
    async with client(model) as http:
        response = await http.post("/predict", json={"image": image})
    assert response.status_code == 200
    assert list(response.json()) == [
        "predicted_class",
        "label",
        "confidence",
        "probabilities",
        "prediction_id",
        "model",
        "version",
        "variant",
    ]
    assert without_ids(response.json()) == without_ids(model.predict({"image": image}))
    assert TIMING.fullmatch(response.headers["server-timing"])


async def test_many_instances_are_numbered_in_order() -> None:
    model = digits()
    instances = [{"image": (pixels(seed) * 0.0625).reshape(1, 8, 8).tolist()} for seed in range(5)]
    async with client(model) as http:
        answer = (await http.post("/models/digits/predict", json={"instances": instances})).json()
    assert list(answer) == ["predictions"]
    assert [one["sample_index"] for one in answer["predictions"]] == [0, 1, 2, 3, 4]
    assert without_ids(answer) == without_ids(model.predict({"instances": instances}))


async def test_many_of_one_is_still_a_list() -> None:
    async with client(prices()) as http:
        answer = (await http.post("/predict", json={"instances": [{"row": [1, 2]}]})).json()
    assert [one["value"] for one in answer["predictions"]] == [3.0]


async def test_every_way_to_send_an_image_gives_the_same_answer() -> None:
    data = png(pixels())
    async with client(digits()) as http:
        answers = [
            await http.post("/predict", content=data, headers={"content-type": "image/png"}),
            await http.post("/predict", json={"image": text64(data)}),
            await http.post("/predict", files={"image": ("one.png", data, "image/png")}),
            await http.post("/predict", files={"anything": ("one", data)}),
            await http.post("/predict", json={"image": (pixels() * 0.0625).reshape(1, 8, 8).tolist()}),
        ]
    assert [response.status_code for response in answers] == [200] * 5
    assert len({str(without_ids(response.json())) for response in answers}) == 1


async def test_jpeg_as_raw_body() -> None:
    async with client(digits()) as http:
        response = await http.post("/predict", content=png(pixels(), "JPEG"), headers={"content-type": "image/jpeg"})
    assert response.status_code == 200


async def test_several_files_are_several_instances() -> None:
    files = [("image", (f"{seed}.png", png(pixels(seed)), "image/png")) for seed in range(3)]
    model = digits()
    async with client(model) as http:
        predictions = (await http.post("/predict", files=files)).json()["predictions"]
    assert [one["sample_index"] for one in predictions] == [0, 1, 2]
    alone = [model.predict_image(png(pixels(seed))) for seed in range(3)]
    for one, other in zip(predictions, alone, strict=True):
        np.testing.assert_allclose(one["probabilities"], other["probabilities"], rtol=1e-5)


async def test_large_file_of_a_form_is_whole() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1200, 1200), dtype=np.uint8)
    data = png(noise)
    assert len(data) > 2**20, "larger than what form parsers keep in memory by default"
    async with client(digits()) as http:
        response = await http.post("/predict", files={"image": ("big.png", data)})
        raw = await http.post("/predict", content=data, headers={"content-type": "image/png"})
    assert without_ids(response.json()) == without_ids(raw.json())


async def test_texts_of_different_lengths_are_run_in_groups(tmp_path: Path) -> None:
    model = sentiment(tmp_path)
    batches: list[tuple[int, ...]] = []
    run = model.run

    def watched(feeds: Arrays) -> dict[str, Array]:
        batches.append(feeds["ids"].shape)
        return run(feeds)

    model.run = watched  # type: ignore[method-assign]
    texts = ["the cat sat", "cat", "the cat", "sat", "the cat sat"]
    async with client(model) as http:
        answer = (await http.post("/predict", json={"instances": [{"text": text} for text in texts]})).json()
    assert sorted(batches) == [(1, 2), (2, 1), (2, 3)]
    assert [one["sample_index"] for one in answer["predictions"]] == [0, 1, 2, 3, 4]
    assert answer["predictions"][0]["probabilities"] == answer["predictions"][4]["probabilities"]


async def test_more_shapes_than_may_wait_are_still_answered(tmp_path: Path) -> None:
    texts = [" ".join(["cat"] * length) for length in range(1, 17)]
    async with client(sentiment(tmp_path), settings=Settings(max_waiting=1)) as http:
        response = await http.post("/predict", json={"instances": [{"text": text} for text in texts]})
    assert len(response.json()["predictions"]) == 16


async def test_record_and_tensor_forms() -> None:
    async with client(prices()) as http:
        record = await http.post("/predict", json={"house": {"rooms": 2, "area": 40.5}})
        tensor = await http.post("/predict", json={"row": [2, 40.5]})
    assert record.json()["value"] == tensor.json()["value"] == 42.5


async def test_floats_are_whole_unless_rounding_is_asked_for() -> None:
    model = prices()
    third = float(np.float32(1) / np.float32(3))
    async with client(model) as http:
        assert (await http.post("/predict", json={"row": [third, 0]})).json()["value"] == third
        assert (await http.post("/predict?round=4", json={"row": [third, 0]})).json()["value"] == 0.3333


@pytest.mark.parametrize("digits", ["", "-1", "18", "1.5", "four", "４"])
async def test_rounding_to_anything_else_is_refused(digits: str) -> None:
    async with client(prices()) as http:
        response = await http.post("/predict", params={"round": digits}, json={"row": [1, 2]})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "round"


async def test_several_models() -> None:
    async with client(prices(), digits()) as http:
        assert (await http.post("/models/prices/predict", json={"row": [1, 2]})).json()["model"] == "prices"
        assert (await http.post("/predict", json={"row": [1, 2]})).status_code == 404


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON ; charset=utf-8"])
async def test_numbers_are_converted_by_the_batch_whatever_the_charset(
    content_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shipworthy.server.answering.parse", None)
    async with client(prices()) as http:
        response = await http.post("/predict", content=b'{"row": [1, 2]}', headers={"content-type": content_type})
    assert response.json()["value"] == 3.0


async def test_request_id_is_the_callers_where_it_is_sane() -> None:
    async with client(prices()) as http:
        given = await http.post("/predict", json={"row": [1, 2]}, headers={"x-request-id": "order-17:a.b"})
        assert given.headers["x-request-id"] == "order-17:a.b"
        for bad in ("a b", "x" * 129, "<script>", ""):
            made = (await http.post("/predict", json={"row": [1, 2]}, headers={"x-request-id": bad})).headers
            assert re.fullmatch("[0-9a-f]{32}", made["x-request-id"])


async def test_tensor_task_answers_every_output() -> None:
    given = {
        "name": "two",
        "inputs": {"x": {"dtype": "int32", "shape": ("batch", "n")}},
        "outputs": {
            "double": {"dtype": "int32", "shape": ("batch", "n")},
            "mean": {"dtype": "float64", "shape": ("batch",)},
        },
    }
    model = predictor(given, lambda feeds: {"double": feeds["x"] * 2, "mean": feeds["x"].mean(axis=1)})
    async with client(model) as http:
        answer = (await http.post("/predict", json={"instances": [{"x": [1, 2]}, {"x": [5]}]})).json()
    assert [one["outputs"] for one in answer["predictions"]] == [
        {"double": [2, 4], "mean": 1.5},
        {"double": [10], "mean": 5.0},
    ]


ONE = {"row": [1, 2]}
TWO = {"instances": [ONE, ONE]}


@pytest.mark.parametrize(
    ("count", "body", "beside"), [(16, TWO, False), (4096, TWO, True), (4096, ONE, False), (70_000, ONE, True)]
)
async def test_answers_of_many_numbers_are_made_beside_the_event_loop(
    count: int, body: dict[str, Any], beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**PRICES, "outputs": {"price": {"dtype": "float32", "shape": ("batch", count)}}}
    model = predictor(given, lambda feeds: {"price": np.repeat(feeds["row"][:, :1], count, axis=1)})
    encode, threads = model.encode, list[int]()

    def noted(*given: Any, **options: Any) -> Any:
        threads.append(threading.get_ident())
        return encode(*given, **options)

    monkeypatch.setattr(model, "encode", noted)
    async with client(model) as http:
        response = await http.post("/predict", json=body)
    assert response.status_code == 200
    assert [thread != threading.get_ident() for thread in threads] == [beside]
