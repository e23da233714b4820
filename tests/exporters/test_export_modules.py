"""Whatever modules return and take, the artifact has the contract's names, dtypes and order."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from export_models import Linear, Overwriting, Passing, Shaped
from export_subject import Make, rules

from shipworthy.errors import ExportError
from shipworthy.exporters import Exported
from shipworthy.runtime import ENGINES, compiler_isa, open_runner, this_host

ENGINES_HERE = ("torch", "torchscript", "onnxruntime", "openvino")
X = {"x": ["batch", 4]}


@pytest.mark.parametrize("engine", ENGINES_HERE)
@pytest.mark.parametrize("kind", ["tuple", "dict", "named tuple", "dataclass"])
def test_outputs_of_every_kind(engine: str, kind: str, subject: Make) -> None:
    tried = subject(Shaped(kind), X)
    tried.assert_like_eager(tried.export(engine))


@pytest.mark.parametrize("engine", ENGINES_HERE)
def test_outputs_in_the_contracts_order(engine: str, subject: Make) -> None:
    """The dict has `doubled` first, the contract `mean`."""
    outputs = {
        "mean": {"dtype": "float32", "shape": ["batch"]},
        "doubled": {"dtype": "float32", "shape": ["batch", 4]},
    }
    tried = subject(Shaped("dict"), X, outputs=outputs)
    exported = tried.export(engine)
    runner = open_runner(exported.artifact)
    assert list(runner.run(tried.probes[0])) == ["mean", "doubled"]
    runner.close()
    tried.assert_like_eager(exported)


@pytest.mark.parametrize("engine", ENGINES_HERE)
def test_an_input_that_is_returned_and_one_that_is_not_used(engine: str, subject: Make) -> None:
    tried = subject(Passing(), {"x": ["batch", 4], "spare": ["batch", 2]})
    tried.assert_like_eager(tried.export(engine))


@pytest.mark.parametrize("engine", ENGINES_HERE)
def test_a_module_that_writes_into_its_input(engine: str, subject: Make) -> None:
    tried = subject(Overwriting(), X)
    exported = tried.export(engine)
    feeds = {"x": tried.probes[0]["x"].copy()}
    runner = open_runner(exported.artifact)
    first, second = runner.run(feeds), runner.run(feeds)
    np.testing.assert_array_equal(first["output"], second["output"])
    np.testing.assert_array_equal(feeds["x"], tried.probes[0]["x"])
    runner.close()
    tried.assert_like_eager(exported)


@pytest.mark.parametrize("engine", ["torch", "torchscript", "openvino"])
def test_the_users_module_stays_as_it_is(engine: str, subject: Make) -> None:
    module = Linear()
    before = copy.deepcopy(module.state_dict())
    tried = subject(module, X)
    for precision in ("bf16", "fp32"):
        tried.export(engine, precision)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert module.body.weight.dtype == torch.float32


@pytest.mark.parametrize("engine", ENGINES_HERE)
def test_exporting_again_in_one_process_gives_the_same(engine: str, subject: Make) -> None:
    tried = subject(Linear(), X)
    first, second = tried.export(engine), tried.export(engine)
    assert (first.route, first.findings) == (second.route, second.findings)
    tried.assert_like_eager(second)


def test_exporters_are_silent_and_their_talk_is_kept(subject: Make, capfd: pytest.CaptureFixture[str]) -> None:
    tried = subject(Linear(), X)
    for engine in ENGINES_HERE:
        exported = tried.export(engine)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
    assert tried.export("torchscript").log
    assert isinstance(exported, Exported)
    assert exported.seconds > 0


def test_a_pickled_module_runs_in_a_fresh_process(
    subject: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its class is imported by name there, from a folder that only this process had on its path."""
    folder = tmp_path / "user"
    folder.mkdir()
    (folder / "their_model.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return x * 2\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    import their_model  # type: ignore[import-not-found]

    exported = subject(their_model.Net(), X).export("torch")
    signature = exported.artifact.signature.model_dump_json()
    code = (
        "import numpy as np; from pathlib import Path; from shipworthy.contract import Signature;"
        "from shipworthy.runtime import Artifact, open_runner;"
        f"s = Signature.model_validate_json({signature!r});"
        f"r = open_runner(Artifact('torch', 'fp32', Path({str(exported.artifact.directory)!r}), s));"
        "assert (r.run({'x': np.ones((2, 4), 'float32')})['output'] == 2).all()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_a_module_that_cannot_be_pickled_is_an_export_error(subject: Make) -> None:
    module = Linear()
    module.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(ExportError, match="cannot be pickled"):
        subject(module, X).export("torch")


def test_weights_are_inside_and_in_full_precision(subject: Make) -> None:
    tried = subject(Linear(), X)
    onnx = tried.export("onnxruntime").artifact.directory
    assert [path.name for path in onnx.iterdir()] == ["model.onnx"]
    openvino = tried.export("openvino").artifact.directory
    assert sorted(path.name for path in openvino.iterdir()) == ["model.bin", "model.xml"]
    assert 'element_type="f16"' not in (openvino / "model.xml").read_text()


@pytest.mark.parametrize("opset", [18, 21])
def test_the_contracts_opset_is_written(opset: int, subject: Make) -> None:
    import onnx

    exported = subject(Linear(), X).export("onnxruntime", opset=opset)
    model = onnx.load(str(exported.artifact.directory / "model.onnx"))
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [opset]


def test_bf16_in_onnxruntime_fails_honestly(subject: Make) -> None:
    with pytest.raises(ExportError, match="its CPU kernels do not cover the graph"):
        subject(Linear(), X).export("onnxruntime", "bf16")


def test_compiled_code_says_what_it_needs(subject: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from shipworthy.exporters import aoti

    monkeypatch.setattr(aoti, "_compile", lambda job: ())
    monkeypatch.setattr("shipworthy.exporters.routes.gap_of_artifact", lambda job: None)
    exported = subject(Linear(), X).export("aoti")
    assert exported.arch == this_host().arch
    assert exported.isa == compiler_isa(this_host())
    assert exported.isa
    assert subject(Linear(), X).export("openvino").arch is None


def test_a_missing_compiler_is_an_export_error_with_the_remedy(subject: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ExportError, match="needs a C\\+\\+ compiler") as caught:
        subject(Linear(), X).export("aoti")
    assert "install g++" in caught.value.remedy


def test_what_cannot_be_asked(subject: Make) -> None:
    tried = subject(Linear(), X)
    with pytest.raises(ExportError, match="did you mean 'onnxruntime'"):
        tried.export("onnxruntim")
    with pytest.raises(ExportError, match="becomes int8 by a quantizing recipe"):
        tried.export("openvino", "int8")
    with pytest.raises(ExportError, match="no probe"):
        type(tried)(tried.model, tried.contract, (), tried.directory).export("torchscript")
    bare = tried.contract.model_copy(update={"outputs": {}})
    with pytest.raises(ExportError, match="outputs are not known"):
        type(tried)(tried.model, bare, tried.probes, tried.directory).export("torchscript")


def test_a_model_that_bf16_ruins_is_reported(subject: Make) -> None:
    class Cancelling(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + 1e6) - 1e6

    exported = subject(Cancelling(), X).export("torchscript", "bf16")
    assert rules(exported) == ["far-from-eager"]


def test_every_engine_has_an_exporter() -> None:
    from shipworthy.exporters.routes import exporters

    assert set(exporters()) == set(ENGINES)
