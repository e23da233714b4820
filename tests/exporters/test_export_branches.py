"""A graph that has lost a branch is never handed out in silence."""

from __future__ import annotations

import numpy as np
import pytest
from export_models import LengthBranch, RareBranch, SignBranch, UnscriptableBranch, UnscriptableRareBranch
from export_subject import Make, rules

from shipworthy.contract import Array
from shipworthy.errors import ExportError
from shipworthy.runtime import describe, open_runner

X = {"x": ["batch", 4]}


def both_sides() -> tuple[dict[str, Array], dict[str, Array]]:
    random = np.random.default_rng(1)
    warm = np.abs(random.standard_normal((3, 4))).astype("float32")
    return {"x": warm}, {"x": -warm}


def test_torchscript_says_that_tracing_is_wrong_and_serves_both_branches(subject: Make) -> None:
    tried = subject(SignBranch(), X)
    exported = tried.export("torchscript")
    assert exported.route == "script"
    assert rules(exported) == ["trace-froze-branch", "kept-branches"]
    assert "tracing alone would be wrong" in exported.findings[0].why
    tried.assert_like_eager(exported, *both_sides())
    assert "if bool(torch.gt(torch.sum(" in describe(exported.artifact.directory / "model.pt").text


def test_torchscript_keeps_both_branches_in_bf16(subject: Make) -> None:
    tried = subject(SignBranch(), X)
    exported = tried.export("torchscript", "bf16")
    assert exported.route == "script"
    tried.assert_like_eager(exported, *both_sides(), tolerance=0.05)


def test_data_that_takes_one_side_only_does_not_hide_the_other(subject: Make) -> None:
    """All probes are positive, as real pixels are: negated variants of them find the branch."""
    tried = subject(SignBranch(), X, positive=True)
    exported = tried.export("torchscript")
    assert exported.route == "script"
    assert "trace-froze-branch" in rules(exported)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_onnx_and_openvino_get_both_branches_from_the_script(engine: str, subject: Make) -> None:
    tried = subject(SignBranch(), X)
    exported = tried.export(engine)
    assert exported.route.startswith("script to ONNX")
    assert rules(exported) == ["fallback", "trace-froze-branch"]
    assert "export_models.py" in exported.findings[0].why
    tried.assert_like_eager(exported, *both_sides())
    runner = open_runner(exported.artifact)
    heavy = [kernel for kernel in runner.kernels() if kernel.heavy]
    assert heavy
    assert {kernel.precision for kernel in heavy} == {"fp32"}
    runner.close()


def test_openvino_shows_the_kernels_of_both_branches_in_bf16(subject: Make) -> None:
    exported = subject(SignBranch(), X).export("openvino", "bf16")
    runner = open_runner(exported.artifact)
    heavy = [kernel for kernel in runner.kernels() if kernel.heavy]
    assert sum(kernel.count for kernel in heavy) == 2
    assert {kernel.precision for kernel in heavy} == {"bf16"}
    runner.close()


def test_aoti_names_the_branch_and_the_remedy(subject: Make) -> None:
    with pytest.raises(ExportError, match="depends on the values of a tensor") as caught:
        subject(SignBranch(), X).export("aoti")
    assert "export_models.py" in caught.value.reason
    assert "torch.where or torch.cond" in caught.value.remedy


@pytest.mark.parametrize(("engine", "route"), [("torchscript", "script"), ("onnxruntime", "script to ONNX")])
def test_a_branch_that_no_probe_takes_is_kept(engine: str, route: str, subject: Make) -> None:
    tried = subject(RareBranch(), X)
    exported = tried.export(engine)
    assert exported.route == route
    tried.assert_like_eager(exported, {"x": np.full((2, 4), 3e6, "float32")})


@pytest.mark.parametrize("engine", ["torchscript", "onnxruntime", "openvino"])
def test_a_branch_that_only_a_trace_can_take_is_warned_of(engine: str, subject: Make) -> None:
    exported = subject(UnscriptableRareBranch(), X).export(engine)
    assert "trace-may-freeze" in rules(exported)
    warning = next(finding for finding in exported.findings if finding.rule == "trace-may-freeze")
    assert warning.severity == "warning"
    assert "export_models.py:" in warning.why


@pytest.mark.parametrize("engine", ["torchscript", "onnxruntime", "openvino", "aoti"])
def test_where_every_way_is_wrong_there_is_no_graph(engine: str, subject: Make) -> None:
    with pytest.raises(ExportError):
        subject(UnscriptableBranch(), X).export(engine)


@pytest.mark.parametrize("engine", ["torchscript", "onnxruntime", "openvino"])
def test_a_branch_on_a_size_is_right_on_both_sides(engine: str, subject: Make) -> None:
    tried = subject(LengthBranch(), {"x": ["batch", "steps", 3]}, steps=(2, 6, 20))
    exported = tried.export(engine)
    tried.assert_like_eager(exported)
