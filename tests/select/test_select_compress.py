"""Real builds that compress: what int8 gives where it gives something, and what is said where it does not."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shipworthy.contract import Contract, parse_contract
from shipworthy.evidence import CandidateResult
from shipworthy.select import BuildReport, Effort, build, read_journal

pytestmark = pytest.mark.full

_NETS = """
import torch
from torch import nn


class Digits(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10),
        )

    def forward(self, image):
        return self.body(image)


def build_model():
    torch.manual_seed(0)
    return Digits()


def build_student():
    torch.manual_seed(1)
    return Digits(8)


def build_tiny():
    torch.manual_seed(0)
    return Digits(2)
"""


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nets.py, trained weights and the digits in four parts."""
    import sys

    import torch
    from safetensors.torch import save_file
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    (folder / "nets.py").write_text(textwrap.dedent(_NETS))
    values, targets = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(targets))
    x = (values[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y = targets[order].astype(np.int64)
    sys.path.insert(0, str(folder))
    try:
        import nets  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(folder))
    model = nets.build_model()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(8):
        for start in range(0, 640, 64):
            optimizer.zero_grad()
            rows = slice(start, start + 64)
            loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x[rows])), torch.from_numpy(y[rows]))
            loss.backward()
            optimizer.step()
    save_file(model.state_dict(), folder / "nets.safetensors")
    parts = {"train": (0, 640), "calibration": (0, 128), "validation": (640, 1200), "holdout": (1200, 1797)}
    for name, (start, stop) in parts.items():
        np.savez(folder / f"{name}.npz", image=x[start:stop], label=y[start:stop])
    return folder


@pytest.fixture(scope="session")
def digits_contract(digits: Path) -> Callable[..., Contract]:
    def make(**tables: Any) -> Contract:
        mapping: dict[str, Any] = {
            "name": "digits",
            "model": "nets:build_model",
            "weights": "nets.safetensors",
            "inputs": {"image": {"dtype": "float32", "shape": ["batch", 1, 8, 8]}},
            "task": {"kind": "classification"},
            "data": {name: f"{name}.npz" for name in ("train", "calibration", "validation", "holdout")},
            "limits": {"max_metric_drop": 0.03},
            "search": {"precisions": ["fp32", "int8"], "quantize": ["static"], "training": {"epochs": 2}},
            **tables,
        }
        return parse_contract(mapping, root=digits)

    return make


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def report(digits_contract: Callable[..., Contract], quick: Effort, work: Path, effort: float) -> BuildReport:
    search = {"precisions": ["fp32", "int8"], "quantize": ["static"], "prune": [0.5], "training": {"epochs": 3}}
    if effort == 1:
        search |= {"distill": "nets:build_student"}
    limits = {"max_metric_drop": 0.3}
    contract = digits_contract(search=search, limits=limits, target={"objective": "size"})
    return build(contract, engines=["openvino"], work=work, progress=False, effort=quick)


def _rows(report: BuildReport) -> dict[str, CandidateResult]:
    return {row.candidate.id: row for row in report.record.results}


def test_int8_executes_and_is_a_quarter_of_the_size(report: BuildReport) -> None:
    rows = _rows(report)
    int8, fp32 = rows["static+openvino-int8"].evidence, rows["openvino-fp32"].evidence
    assert any(kernel.heavy and kernel.precision == "int8" for kernel in int8.kernels)
    assert int8.metrics[0].drop <= 0.03
    assert (int8.size_mb or 0) < 0.5 * (fp32.size_mb or 0)
    [step] = rows["static+openvino-int8"].compression
    assert step.recipe == "static"
    assert step.samples == 128
    assert {operation.precision for operation in step.operations} == {"int8"}
    assert step.bytes_after < step.bytes_before


def test_combinations_are_tried_after_their_parts(report: BuildReport) -> None:
    rows = _rows(report)
    names = [row.candidate.id for row in report.record.results]
    for shaping in ("prune50", "distill") if "distill+openvino-fp32" in rows else ("prune50",):
        part, both = rows[f"{shaping}+openvino-fp32"], rows[f"{shaping}+static+openvino-int8"]
        assert part.compression[0].recipe == shaping
        if part.verdict == "rejected":
            assert both.verdict == "skipped"
            assert f"its part {part.candidate.id} was rejected" in both.reason
            continue
        assert names.index(both.candidate.id) > names.index(part.candidate.id)
        assert [step.recipe for step in both.compression] == [shaping, "static"]
        assert (both.evidence.size_mb or 9) < (part.evidence.size_mb or 0)
        assert both.compression[0] == part.compression[0], "shaped once, for all that build on it"
    pruned = rows["prune50+openvino-fp32"].compression[0]
    assert (pruned.macs_after or 0) <= 0.55 * (pruned.macs_before or 0)
    assert [epoch.number for epoch in pruned.epochs] == list(range(1, len(pruned.epochs) + 1))


def test_the_report_shows_what_was_done(report: BuildReport) -> None:
    page = report.html()
    assert "What the recipes did" in page
    assert "prune50" in page
    assert report.best is not None
    assert report.best.finalists[0].compression


def test_a_second_build_measures_nothing_and_chooses_the_same(
    report: BuildReport, digits_contract: Callable[..., Contract], quick: Effort, work: Path
) -> None:
    before = len(read_journal(work))
    again = build(report.contract, engines=["openvino"], work=work, progress=False, effort=quick)
    new = read_journal(work)[before:]
    assert {entry.event for entry in new} == {"reused"}
    assert again.record.chosen == report.record.chosen
    assert again.record.why == report.record.why
    assert [row.verdict for row in again.record.results] == [row.verdict for row in report.record.results]


def test_int8_that_is_no_faster_is_rejected_and_says_so(digits: Path, quick: Effort, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(64, 1, 8, 8)).astype(np.float32)
    mapping = {
        "name": "tiny",
        "model": "nets:build_tiny",
        "inputs": {"image": {"dtype": "float32", "shape": ["batch", 1, 8, 8]}},
        "search": {"precisions": ["fp32", "int8"], "quantize": ["static"]},
        "target": {"threads": 1, "objective": "latency"},
    }
    contract = parse_contract(mapping, root=digits)
    report = build(
        contract, calibration={"image": x}, engines=["openvino"], work=tmp_path, progress=False, effort=quick
    )
    row = _rows(report)["static+openvino-int8"]
    assert (row.verdict, row.gate) == ("rejected", "speed")
    assert "openvino-fp32" in row.reason
    assert "a tie with" in row.reason or "slower than" in row.reason
    assert report.record.chosen in ("openvino-fp32", None)


def test_a_budget_is_kept_and_the_rest_is_listed(
    digits_contract: Callable[..., Contract], quick: Effort, tmp_path: Path
) -> None:
    search = {"precisions": ["fp32", "int8"], "prune": [0.3, 0.5], "training": {"epochs": 500, "patience": 500}}
    contract = digits_contract(search=search)
    report = build(contract, engines=["openvino"], budget="45s", work=tmp_path, progress=False, effort=quick)
    rows = _rows(report)
    assert report.record.seconds <= 49.5
    late = [row for row in rows.values() if row.gate == "budget"]
    assert late, ("hundreds of epochs do not fit", [(row.candidate.id, row.gate, row.reason) for row in rows.values()])
    assert all("the budget of 45s" in row.reason for row in late)
    assert rows["openvino-fp32"].verdict in ("chosen", "accepted", "rejected"), "the most promising comes first"
