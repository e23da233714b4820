"""Live modules, TorchScript, ExportedProgram and ONNX, each as a LoadedModel."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from shipworthy.contract import Contract
from shipworthy.errors import ModelError, UnsafePickle
from shipworthy.model import LoadedModel, from_module, load_model, run_eager

Project = Callable[..., Contract]

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


class Gate(nn.Module):
    """Takes one of two layers, by the sum of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 3)
        self.down = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return self.up(x)
        return self.down(x)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(x))


def answer(model: LoadedModel, contract: Contract, x: np.ndarray = X) -> np.ndarray:
    return next(iter(run_eager(model, contract.signature, {"x": x}).values()))


def eager(module: nn.Module, x: np.ndarray = X) -> np.ndarray:
    with torch.inference_mode():
        return copy.deepcopy(module).eval()(torch.from_numpy(x.copy())).numpy()


@pytest.fixture
def plain() -> Plain:
    torch.manual_seed(2)
    module = Plain()
    module(torch.randn(16, 4))
    return module


def test_a_live_module_is_copied_and_not_touched(plain: Plain, project: Project) -> None:
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    loaded = from_module(plain)
    assert plain.training and plain.norm.training
    assert loaded.module is not plain and not loaded.module.training
    assert loaded.training == ("norm",)
    assert np.array_equal(answer(loaded, project()), eager(plain))
    with torch.no_grad():
        plain.layer.weight.zero_()
    assert torch.equal(loaded.module.layer.weight, before["layer.weight"])


def test_a_module_in_evaluation_mode_has_nothing_in_training(plain: Plain) -> None:
    assert from_module(plain.eval()).training == ()


def test_ties_and_computed_tensors_survive_the_copy() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.b = nn.Linear(4, 4)
            self.b.weight = self.a.weight
            self.computed = self.a.weight * 2

    loaded = from_module(Tied())
    assert loaded.module.a.weight is loaded.module.b.weight
    assert torch.equal(loaded.module.computed, loaded.module.a.weight * 2)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_old_style_weight_norm_can_be_copied() -> None:
    module = nn.utils.weight_norm(nn.Linear(4, 3))
    module(torch.randn(2, 4))
    assert np.allclose(
        from_module(module).module(torch.from_numpy(X)).detach(), module(torch.from_numpy(X)).detach(), atol=1e-6
    )


def test_wrappers_are_taken_off(plain: Plain) -> None:
    for wrapped in (nn.DataParallel(plain), torch.compile(plain, backend="eager")):
        loaded = from_module(wrapped)
        assert type(loaded.module) is Plain
        assert any("taken out of its" in note for note in loaded.notes)


def test_a_module_that_cannot_be_copied_is_refused_in_words(plain: Plain) -> None:
    plain.lock = threading.Lock()
    with pytest.raises(ModelError, match=r"Plain: cannot be copied .*; keep open files, locks"):
        from_module(plain)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(ModelError, match=r"not an nn\.Module"):
        from_module({"w": torch.ones(1)})  # type: ignore[arg-type]


def test_double_precision_is_kept_with_a_note(plain: Plain) -> None:
    assert from_module(plain.double()).notes == ("has float64 parameters, which are kept",)


def test_a_module_level_instance_is_taken_live(project: Project) -> None:
    contract = project("from torch import nn\nbuild_model = nn.Sequential(nn.Linear(4, 3), nn.Dropout())\n")
    loaded = load_model(contract)
    assert loaded.training == ("1",)
    assert load_model(project(folder="built")).training == ()


def save_script(module: nn.Module, path: Path) -> None:
    torch.jit.script(module.eval()).save(str(path))


def save_program(module: nn.Module, path: Path) -> torch.export.ExportedProgram:
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(module.eval(), (torch.zeros(2, 4),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return program


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_keeps_both_branches(project: Project) -> None:
    torch.manual_seed(3)
    gate = Gate()
    contract = project(model="gate.pt")
    save_script(gate, contract.path("gate.pt"))
    loaded = load_model(contract)
    assert (loaded.source, loaded.path) == ("torchscript", contract.path("gate.pt"))
    for x in (X + 1, X - 1):
        assert np.allclose(answer(loaded, contract, x), eager(gate, x), atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_post_is_traced_behind_torchscript_and_keeps_its_branches(project: Project) -> None:
    gate = Gate()
    source = "from torch import nn\ndef post():\n    return nn.Softmax(-1)\n"
    contract = project(source, model="gate.pt", task={"kind": "classification", "post": "train:post"})
    save_script(gate, contract.path("gate.pt"))
    loaded = load_model(contract)
    assert loaded.source == "torchscript" and loaded.path is None
    assert isinstance(loaded.module, torch.jit.ScriptModule)
    for x in (X + 1, X - 1):
        assert np.allclose(answer(loaded, contract, x), torch.softmax(torch.from_numpy(eager(gate, x)), -1), atol=1e-6)


def test_an_exported_program_takes_any_batch_and_any_mode(plain: Plain, project: Project) -> None:
    contract = project(model="plain.pt2")
    program = save_program(plain, contract.path("plain.pt2"))
    for loaded in (load_model(contract), from_module(program)):  # type: ignore[arg-type]
        assert loaded.source == "exported"
        loaded.module.eval().train(False)
        for batch in (1, 3):
            assert np.allclose(answer(loaded, contract, X[:batch]), eager(plain, X[:batch]), atol=1e-6)


def test_post_behind_an_exported_program_can_be_exported_again(plain: Plain, project: Project) -> None:
    source = "from torch import nn\nclass post(nn.Module):\n"
    source += "    def forward(self, y):\n        return {'best': y.argmax(-1)}\n"
    contract = project(source, model="plain.pt2", task={"post": "train:post"})
    save_program(plain, contract.path("plain.pt2"))
    loaded = load_model(contract)
    assert list(run_eager(loaded, contract.signature, {"x": X})) == ["best"]
    again = torch.export.export(
        loaded.module.eval(), (torch.zeros(2, 4),), dynamic_shapes=(({0: torch.export.Dim("batch")},),)
    )
    assert torch.equal(again.module()(torch.from_numpy(X))["best"], torch.from_numpy(eager(plain).argmax(-1)))


def save_onnx(path: Path, *, valid: bool = True) -> None:
    node = onnx.helper.make_node("Relu" if valid else "NoSuchOperator", ["x"], ["y"])
    value = onnx.helper.make_tensor_value_info
    shape = ["batch", 4]
    graph = onnx.helper.make_graph(
        [node], "g", [value("x", onnx.TensorProto.FLOAT, shape)], [value("y", onnx.TensorProto.FLOAT, shape)]
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), str(path))


def test_onnx_is_checked_and_runs(project: Project) -> None:
    contract = project(model="m.onnx")
    save_onnx(contract.path("m.onnx"))
    loaded = load_model(contract)
    assert (loaded.source, loaded.module, loaded.path) == ("onnx", None, contract.path("m.onnx"))
    assert np.array_equal(answer(loaded, contract), np.maximum(X, 0))
    save_onnx(contract.path("m.onnx"), valid=False)
    with pytest.raises(ModelError, match="no valid ONNX model"):
        load_model(contract)


def test_onnx_inputs_are_named_as_in_the_contract(project: Project) -> None:
    contract = project(model="m.onnx", inputs={"image": {"dtype": "float32", "shape": ["batch", 4]}})
    save_onnx(contract.path("m.onnx"))
    with pytest.raises(ModelError, match="its inputs are x; the contract names image"):
        load_model(contract)


@pytest.mark.parametrize("name", ["m.pt", "m.pt2", "m.onnx"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x05\x06" + bytes(18)])
def test_damaged_files_are_refused_in_words(project: Project, name: str, content: bytes) -> None:
    contract = project(model=name)
    contract.path(name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_model(contract)
    assert name in caught.value.culprit and caught.value.remedy


def test_a_state_dict_is_no_model_and_a_model_no_state_dict(plain: Plain, project: Project) -> None:
    contract = project(model="w.pt")
    torch.save(plain.state_dict(), contract.path("w.pt"))
    with pytest.raises(ModelError, match="is a state_dict, which has weights but no model"):
        load_model(contract)
    contract = project(weights="m.pt2")
    save_program(plain, contract.path("m.pt2"))
    with pytest.raises(ModelError, match=r"is a whole model \(exported\), not a state_dict"):
        load_model(contract)


def test_a_whole_module_is_refused_as_a_model(plain: Plain, project: Project) -> None:
    contract = project(model="m.pt")
    torch.save(plain, contract.path("m.pt"))
    with pytest.raises(UnsafePickle, match=r"whole module of class .*Plain"):
        load_model(contract)


def test_a_compiled_package_is_no_source(project: Project) -> None:
    import zipfile

    contract = project(model="m.pt2")
    with zipfile.ZipFile(contract.path("m.pt2"), "w") as archive:
        archive.writestr("m/data/aotinductor/model/x.so", b"")
        archive.writestr("m/archive_format", "pt2")
    with pytest.raises(ModelError, match="compiled AOTInductor package"):
        load_model(contract)


def test_a_contract_without_a_model_says_so(project: Project) -> None:
    with pytest.raises(ModelError, match="names no model"):
        load_model(project(model=None))


@pytest.mark.parametrize(
    ("result", "names"),
    [
        ("x", ["output"]),
        ("(x, x + 1)", ["output_0", "output_1"]),
        ("[x]", ["output_0"]),
        ("{'a': x, 'b': (x, x), 'none': None}", ["a", "b_0", "b_1"]),
        ("Pair(x, x)", ["left", "right"]),
    ],
)
def test_outputs_have_names(project: Project, result: str, names: list[str]) -> None:
    source = "from collections import namedtuple\nfrom torch import nn\nPair = namedtuple('Pair', 'left right')\n"
    source += f"class build_model(nn.Module):\n    def forward(self, x):\n        return {result}\n"
    contract = project(source)
    assert list(run_eager(load_model(contract), contract.signature, {"x": X})) == names


@pytest.mark.parametrize(
    ("result", "words"), [("3", "has a int"), ("(x, 'a')", "has a str at 1"), ("None", "no tensor")]
)
def test_results_that_are_no_tensors_are_refused(project: Project, result: str, words: str) -> None:
    source = (
        f"from torch import nn\nclass build_model(nn.Module):\n    def forward(self, x):\n        return {result}\n"
    )
    contract = project(source)
    with pytest.raises(ModelError, match=words):
        run_eager(load_model(contract), contract.signature, {"x": X})


def test_feeds_are_never_written_to(project: Project) -> None:
    source = (
        "from torch import nn\nclass build_model(nn.Module):\n    def forward(self, x):\n        return x.add_(1)\n"
    )
    contract = project(source)
    x: Any = X.copy()
    x.flags.writeable = False
    out = run_eager(load_model(contract), contract.signature, {"x": x[::-1, ::2]})
    assert np.array_equal(out["output"], x[::-1, ::2] + 1) and np.array_equal(x, X)


def test_bfloat16_is_returned_as_float32(project: Project) -> None:
    source = "import torch\nfrom torch import nn\nclass build_model(nn.Module):\n"
    source += "    def forward(self, x):\n        return x.to(torch.bfloat16)\n"
    contract = project(source)
    out = run_eager(load_model(contract), contract.signature, {"x": X})["output"]
    assert out.dtype == np.float32 and np.allclose(out, X, atol=0.01)
