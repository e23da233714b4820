"""The public verb: from a live module to a graph in int8, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quantize_subjects import FLOATS, Branch

from shipworthy.compress import AccuracyAware, Rest, Static, Structured
from shipworthy.compress.made import Quantized
from shipworthy.compress.quantization.verb import quantize
from shipworthy.contract import Contract
from shipworthy.errors import CompressError, ContractError
from shipworthy.runtime import open_runner

CONTRACT = Contract(name="net", inputs=FLOATS)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = torch.nn.Linear(32, 64), torch.nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(x)))


def _values(count: int = 40, seed: int = 0, shift: float = 0.0) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).standard_normal((count, 32)).astype(np.float32) + np.float32(shift)}


def test_a_live_module_becomes_a_graph_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    net = Net().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    made = quantize(net, CONTRACT, calibration=_values(), directory=tmp_path)
    assert isinstance(made, Quantized)
    assert capfd.readouterr() == ("", "")
    assert net.training and all(torch.equal(net.state_dict()[name], before[name]) for name in before)
    assert made.artifact.directory == tmp_path / "int8" and (tmp_path / "fp32" / "model.xml").exists()
    runner = open_runner(made.artifact)
    found = runner.run(_values(3))
    runner.close()
    with torch.no_grad():
        wanted = net(torch.from_numpy(_values(3)["x"])).numpy()
    np.testing.assert_allclose(next(iter(found.values())), wanted, atol=0.05)
    assert made.report.recipe == "static" and made.report.samples == 40
    assert made.findings == ()


def test_calibration_data_of_another_kind_is_a_finding(tmp_path: Path) -> None:
    made = quantize(Net(), CONTRACT, calibration=_values(60), validation=_values(200, 1, shift=3.0), directory=tmp_path)
    assert [finding.rule for finding in made.findings] == ["calibration-unlike-validation"]


def test_without_calibration_data_the_validation_data_calibrates(tmp_path: Path) -> None:
    made = quantize(Net(), CONTRACT, Static(keep_float=()), validation=_values(80), directory=tmp_path)
    assert isinstance(made, Quantized) and made.report.samples == 80, "what is given is not halved"


def test_dynamic_needs_no_data(tmp_path: Path) -> None:
    made = quantize(Net(), CONTRACT, "dynamic", directory=tmp_path)
    assert isinstance(made, Quantized) and made.report.recipe == "dynamic"


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("static", {}, "there is no calibration data"),
        ("statik", {}, "did you mean 'static'"),
        (Static, {}, r"Static: is a class without its settings.*Static\(\)"),
        (Structured(share=0.5), {}, r"Structured: does not quantize a model.*Dynamic\(\), Static\(\)"),
        (Rest(), {}, "Rest: does not quantize a model"),
        ("static", {"engine": "openvino2"}, "did you mean 'openvino'"),
        (AccuracyAware(max_drop=0.1), {"calibration": _values()}, "nothing to measure the metric's drop with"),
    ],
    ids=["no data", "unknown method", "a class", "pruning", "of plans alone", "unknown engine", "no metric"],
)
def test_what_cannot_be_carried_out_is_refused_with_a_remedy(
    method: Any, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(CompressError, match=said) as refused:
        quantize(Net(), CONTRACT, method, directory=tmp_path, **settings)
    assert refused.value.remedy


def test_a_target_of_another_kind_is_refused() -> None:
    foreign = CONTRACT.model_copy(update={"target": CONTRACT.target.model_copy(update={"arch": "riscv64"})})
    with pytest.raises(ContractError, match=r"'riscv64' is not this host"):
        quantize(Net(), foreign, calibration=_values())


def test_accuracy_aware_needs_a_limit() -> None:
    with pytest.raises(ContractError, match=r"needs limits\.max_metric_drop"):
        quantize(Net(), CONTRACT, "accuracy-aware", validation=_values())


def test_samples_that_never_take_a_branch_are_named_as_the_remedy(tmp_path: Path) -> None:
    """The ranges inside a branch that no sample takes are not known."""
    torch.manual_seed(0)
    with pytest.raises(CompressError) as refused:
        quantize(Branch(), CONTRACT, calibration=_values(shift=5.0), directory=tmp_path)
    assert "have to take every branch" in refused.value.remedy
