"""Real builds of a tiny model: the whole way, and candidates that go wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shipworthy.contract import Contract
from shipworthy.errors import ContractError, MeasureError, ModelError
from shipworthy.measure import Caps
from shipworthy.package import read_package
from shipworthy.select import BuildReport, Effort, build, read_journal
from shipworthy.select.bench import Job
from shipworthy.select.job import prepare, tidy
from shipworthy.signals import Accepted, read_reference, watch

MakeContract = Callable[..., Contract]
SEARCH = {
    "precisions": ["fp32", "bf16", "int8"],
    "quantize": ["qat"],
    "engines": ["onnxruntime", "openvino", "torchscript"],
}


@pytest.fixture(scope="module")
def report(iris_contract: MakeContract, quick: Effort, work: Path) -> BuildReport:
    contract = iris_contract(limits={"max_metric_drop": 0.2, "confidence": 0.9}, search=SEARCH)
    return build(contract, work=work, progress=False, effort=quick)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For builds that differ only in how they judge: what one has measured, the next one need not."""
    return tmp_path_factory.mktemp("shared")


@pytest.mark.full
def test_every_candidate_has_a_row_with_a_verdict_and_a_reason(report: BuildReport) -> None:
    rows = {row.candidate.id: row for row in report.record.results}
    assert next(iter(rows)) == "torch-fp32"
    assert rows["torch-fp32"].verdict == "baseline"
    assert len(rows) == 8
    untrained = rows["qat+onnxruntime-int8"]
    assert untrained.verdict == "skipped"
    assert untrained.reason.startswith("needs training data")
    assert f"qat+onnxruntime-int8: {untrained.reason}" in report.record.skipped
    assert all(row.reason for row in rows.values())
    for row in rows.values():
        assert (row.gate is not None) == (row.verdict in ("rejected", "skipped"))


@pytest.mark.full
def test_the_evidence_is_whole(report: BuildReport) -> None:
    row = next(row for row in report.record.results if row.candidate.id == "openvino-fp32")
    evidence = row.evidence
    assert evidence.parity[0].max_abs < 1e-3
    assert evidence.parity[0].top1_agreement == 1.0
    assert 0 < evidence.tolerance["logits"] < 1e-2
    assert [point.batch for point in evidence.latency] == [1, 2, 4, 8, 16, 32]
    assert all(0 < point.p50_ms <= point.p99_ms for point in evidence.latency)
    assert {point.point.streams for point in evidence.throughput} == {1}, "latency is of one request at a time"
    assert evidence.best in [point.point for point in evidence.throughput]
    assert any(kernel.heavy and kernel.precision == "fp32" for kernel in evidence.kernels)
    assert evidence.load_s is not None
    assert evidence.load_s > 0
    assert 20 < (evidence.rss_mb or 0) < 1000
    assert 0.2 < (evidence.size_mb or 0) < 2
    assert evidence.speed[0].against == "torch-fp32"
    assert evidence.speed[0].lower <= evidence.speed[0].ratio <= evidence.speed[0].upper
    assert evidence.metrics[0].split == "validation"
    assert evidence.metrics[0].samples == 45
    assert set(evidence.metrics[0].per_class) == {"setosa", "versicolor", "virginica"}


@pytest.mark.full
def test_a_faster_engine_is_chosen_and_proven(report: BuildReport) -> None:
    chosen = next(row for row in report.record.results if row.candidate.id == report.record.chosen)
    assert chosen.verdict == "chosen"
    assert chosen.candidate.engine in ("onnxruntime", "openvino")
    proof = next(metric for metric in chosen.evidence.metrics if metric.split == "holdout")
    assert proof.confidence is not None
    finalists = [row for row in report.record.results if any(m.split == "holdout" for m in row.evidence.metrics)]
    assert proof.confidence == pytest.approx(1 - 0.1 / len(finalists)), "the error is shared by the finalists"
    assert (proof.drop_upper or 1) <= 0.2
    assert report.record.chosen in report.record.pareto
    assert str(report.record.chosen) in report.record.why


@pytest.mark.full
def test_the_report_reads_and_shows_itself(report: BuildReport) -> None:
    from shipworthy.evidence import BuildRecord

    assert BuildRecord.model_validate_json(report.json()) == report.record
    assert "openvino-fp32" in report.html()
    assert report._repr_html_().startswith("<iframe")
    assert report.table().row_count == 7, "what was not tried stands below"


@pytest.mark.full
@pytest.mark.parametrize("name", ["iris", "iris.ship"])
def test_the_best_is_packed_with_its_golden_cases(name: str, report: BuildReport, tmp_path: Path) -> None:
    assert report.best is not None
    path = report.best.save(tmp_path / name)
    with read_package(path) as package:
        assert package.manifest.variants[0].id == report.record.chosen
        assert all(variant.points for variant in package.manifest.variants)
        assert len(package.golden.cases) >= 4
        assert {len(case.inputs["measurements"]) for case in package.golden.cases} >= {1, 2, 3, 8}
        assert package.record == report.record
    from shipworthy.predict import load

    with load(path) as predictor:
        answer = predictor.predict({"measurements": [5.1, 3.5, 1.4, 0.2]})
    assert answer["label"] == "setosa"


@pytest.mark.full
def test_variants_are_packed_with_their_references(report: BuildReport, tmp_path: Path) -> None:
    assert report.best is not None
    rows = {row.candidate.id: row for row in report.record.results}
    with read_package(report.best.save(tmp_path / "iris")) as package:
        for variant in package.manifest.variants:
            file = package.reference(variant.id)
            assert file is not None
            reference = read_reference(file, variant.id)
            watch(package.contract, reference, variant.id)
            proof = next(metric for metric in rows[variant.id].evidence.metrics if metric.split == "holdout")
            assert reference.accepted == Accepted("accuracy", proof.candidate, proof.eager - 0.2, 45)
            assert (reference.samples, sum(reference.labels), reference.origin) == (45, 45, "build")
            assert reference.created == report.record.created
            evidence = rows[variant.id].evidence.reference
            assert evidence is not None
            assert (evidence.samples, evidence.fitted_on, evidence.fitted) == (45, "validation", 44), (
                "one row is in both"
            )
    unpacked = [row for name, row in rows.items() if name not in report.best.references]
    assert all(row.evidence.reference is None for row in unpacked)
    assert "reference-small" in [finding.rule for finding in report.record.findings]
    assert "Reference for production" in report.html()


@pytest.mark.full
def test_other_limits_give_the_reference_of_the_store_another_level(
    report: BuildReport, iris_contract: MakeContract, quick: Effort, work: Path
) -> None:
    assert report.best is not None
    contract = iris_contract(limits={"max_metric_drop": 0.3, "confidence": 0.9}, search=SEARCH)
    before = len(read_journal(work))
    other = build(contract, work=work, progress=False, effort=quick)
    made = [(entry.event, entry.subject) for entry in read_journal(work)[before:] if entry.stage == "reference"]
    assert made == [("reused", name) for name in report.best.references]
    assert other.best is not None
    for name, path in other.best.references.items():
        accepted = read_reference(path, name).accepted
        row = next(row for row in other.record.results if row.candidate.id == name)
        proof = next(metric for metric in row.evidence.metrics if metric.split == "holdout")
        assert accepted is not None and accepted.level == proof.eager - 0.3


@pytest.mark.full
def test_an_embedding_is_run_on_the_calibration_data_for_its_constants(quick: Effort, tmp_path: Path) -> None:
    import torch

    contract = {
        "name": "embedding",
        "inputs": {"x": {"dtype": "float32", "shape": ["batch", 4]}},
        "task": {"kind": "embedding"},
        "search": {"precisions": ["fp32"]},
        "target": {"objective": "size"},
    }
    random = np.random.default_rng(0)
    x, y, z = ({"x": random.normal(size=(rows, 4)).astype(np.float32)} for rows in (70, 100, 90))
    report = build(
        torch.nn.Linear(4, 12),
        contract,
        validation=x,
        holdout=y,
        calibration=z,
        engines=["openvino"],
        work=tmp_path,
        progress=False,
        effort=quick,
    )
    assert report.best is not None, "where size is the objective, speed decides nothing"
    reference = read_reference(report.best.references["openvino-fp32"], "the reference")
    assert reference.samples == 100
    assert [name for name in reference.constants if name.endswith("/directions")]
    assert reference.accepted is None


def test_a_live_module_needs_no_files(quick: Effort, tmp_path: Path) -> None:
    import torch

    class Live(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).softmax(-1)

    contract = {
        "name": "live",
        "inputs": {"x": {"dtype": "float32", "shape": ["batch", 4]}},
        "search": {"precisions": ["fp32"]},
    }
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    report = build(
        Live(), contract, validation={"x": x}, engines=["onnxruntime"], work=tmp_path, progress=False, effort=quick
    )
    rows = {row.candidate.id: row for row in report.record.results}
    assert set(rows) == {"torch-fp32", "onnxruntime-fp32"}
    assert rows["onnxruntime-fp32"].evidence.parity[0].max_abs < 1e-5
    assert rows["onnxruntime-fp32"].evidence.metrics == ()
    rules = [finding.rule for finding in report.record.findings]
    assert ("reference-missing" in rules) == (report.best is not None), "ten samples are held out"


_WILD = """
import ctypes, os, time
from flower import build_model as build_flower


def build_model():
    # The worker's own log says which candidate is being exported.
    log = os.readlink("/proc/self/fd/2")
    if "onnxruntime-fp32-export" in log:
        ctypes.string_at(0)
    if "torchscript-fp32-export" in log:
        time.sleep(1000)
    if "aoti-fp32-export" in log:
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 20) * 64))
    return build_flower()
"""


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the model finds out by /proc who is building it")
def test_a_candidate_that_goes_wild_is_a_row_and_the_rest_go_on(
    iris: Path, iris_contract: MakeContract, quick: Effort, tmp_path: Path
) -> None:
    (iris / "wild.py").write_text(textwrap.dedent(_WILD))
    caps = Caps(export_s=25, step_s=120, memory_mb=2500)
    effort = Effort(caps, quick.times, quick.course)
    report = build(iris_contract(model="wild:build_model"), work=tmp_path, progress=False, effort=effort)
    rows = {row.candidate.id: row for row in report.record.results}
    found = {name: (row.verdict, row.gate) for name, row in rows.items()}
    assert found["onnxruntime-fp32"] == ("rejected", "crash")
    assert found["torchscript-fp32"] == ("rejected", "hang")
    assert found["aoti-fp32"] == ("rejected", "memory")
    assert "SIGSEGV" in rows["onnxruntime-fp32"].reason
    assert "within 25 s" in rows["torchscript-fp32"].reason
    assert "above the cap of 2,500 MB" in rows["aoti-fp32"].reason
    assert rows["openvino-fp32"].evidence.best is not None, "the others are measured as ever"


@pytest.mark.full
def test_limits_that_none_meets_leave_reasons_and_a_pareto_set(
    iris_contract: MakeContract, quick: Effort, work: Path
) -> None:
    contract = iris_contract(limits={"rss_mb": 5})
    report = build(contract, engines=["openvino"], work=work, progress=False, effort=quick)
    row = report.record.results[1]
    assert (row.verdict, row.gate) == ("rejected", "limits")
    assert "peak memory" in row.reason
    assert report.record.chosen is None
    assert report.best is None
    assert report.record.pareto == ("openvino-fp32",)
    assert "No candidate" in report.record.why

    loose = build(iris_contract(limits={"rss_mb": 5000}), engines=["openvino"], work=work, progress=False, effort=quick)
    assert loose.record.results[1].gate != "limits"
    assert loose.record.results[1].evidence.speed == row.evidence.speed, "judged anew, not measured anew"


@pytest.mark.full
def test_a_budget_ends_the_sweep_between_candidates(iris_contract: MakeContract, quick: Effort, tmp_path: Path) -> None:
    plain = iris_contract(search={"precisions": ["fp32"]})
    build(plain, engines=["openvino"], work=tmp_path, progress=False, effort=quick)
    contract = iris_contract(search={"precisions": ["fp32"], "budget": "0.01s"})
    report = build(contract, engines=["onnxruntime", "openvino"], work=tmp_path, progress=False, effort=quick)
    rows = {row.candidate.id: row for row in report.record.results}
    assert rows["onnxruntime-fp32"].verdict == "skipped"
    assert rows["openvino-fp32"].evidence.best is not None, "what is in the store costs no more time"
    assert report.record.skipped[0] == "onnxruntime-fp32: the budget of 0.01s was used up"


def _prepared(contract: Contract, quick: Effort, work: Path, model: Any = None) -> Job:
    given = (contract, None) if model is None else (model, contract)
    return prepare(*given, {}, work=work, mend=False, effort=quick)[0]


@pytest.mark.full
def test_a_factory_without_weights_is_called_once(
    iris: Path, iris_contract: MakeContract, quick: Effort, tmp_path: Path
) -> None:
    (iris / "unseeded.py").write_text("from flower import Flower\n\n\ndef build_model():\n    return Flower()\n")
    contract = iris_contract(model="unseeded:build_model", weights=None)
    report = build(contract, engines=["onnxruntime"], work=tmp_path, progress=False, effort=quick)
    row = report.record.results[1]
    assert row.evidence.parity[0].max_abs < 1e-4, "every process has the very same weights"


def test_other_weights_each_time_that_cannot_be_handed_on_are_refused(
    iris: Path, iris_contract: MakeContract, quick: Effort, tmp_path: Path
) -> None:
    (iris / "locked.py").write_text(
        "import threading, torch\nfrom flower import Flower\n\n\ndef build_model():\n    net = Flower()\n"
        "    net.lock = threading.Lock()\n    return net\n\n\n"
        "def seeded():\n    torch.manual_seed(0)\n    return build_model()\n"
    )
    with pytest.raises(ModelError, match="builds other weights each time; name weights or seed it"):
        _prepared(iris_contract(model="locked:build_model", weights=None), quick, tmp_path)
    job = _prepared(iris_contract(model="locked:seeded", weights=None), quick, tmp_path)
    assert job.source.pickle is None
    assert [finding.rule for finding in job.findings] == ["not-resumable"]


def test_a_second_build_does_not_take_the_model_of_the_first(
    iris_contract: MakeContract, quick: Effort, tmp_path: Path
) -> None:
    import torch

    contract = iris_contract(model=None, weights=None)
    first, second = (_prepared(contract, quick, tmp_path, torch.nn.Linear(4, 3)).source for _ in range(2))
    assert first.pickle is not None
    assert second.pickle is not None
    names = {file.name for file in (tmp_path / "model").iterdir()}
    assert names == {first.pickle.name, second.pickle.name}, "nothing half-written is left"
    assert len(names) == 2
    tidy(second, tmp_path)
    assert [file.name for file in (tmp_path / "model").iterdir()] == [second.pickle.name]


def test_a_changed_metric_makes_old_results_void(
    iris: Path, iris_contract: MakeContract, quick: Effort, tmp_path: Path
) -> None:
    found = []
    for number in (1, 2):
        (iris / f"metric_{number}").mkdir()
        (iris / f"metric_{number}" / "mine.py").write_text(f"def score(outputs, targets):\n    return {number}.0\n")
        contract = iris_contract(data={"metric": "mine:score"}, model=None, weights=None, limits={})
        contract = contract.model_copy(update={"root": iris / f"metric_{number}"})
        import torch

        torch.manual_seed(0)
        found.append(_prepared(contract, quick, tmp_path, torch.nn.Linear(4, 3)).identity)
    assert found[0]["metric"] != found[1]["metric"]
    assert {name for name in found[0] if found[0][name] != found[1][name]} == {"metric"}


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rules_that_were_not_asked_are_in_the_record(
    iris_contract: MakeContract, quick: Effort, tmp_path: Path
) -> None:
    import torch

    traced = torch.jit.trace(torch.nn.Linear(4, 3), torch.zeros(2, 4))
    contract = iris_contract(model=None, weights=None, search={"precisions": ["fp32"], "budget": "0.01s"})
    report = build(traced, contract, engines=["torchscript"], work=tmp_path, progress=False, effort=quick)
    assert any(each.startswith("check ") and "own code" in each for each in report.record.skipped)


@pytest.mark.full
def test_progress_goes_to_standard_error_as_lines(
    iris_contract: MakeContract, quick: Effort, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    build(iris_contract(), engines=["openvino"], work=work, effort=quick)
    out, err = capfd.readouterr()
    assert out == ""
    assert "torch-fp32: export …" in err
    assert "[2/3] openvino-fp32: " in err


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ((object(),), ContractError, "a live module needs a contract"),
    (("nowhere.toml",), ContractError, "nowhere.toml"),
    ((object(), {"name": "n", "inputs": {"x": {"dtype": "float32", "shape": ["batch"]}}}), ModelError, "an nn.Module"),
])  # fmt: skip
def test_what_cannot_be_built_is_refused_in_words(
    arguments: Any, error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        build(*arguments, work=tmp_path, progress=False)


@pytest.mark.full
def test_a_model_that_itself_crashes_has_no_baseline(iris: Path, iris_contract: MakeContract, tmp_path: Path) -> None:
    (iris / "crash.py").write_text(
        "import ctypes, os\nfrom flower import build_model as inner\n\n\ndef build_model():\n"
        "    if 'torch-fp32-export' in os.readlink('/proc/self/fd/2'):\n        ctypes.string_at(0)\n"
        "    return inner()\n"
    )
    with pytest.raises(MeasureError, match="torch-fp32: died of SIGSEGV"):
        build(iris_contract(model="crash:build_model"), work=tmp_path, progress=False)
