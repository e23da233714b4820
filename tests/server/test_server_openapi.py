"""The OpenAPI document says what the server does: examples are answered, and answers fit their schemas."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from server_cases import DIGITS, client, digits, pixels, png, predictor, prices, sentiment, text64

from shipworthy.contract import Contract
from shipworthy.predict import Predictor
from shipworthy.server.access import OPEN_PATHS
from shipworthy.server.schemas import instance_example

pytestmark = pytest.mark.anyio

MODELS: dict[str, Callable[[Path], Predictor]] = {
    "digits": lambda root: digits(),
    "sentiment": sentiment,
    "prices": lambda root: prices(),
}


def validator(api: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator({**schema, "components": api["components"]})


@pytest.mark.parametrize("name", MODELS)
async def test_examples_are_valid_and_answered_as_described(name: str, tmp_path: Path) -> None:
    async with client(MODELS[name](tmp_path)) as http:
        api = (await http.get("/openapi.json")).json()
        operation = api["paths"]["/predict"]["post"]
        assert operation["requestBody"] == api["paths"][f"/models/{name}/predict"]["post"]["requestBody"]
        content = operation["requestBody"]["content"]["application/json"]
        asked = validator(api, content["schema"])
        answered = validator(api, operation["responses"]["200"]["content"]["application/json"]["schema"])
        for example in content["examples"].values():
            asked.validate(example["value"])
            response = await http.post("/predict", json=example["value"])
            assert response.status_code == 200, response.text
            answered.validate(response.json())


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"image": (pixels() * 0.0625).reshape(1, 8, 8).tolist()}, True),
        ({"image": text64(png(pixels()))}, True),
        ({"instances": [{"image": text64(png(pixels()))}]}, True),
        ({"image": [[[0] * 8] * 7]}, False),
        ({"image": [[[True] * 8] * 8]}, False),
        ({"image": 3}, False),
        ({"image": None}, False),
        ({}, False),
        ({"image": [[[0] * 8] * 8], "more": 1}, False),
        ({"instances": []}, False),
        ({"instances": [{}]}, False),
    ],
)
async def test_schema_and_codec_agree(body: dict[str, Any], fits: bool) -> None:
    async with client(digits()) as http:
        api = (await http.get("/openapi.json")).json()
        schema = api["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert validator(api, schema).is_valid(body) == fits
        assert ((await http.post("/predict", json=body)).status_code == 200) == fits


async def test_problems_and_status_fit_their_schemas() -> None:
    async with client(prices()) as http:
        api = (await http.get("/openapi.json")).json()
        problem = validator(api, api["components"]["schemas"]["Problem"])
        problem.validate((await http.post("/predict", json={})).json())
        problem.validate((await http.get("/nothing")).json())
        for path in ("/health", "/livez", "/readyz", "/models"):
            schema = api["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            validator(api, schema).validate((await http.get(path)).json())
        schema = api["paths"]["/models/{model}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        validator(api, schema).validate((await http.get("/models/prices")).json())


async def test_versions_of_a_model_are_documented_and_answer() -> None:
    async with client(prices()) as http:
        api = (await http.get("/openapi.json")).json()
        operation = api["paths"]["/models/prices/versions/{version}/predict"]["post"]
        assert operation["parameters"][0]["name"] == "version"
        assert "404" in operation["responses"]
        path = "/models/prices/versions/{}/predict"
        assert (await http.post(path.format("0" * 12), json={"row": [1, 2]})).json()["value"] == 3.0
        assert (await http.post(path.format("1"), json={"row": [1, 2]})).status_code == 404


async def test_document_of_several_models_has_no_common_route() -> None:
    async with client(prices(), digits()) as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
    assert {"/models/prices/predict", "/models/digits/predict"} <= set(paths)
    assert "/predict" not in paths


SECTIONS = ["predict", "models", "monitor", "health", "open inference protocol", "metrics"]


def operations(api: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Path and operation, in the order of the page."""
    return [(path, operation) for path, item in api["paths"].items() for operation in item.values()]


@pytest.mark.parametrize("names", [("digits",), ("digits", "prices", "sentiment")], ids=["one", "three"])
async def test_what_most_come_for_stands_first(names: tuple[str, ...], tmp_path: Path) -> None:
    async with client(*(MODELS[name](tmp_path) for name in names)) as http:
        api = (await http.get("/openapi.json")).json()
    assert [tag["name"] for tag in api["tags"]] == SECTIONS
    assert all(tag["description"].endswith(".") for tag in api["tags"])
    found = operations(api)
    assert all(len(operation["tags"]) == 1 for _, operation in found)
    assert list(dict.fromkeys(operation["tags"][0] for _, operation in found)) == SECTIONS
    places = [SECTIONS.index(operation["tags"][0]) for _, operation in found]
    assert places == sorted(places), "no section stands in two places"
    asked = [f"/models/{name}{version}/predict" for name in names for version in ("", "/versions/{version}")]
    paths = list(api["paths"])
    assert paths[: len(asked) + 1] == (["/predict", *asked] if len(names) == 1 else [*asked, "/models"])
    protocol = [path for path, operation in found if operation["tags"] == ["open inference protocol"]]
    assert all(path.startswith("/v2") for path in protocol)
    assert all("infer" in path for path in protocol[: 2 * len(names)])
    assert not any("infer" in path for path in protocol[2 * len(names) :])
    assert paths[-1] == "/metrics"


async def test_every_operation_has_a_summary_in_words_and_a_description() -> None:
    async with client(prices(), digits()) as http:
        api = (await http.get("/openapi.json")).json()
    seen: set[tuple[str, str]] = set()
    for path, operation in operations(api):
        summary, description = operation["summary"], operation["description"]
        assert len(summary.split()) > 1 and summary[0].isupper() and not summary.endswith("."), path
        assert summary != summary.title(), f"{path}: made of a function's name by the framework"
        assert "_" not in summary and len(summary) < 60, path
        assert description.endswith(".") and len(description) < 250, path
        assert (operation["tags"][0], summary) not in seen, path
        seen.add((operation["tags"][0], summary))


async def test_images_may_be_sent_raw_and_in_forms_where_accepted() -> None:
    async with client(digits(), prices()) as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
    content = {
        name: paths[f"/models/{name}/predict"]["post"]["requestBody"]["content"] for name in ("digits", "prices")
    }
    assert set(content["digits"]) == {"application/json", "image/png", "image/jpeg", "multipart/form-data"}
    assert set(content["prices"]) == {"application/json"}


async def test_token_is_declared_where_it_is_needed() -> None:
    async with client(prices(), token="secret") as http:
        api = (await http.get("/openapi.json", headers={"authorization": "Bearer secret"})).json()
    assert api["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert api["security"] == [{"token": []}]
    assert {path for path, operation in operations(api) if operation.get("security") == []} == OPEN_PATHS


async def test_statuses_that_have_several_reasons_name_all_of_them() -> None:
    async with client(prices()) as http:
        api = (await http.get("/openapi.json")).json()
    responses = api["paths"]["/predict"]["post"]["responses"]
    assert {"200", "400", "401", "408", "413", "415", "421", "422", "431", "500", "503", "504"} <= set(responses)
    assert not {"404", "405"} & set(responses), "the route is there"
    assert responses["503"]["description"] == "Too many requests are waiting. The server is starting or stopping"


def test_example_of_a_large_tensor_is_left_out() -> None:
    large = Contract.model_validate(
        {"name": "large", "inputs": {"x": {"dtype": "float32", "shape": ("batch", 3, 224, 224)}}}
    )
    assert instance_example(large) == {}


async def test_colour_example_is_an_image_of_the_right_size() -> None:
    accept = {"kind": "image", "size": (4, 6), "resize": "exact"}
    given = {
        **DIGITS,
        "inputs": {"image": {"dtype": "float32", "shape": ("batch", 3, 4, 6), "accept": accept}},
    }
    model = predictor(given, lambda feeds: {"logits": feeds["image"].reshape(-1, 72)[:, :10]})
    async with client(model) as http:
        assert (await http.post("/predict", json=instance_example(model.contract))).status_code == 200


async def test_docs_page_needs_no_other_host() -> None:
    async with client(prices()) as http:
        page = (await http.get("/docs")).text
        assert "//" not in re.sub(r"<!--.*?-->", "", page, flags=re.DOTALL), "nothing is loaded from elsewhere"
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(loaded) == 3
        for name in loaded:
            response = await http.get("/" + name)
            assert response.status_code == 200
            assert len(response.content) > 500
        assert (await http.get("/docs/../../secret")).status_code == 404
        assert (await http.get("/docs/other.js")).status_code == 404
