"""The check as a whole: it orders, it skips what cannot be asked, it survives its rules, and disturbs nothing."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import shipworthy.preflight.rules as rules
from shipworthy.contract import Contract
from shipworthy.evidence import Finding
from shipworthy.model import LoadedModel, from_module
from shipworthy.preflight import CheckReport, check, check_contract
from shipworthy.preflight.context import Context

VECTOR: dict[str, Any] = {"x": {"dtype": "float32", "shape": ["batch", 4]}}


def contract(**more: Any) -> Contract:
    return Contract(**{"name": "m", "inputs": VECTOR, **more})


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()


class Bad(nn.Module):
    """Noisy, with a memory, and with a weight that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.spare = nn.Linear(4, 4)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) + torch.rand(1)


def test_a_good_model_has_nothing_but_a_note() -> None:
    report = check(from_module(mlp()), contract())
    assert [finding.rule for finding in report.findings] == ["gradients"]
    assert report.worst == "note" and report.skipped == () and report.seconds > 0


def test_findings_come_worst_first_and_as_json() -> None:
    report = check(from_module(Bad().eval()), contract())
    order = {"error": 0, "warning": 1, "note": 2}
    ranks = [order[finding.severity] for finding in report.findings]
    assert ranks == sorted(ranks) and report.worst == "error"
    assert {"randomness", "repeatable", "side-effects", "unused-weights"} <= {
        finding.rule for finding in report.findings
    }
    out = json.loads(report.json())
    assert out["worst"] == "error" and len(out["findings"]) == len(report.findings)
    assert "error randomness at" in str(report) and "remedy:" in str(report)


def test_a_report_without_findings() -> None:
    report = CheckReport(())
    assert report.worst is None and str(report) == "nothing to say against it"


def test_the_model_and_the_random_generators_are_left_as_they_were() -> None:
    model = from_module(Bad())
    before = (random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state())
    check(model, contract())
    assert model.module is not None and model.module.calls == 0
    assert not model.module.training
    assert all(not layer._forward_hooks and not layer._forward_pre_hooks for layer in model.module.modules())
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_model_that_does_not_run_is_one_finding_and_the_rest_is_skipped() -> None:
    report = check(from_module(nn.Sequential(nn.Linear(5, 2))), contract())
    assert [(finding.rule, finding.severity) for finding in report.findings] == [("runs", "error")]
    assert "repeatable: the model does not run" in report.skipped


def test_a_rule_that_fails_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(context: Context) -> Iterable[Finding]:
        raise RuntimeError("no such thing")

    broken = rules.Rule("broken", fail, ("module",))
    monkeypatch.setattr(rules, "RULES", (broken, *rules.RULES))
    report = check(from_module(mlp()), contract())
    notes = [finding for finding in report.findings if finding.rule == "broken"]
    assert [note.severity for note in notes] == ["note"]
    assert "RuntimeError" in notes[0].why and "no such thing" in notes[0].why


def test_rules_have_names_of_their_own() -> None:
    names = [rule.name for rule in rules.RULES]
    assert len(names) == len(set(names))
    assert all(rule.find.__doc__ for rule in rules.RULES)


def exported() -> LoadedModel:
    shapes = ({0: torch.export.Dim("batch")},)
    return from_module(torch.export.export(mlp(), (torch.zeros(2, 4),), dynamic_shapes=shapes))  # type: ignore[arg-type]


def scripted() -> LoadedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return from_module(torch.jit.script(mlp()))


def onnx_relu(path: Path) -> LoadedModel:
    value = onnx.helper.make_tensor_value_info
    ends = [value(name, onnx.TensorProto.FLOAT, ["batch", 4]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), str(path))
    return LoadedModel("onnx", None, path)


@pytest.mark.parametrize(("kind", "asked"), [("exported", 10), ("torchscript", 9), ("onnx", 5)])
def test_graphs_are_asked_what_a_graph_can_be_asked(tmp_path: Path, kind: str, asked: int) -> None:
    makers = {"exported": exported, "torchscript": scripted, "onnx": lambda: onnx_relu(tmp_path / "m.onnx")}
    report = check(makers[kind](), contract())
    assert report.findings == ()
    assert len(rules.RULES) - len(report.skipped) == asked
    assert any("needs the model's own code, and this is" in reason for reason in report.skipped)


SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x).relu()

build_model = Net
"""


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Contract]:
    def make(**more: Any) -> Contract:
        (tmp_path / "check_train.py").write_text(SOURCE)
        made = contract(**{"model": "check_train:build_model", **more})
        return made.model_copy(update={"root": tmp_path})

    return make


def test_a_contract_is_loaded_and_checked_on_its_data(project: Callable[..., Contract]) -> None:
    given = project(data={"validation": "v.npz"}, task={"kind": "regression"})
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 4)).astype(np.float32)
    np.savez(given.path("v.npz"), x=x, target=x.sum(1))
    assert check_contract(given).worst == "note"
    given.path("v.npz").write_bytes(b"not an archive")
    report = check_contract(given)
    assert ("data", "error") in [(finding.rule, finding.severity) for finding in report.findings]
    assert "gradients" in [finding.rule for finding in report.findings]


def test_weights_with_a_prefix_are_an_error_with_their_mend_and_the_check_goes_on(
    project: Callable[..., Contract],
) -> None:
    given = project(weights="w.pt")
    torch.save(
        {f"module.{k}": v for k, v in nn.ModuleDict({"layer": nn.Linear(4, 3)}).state_dict().items()},
        given.path("w.pt"),
    )
    report = check_contract(given)
    first = report.findings[0]
    assert (first.rule, first.severity) == ("weights-fit", "error") and "--mend" in first.remedy
    assert "gradients" in [finding.rule for finding in report.findings]
    mended = check_contract(given, mend=True)
    assert [(f.rule, f.severity) for f in mended.findings] == [("weights-fit", "note"), ("gradients", "note")]


@pytest.mark.parametrize(
    ("more", "rule", "words"),
    [
        ({"model": "check_train:nothing"}, "loads", "no attribute 'nothing'"),
        ({"weights": "other.pt"}, "weights-fit", "2 keys of the module are missing"),
        ({"weights": "whole.pt"}, "unsafe-pickle", "whole module of class torch.nn.modules.linear.Linear"),
        ({"weights": "none.pt"}, "loads", "no such file"),
    ],
)
def test_what_does_not_load_is_a_finding(
    project: Callable[..., Contract], more: dict[str, str], rule: str, words: str
) -> None:
    given = project(**more)
    torch.save({"other": torch.ones(1)}, given.path("other.pt"))
    torch.save(nn.Linear(2, 2), given.path("whole.pt"))
    report = check_contract(given)
    assert [(finding.rule, finding.severity) for finding in report.findings] == [(rule, "error")]
    assert words in report.findings[0].why and report.findings[0].remedy
    assert report.skipped == ("all rules: the model does not load",)
