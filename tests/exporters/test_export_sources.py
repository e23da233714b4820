"""Models that are graphs already: what can be made of each, and why the rest cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from export_models import Linear, SignBranch
from export_subject import Make, Subject

from shipworthy.errors import ExportError
from shipworthy.exporters import oracle_engine
from shipworthy.model import LoadedModel
from shipworthy.model.graphs import load_exported

X = {"x": ["batch", 4]}


@pytest.fixture
def exported(subject: Make, tmp_path: Path) -> Subject:
    tried = subject(Linear(), X)
    program = torch.export.export(
        tried.model.module, (torch.ones(2, 4),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, tmp_path / "source.pt2")
    return replace(tried, model=load_exported(tmp_path / "source.pt2"))


@pytest.fixture
def scripted(subject: Make) -> Subject:
    tried = subject(SignBranch(), X)
    return replace(tried, model=LoadedModel("torchscript", torch.jit.script(tried.model.module)))


@pytest.fixture
def onnx_file(subject: Make, tmp_path: Path) -> Subject:
    tried = subject(Linear(), X)
    path = tmp_path / "source.onnx"
    path.write_bytes((tried.export("onnxruntime").artifact.directory / "model.onnx").read_bytes())
    return replace(tried, model=LoadedModel("onnx", None, path))


@pytest.mark.parametrize("engine", ["torch", "torchscript", "onnxruntime", "openvino"])
def test_an_exported_program_goes_everywhere(engine: str, exported: Subject) -> None:
    exported.assert_like_eager(exported.export(engine))
    assert oracle_engine(exported.model) == "torch"


@pytest.mark.parametrize("engine", ["torch", "torchscript", "onnxruntime", "openvino"])
def test_torchscript_keeps_its_branches(engine: str, scripted: Subject) -> None:
    scripted.assert_like_eager(scripted.export(engine))
    assert oracle_engine(scripted.model) == "torch"


@pytest.mark.parametrize("engine", ["onnx-reference", "onnxruntime", "openvino"])
def test_an_onnx_file_goes_to_onnxruntime_and_openvino(engine: str, onnx_file: Subject) -> None:
    onnx_file.assert_like_eager(onnx_file.export(engine))
    assert oracle_engine(onnx_file.model) == "onnx-reference"


@pytest.mark.parametrize("precision", ["bf16"])
def test_bf16_of_each_source(precision: str, exported: Subject, scripted: Subject, onnx_file: Subject) -> None:
    for source, engine in ((exported, "openvino"), (scripted, "openvino"), (onnx_file, "openvino")):
        source.assert_like_eager(source.export(engine, precision), tolerance=0.05)
    scripted.assert_like_eager(scripted.export("torchscript", precision), tolerance=0.05)
    with pytest.raises(ExportError, match="runs in the types that it has"):
        onnx_file.export("onnxruntime", precision)


def test_what_each_source_cannot_become(scripted: Subject, onnx_file: Subject) -> None:
    with pytest.raises(ExportError, match="does not take TorchScript"):
        scripted.export("aoti")
    for engine in ("torch", "torchscript", "aoti"):
        with pytest.raises(ExportError, match="has no torch module"):
            onnx_file.export(engine)


def test_weights_beside_an_onnx_file_are_taken_inside(onnx_file: Subject, tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "outside" / "big.onnx"
    path.parent.mkdir()
    model = onnx.load(str(onnx_file.model.path))
    onnx.save_model(model, str(path), save_as_external_data=True, location="big.data", size_threshold=0)
    assert (path.parent / "big.data").exists()
    source = onnx_file.as_source(path=path)
    exported = source.export("onnxruntime")
    assert [file.name for file in exported.artifact.directory.iterdir()] == ["model.onnx"]
    source.assert_like_eager(exported)
