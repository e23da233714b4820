"""The Flask example, as a user would run it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from flask import Flask
from flask.testing import FlaskClient

import shipworthy
from shipworthy.errors import EngineError, PackageError

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "tests" / "package" / "stored" / "format1.ship"
ROW = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flask_example", ROOT / "examples" / "flask" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def app(example: ModuleType) -> Iterator[Flask]:
    made: Flask = example.create_app(PACKAGE)
    yield made


@pytest.fixture
def http(app: Flask) -> FlaskClient:
    return app.test_client()


def test_one_instance(http: FlaskClient) -> None:
    response = http.post("/classify", json={"features": ROW})
    assert response.status_code == 200
    with shipworthy.load(PACKAGE) as model:
        expected = model.predict({"features": ROW})
    assert response.json["probabilities"] == expected["probabilities"]
    assert response.json["label"] == expected["label"]


def test_many_instances_and_records(http: FlaskClient) -> None:
    fields = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    instances = [{"features": ROW}, {"flower": dict(zip(fields, ROW, strict=True))}]
    predictions = http.post("/classify", json={"instances": instances}).json["predictions"]
    assert [answer["sample_index"] for answer in predictions] == [0, 1]
    assert predictions[0]["probabilities"] == predictions[1]["probabilities"]


def test_faults_are_named(http: FlaskClient) -> None:
    response = http.post("/classify", json={"instances": [{"features": ROW}, {"features": [1]}, {}]})
    assert response.status_code == 422
    assert [(fault["sample_index"], fault["field"]) for fault in response.json["faults"]] == [
        (1, "features"),
        (2, "features"),
    ]


def test_image_where_the_model_takes_none(http: FlaskClient) -> None:
    assert http.post("/classify", data=b"\x89PNG", content_type="image/png").status_code == 422


@pytest.mark.parametrize(
    ("data", "content_type", "status"), [("{", "application/json", 400), ("{}", "text/plain", 415)]
)
def test_body_that_is_no_json(http: FlaskClient, data: str, content_type: str, status: int) -> None:
    assert http.post("/classify", data=data, content_type=content_type).status_code == status


def test_model_is_described(http: FlaskClient) -> None:
    assert http.get("/model").json["name"] == "iris"


def test_failure_tells_nothing_of_the_inside(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def predict(self, value: object) -> object:
            raise EngineError("/secret/model.onnx", "the kernel failed")

    monkeypatch.setattr(shipworthy, "load", lambda package: Broken())
    response = example.create_app("any").test_client().post("/classify", json={"features": ROW})
    assert response.status_code == 500
    assert "secret" not in response.text


def test_package_that_is_refused_ends_the_start(example: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(PackageError):
        example.create_app(tmp_path / "none")


def test_readme_command_and_request_work() -> None:
    text = (ROOT / "examples" / "flask" / "README.md").read_text(encoding="utf-8")
    command = next(line for line in text.splitlines() if line.startswith("python -m flask"))
    body = re.search(r"-d '(.+)'", text)
    assert body is not None
    arguments = [sys.executable, *shlex.split(command.replace("iris.ship", str(PACKAGE)))[1:], "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        running = next(line for line in process.stderr if "Running on" in line)
        url = running.split("Running on ")[1].split()[0]
        asked = urllib.request.Request(url + "/classify", body[1].encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as response:
            assert json.load(response)["label"] in ("setosa", "versicolor", "virginica")
    finally:
        process.terminate()
        process.wait()
