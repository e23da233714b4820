"""Texts and images through a whole package: the tokenizer travels in it, and the graph is fed what the codec makes."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import mlp
import numpy as np
import pytest

from shipworthy.contract import Contract, ImageAccept, InputSpec, OutputSpec, TaskSpec, TextEncode
from shipworthy.errors import InputError, MissingExtra, PackageError
from shipworthy.package import Golden, GoldenCase, read_package, verify, write_package, write_ship
from shipworthy.predict import Predictor, load, loading

pytest.importorskip("onnxruntime")

WORDS = {"[UNK]": 0, "set": 1, "sail": 2, "at": 3, "dawn": 4}


def write_sum(folder: Path, contract: Contract) -> Path:
    """`model.onnx` whose output is the sum over everything that its only input has, for each sample."""
    import onnx
    from onnx import TensorProto, helper

    folder.mkdir(parents=True)
    ((name, spec),) = contract.inputs.items()
    kind = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}[spec.dtype]
    shape = [size if isinstance(size, int) else size.name for size in spec.shape]
    axes = helper.make_tensor("axes", TensorProto.INT64, [len(shape) - 1], list(range(1, len(shape))))
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [name], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["wide", "axes"], ["total"], keepdims=0),
        ],
        "sum",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, ["batch"])],
        [axes],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "model.onnx"
    )
    return folder


def shipped(folder: Path, contract: Contract, rows: np.ndarray) -> Path:  # type: ignore[type-arg]
    total = rows.reshape(len(rows), -1).sum(axis=1).astype(np.float32)
    variant = mlp.variant("onnxruntime", tolerance={"total": 1e-3})
    package = write_package(
        folder / "package",
        contract=contract,
        variants=[(variant, write_sum(folder / "graph", contract))],
        golden=Golden((GoldenCase({next(iter(contract.inputs)): rows}, {"total": total}),)),
        record=mlp.record(),
        report_html="",
        card="",
    )
    return write_ship(package, folder / "package.ship")


OUTPUTS = {"total": OutputSpec(dtype="float32", shape=("batch",))}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    tokenizers = pytest.importorskip("tokenizers")
    project = tmp_path_factory.mktemp("project")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(project / "tokenizer.json"))
    contract = Contract(
        name="words",
        inputs={"ids": InputSpec(dtype="int64", shape=("batch", "tokens:1..6"))},
        encode={"text": TextEncode(kind="text", tokenizer="tokenizer.json", feeds=("ids",))},
        outputs=OUTPUTS,
        task=TaskSpec(kind="regression"),
        root=project,
    )
    ship = shipped(tmp_path_factory.mktemp("text"), contract, np.arange(6).reshape(2, 3))
    (project / "tokenizer.json").unlink()
    with load(ship) as predictor:
        yield predictor


def test_the_tokenizer_is_in_the_package(text: Predictor) -> None:
    with read_package(text.package.path) as package:
        assert package.contract.encode["text"].tokenizer == "assets/text-tokenizer.json"  # type: ignore[union-attr]
        assert "assets/text-tokenizer.json" in package.manifest.files


@pytest.mark.parametrize("value", ["set sail", {"text": "set sail"}, {"ids": [1, 2]}, [1, 2], np.array([1, 2])])
def test_one_text_in_every_form(text: Predictor, value: object) -> None:
    assert text.predict(value)["value"] == 3.0


def test_texts_of_different_lengths(text: Predictor) -> None:
    said = ["set sail at dawn", "sail", "at dawn", "dawn", "dawn at"]
    predictions = text.predict(said)["predictions"]
    assert [answer["value"] for answer in predictions] == [10.0, 2.0, 7.0, 4.0, 7.0]
    assert [answer["sample_index"] for answer in predictions] == [0, 1, 2, 3, 4]


def test_a_text_that_is_too_long_is_named(text: Predictor) -> None:
    with pytest.raises(InputError) as caught:
        text.predict(["sail", "sail " * 7, 5])
    assert {problem.sample_index for problem in caught.value.problems} == {1, 2}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    pytest.importorskip("PIL")
    accept = ImageAccept(kind="image", size=(2, 3), mode="L", resize="exact", scale=1 / 255)
    contract = Contract(
        name="light",
        inputs={"image": InputSpec(dtype="float32", shape=("batch", 1, 2, 3), accept=accept)},
        outputs=OUTPUTS,
        task=TaskSpec(kind="regression"),
    )
    rows = np.random.default_rng(1).uniform(size=(2, 1, 2, 3)).astype(np.float32)
    with load(shipped(tmp_path_factory.mktemp("image"), contract, rows)) as predictor:
        yield predictor


def png(pixels: np.ndarray) -> bytes:  # type: ignore[type-arg]
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_an_image_in_every_form(image: Predictor) -> None:
    pixels = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
    expected = pytest.approx(3.0, abs=1e-5)
    assert image.predict_image(png(pixels))["value"] == expected
    assert image.predict(png(pixels))["value"] == expected
    assert image.predict({"image": png(pixels)})["value"] == expected
    assert image.predict((pixels[None] / 255).tolist())["value"] == expected
    many = image.predict([png(pixels), png(255 - pixels)])["predictions"]
    assert [answer["value"] for answer in many] == [expected, expected]


def test_what_is_no_image(image: Predictor) -> None:
    with pytest.raises(InputError):
        image.predict_image(b"garbage")


def test_encoders_are_open_before_the_first_request(text: Predictor, image: Predictor) -> None:
    assert text.notes == image.notes == ()
    (form,) = text.codec._forms["text"]
    assert form._tokenizer is not None  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", ["{}", "garbage", ""])
def test_a_tokenizer_file_that_is_none_is_refused_at_load(
    text: Predictor, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(text.package.root, tmp_path / "copy"))
    name = "assets/text-tokenizer.json"
    (folder / name).write_text(content)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][name] = {"sha256": hashlib.sha256(content.encode()).hexdigest(), "size": len(content)}
    sealed = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(sealed)
    (folder / "DIGEST").write_text(hashlib.sha256(sealed).hexdigest() + "\n")
    monkeypatch.setattr(loading, "open_runner", lambda *given: pytest.fail("opened"))
    for open_it in (load, verify):
        with pytest.raises(PackageError, match=r"encode\.text\.tokenizer: .*text-tokenizer\.json") as caught:
            open_it(folder)
        assert type(caught.value) is PackageError


def test_without_tokenizers_the_package_takes_tensors(text: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with load(text.package.root) as predictor:
        (note,) = predictor.notes
        assert note.startswith("'text' is not taken: ") and "shipworthy[text]" in note
        assert predictor.predict({"ids": [1, 2]})["value"] == 3.0
        with pytest.raises(MissingExtra):
            predictor.predict({"text": "set sail"})


def test_without_pillow_the_package_takes_tensors(image: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(np.zeros((2, 3), np.uint8))
    for module in ("PIL", "PIL.Image", "PIL.ImageOps"):
        monkeypatch.setitem(sys.modules, module, None)
    with load(image.package.root) as predictor:
        (note,) = predictor.notes
        assert note.startswith("'image' is taken as a tensor only: ") and "shipworthy[images]" in note
        assert predictor.predict({"image": [[[1, 0, 0], [0, 0, 1]]]})["value"] == 2.0
        with pytest.raises(MissingExtra):
            predictor.predict_image(data)
