"""Any artifact file can be described, whoever wrote it, and nothing of it is executed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine_zoo import ZOO, Ready, TokenModel
from torch.export import Dim as ExportDim

from shipworthy.contract import Dim
from shipworthy.errors import EngineError
from shipworthy.runtime import describe

Make = Callable[[str, str, str], Ready]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ExportedProgram as torch itself saves it."""
    path = tmp_path_factory.mktemp("foreign") / "tokens.pt2"
    batch, tokens = ExportDim("batch"), ExportDim("tokens", min=1, max=64)
    feeds = tuple(torch.from_numpy(array) for array in ZOO["tokens"].feeds(2, 1).values())
    with torch.no_grad():
        exported = torch.export.export(TokenModel().eval(), feeds, dynamic_shapes=({0: batch, 1: tokens},) * 2)
    torch.export.save(exported, path)
    return path


def test_a_foreign_exported_program(program: Path) -> None:
    description = describe(program)
    assert description.format.startswith("ExportedProgram")
    assert description.signature is not None
    inputs = description.signature.inputs
    assert list(inputs) == ["input_ids", "attention_mask"]
    batch, tokens = inputs["input_ids"].shape
    assert isinstance(batch, Dim)
    assert batch.name == "batch"
    assert isinstance(tokens, Dim)
    assert (tokens.min, tokens.max) == (1, 64)
    (output,) = description.signature.outputs.values()
    assert output.show() == "float32 [batch, 2]"
    assert "torch.ops.aten.embedding.default(p_embed_weight, input_ids)" in description.text


def test_an_exported_program_is_described_without_torch_or_its_pickles(program: Path) -> None:
    code = (
        "import sys; from shipworthy.runtime import describe; "
        f"assert describe({str(program)!r}).signature; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.full
def test_a_compiled_package_is_described_without_opening_it(ready: Make, tmp_path: Path) -> None:
    whole = ready("aoti", "bf16", "conv").exported.artifact.directory / "model.pt2"
    hostile = tmp_path / "model.pt2"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(hostile, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"not a library" if name.endswith(".so") else source.read(name))
    description = describe(hostile)
    assert description.signature == ready("aoti", "bf16", "conv").contract.signature
    assert "2 x convolution (bf16)" in description.text
    assert "was not opened" in description.notes[0]


def test_foreign_torchscript_says_that_it_knows_no_shapes(tmp_path: Path) -> None:
    torch.jit.script(ZOO["mlp"].module()).save(str(tmp_path / "m.pt"))
    description = describe(tmp_path / "m.pt")
    assert description.signature is None
    assert "neither dtypes nor shapes" in description.notes[0]
    assert "def forward" in description.text
    assert "graph(" in description.text


def test_foreign_onnx_and_openvino_say_their_own_dimensions(ready: Make, tmp_path: Path) -> None:
    import onnx
    import openvino

    path = ready("onnxruntime", "fp32", "conv").exported.artifact.directory / "model.onnx"
    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "m.onnx"))
    openvino.save_model(openvino.convert_model(tmp_path / "m.onnx"), tmp_path / "m.xml")
    for name in ("m.onnx", "m.xml"):
        description = describe(tmp_path / name)
        assert description.signature is not None
        assert description.signature.inputs["image"].show() == "float32 [batch, 1, 8, 8]"
        assert description.signature.outputs["output"].show() == "float32 [batch, 10]"
        assert "Conv" in description.text


def test_a_state_dict_and_a_pickled_module_are_not_read(tmp_path: Path) -> None:
    torch.save(ZOO["mlp"].module().state_dict(), tmp_path / "weights.pt")
    torch.save(ZOO["mlp"].module(), tmp_path / "whole.pt")
    for name in ("weights.pt", "whole.pt"):
        with pytest.raises(EngineError, match="no graph that is known"):
            describe(tmp_path / name)


@pytest.mark.parametrize("name", ["x.onnx", "x.xml", "x.pt", "x.pt2", "x.bin"])
@pytest.mark.parametrize("content", [b"", b"\x00garbage", b"<net/>"])
def test_damaged_files(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EngineError):
        describe(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no such file"):
        describe(tmp_path / "nothing.onnx")


def test_a_damaged_signature_inside_is_said(tmp_path: Path, program: Path) -> None:
    hurt = tmp_path / "hurt.pt2"
    hurt.write_bytes(program.read_bytes())
    with zipfile.ZipFile(hurt, "a") as archive:
        archive.writestr("tokens/extra/shipworthy.signature", "{")
    with pytest.raises(EngineError, match="signature stored in it"):
        describe(hurt)
