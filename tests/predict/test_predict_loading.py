"""From a package to a predictor: the next variant where one fails, and every reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlp
import pytest

from shipworthy.errors import EngineError, NoUsableVariant, TamperedPackage
from shipworthy.package import Requirements, Variant, read_package
from shipworthy.predict import load, loading
from shipworthy.runtime import open_runner
from shipworthy.runtime.protocol import Artifact, OperatingPoint, Runner

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


@pytest.fixture
def graphs(stored: Path) -> dict[str, Path]:
    return {engine: stored / "variants" / f"{engine}-fp32" for engine in ("onnxruntime", "openvino")}


def package(folder: Path, *variants: tuple[Variant, Path]) -> Path:
    return mlp.write(folder / "package", folder / "work", variants=list(variants))


@pytest.mark.parametrize("form", ["stored", "stored_ship"])
def test_the_preferred_variant_is_taken(form: str, request: pytest.FixtureRequest) -> None:
    with load(request.getfixturevalue(form)) as predictor:
        assert predictor.variant.id == "onnxruntime-fp32" and predictor.passed_over == ()
        assert predictor.manifest.name == predictor.contract.name == "iris"
        assert predictor.point == OperatingPoint(streams=1, threads=1, batch=4)


def test_a_path_may_be_text(stored: Path) -> None:
    with load(str(stored)) as predictor:
        assert predictor.variant.id == "onnxruntime-fp32"


def test_code_is_passed_over_and_that_is_said(tmp_path: Path, graphs: dict[str, Path]) -> None:
    code = mlp.variant("onnxruntime", id="code", requires=Requirements(engine="onnxruntime", executes_code=True))
    folder = package(tmp_path, (code, graphs["onnxruntime"]), (mlp.variant("openvino"), graphs["openvino"]))
    with load(folder) as predictor:
        assert predictor.variant.id == "openvino-fp32"
        ((name, reason),) = predictor.passed_over
        assert name == "code" and "--allow-code" in reason
    with load(folder, allow_code=True) as predictor:
        assert predictor.variant.id == "code" and predictor.passed_over == ()


def test_a_variant_of_torchscript_is_not_opened(tmp_path: Path, graphs: dict[str, Path]) -> None:
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "model.pt").write_bytes(b"would execute")
    script = mlp.variant("torchscript", requires=Requirements(engine="torchscript", executes_code=True))
    folder = package(tmp_path, (script, tmp_path / "script"), (mlp.variant("onnxruntime"), graphs["onnxruntime"]))
    code = f"""
import sys
from shipworthy.predict import load
with load({str(folder)!r}) as predictor:
    print(predictor.variant.id, predictor.passed_over, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("onnxruntime-fp32 (('torchscript-fp32', 'carries executable code"), done.stderr
    assert done.stdout.strip().endswith("False")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_variant_of_torchscript_is_opened_where_code_is_allowed(tmp_path: Path, graphs: dict[str, Path]) -> None:
    torch = pytest.importorskip("torch")
    w1, b1, w2, b2 = (torch.from_numpy(array) for array in mlp.weights())
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    net.load_state_dict({"0.weight": w1.T, "0.bias": b1, "2.weight": w2.T, "2.bias": b2})
    (tmp_path / "script").mkdir()
    torch.jit.save(torch.jit.trace(net, torch.zeros(2, 4)), tmp_path / "script" / "model.pt")
    script = mlp.variant("torchscript", requires=Requirements(engine="torchscript", executes_code=True))
    folder = package(tmp_path, (script, tmp_path / "script"), (mlp.variant("onnxruntime"), graphs["onnxruntime"]))
    with load(folder) as plain, load(folder, allow_code=True) as code:
        assert (plain.variant.id, code.variant.id) == ("onnxruntime-fp32", "torchscript-fp32")
        row = [5.1, 3.5, 1.4, 0.2]
        assert code.predict(row)["probabilities"] == pytest.approx(plain.predict(row)["probabilities"], abs=1e-4)


def test_a_variant_that_does_not_open_gives_way(tmp_path: Path, graphs: dict[str, Path]) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.onnx").write_bytes(b"garbage")
    folder = package(
        tmp_path, (mlp.variant("onnxruntime"), tmp_path / "broken"), (mlp.variant("openvino"), graphs["openvino"])
    )
    with load(folder) as predictor:
        assert predictor.variant.id == "openvino-fp32"
        assert predictor.passed_over[0][0] == "onnxruntime-fp32"
        assert predictor.predict([1.0, 2, 3, 4])["variant"] == "openvino-fp32"


def test_a_variant_that_answers_otherwise_gives_way(tmp_path: Path, graphs: dict[str, Path]) -> None:
    other = mlp.write_onnx(tmp_path / "other", mlp.weights()[2] * 2)
    folder = package(tmp_path, (mlp.variant("onnxruntime"), other), (mlp.variant("openvino"), graphs["openvino"]))
    with load(folder) as predictor:
        assert predictor.variant.id == "openvino-fp32"
        assert "golden case 0, output 'logits': differs by" in predictor.passed_over[0][1]


def test_all_fail_and_each_reason_is_given(tmp_path: Path, graphs: dict[str, Path]) -> None:
    elsewhere = mlp.variant("openvino", requires=Requirements(engine="openvino", arch="aarch64-of-tomorrow"))
    other = mlp.write_onnx(tmp_path / "other", mlp.weights()[2] * 2)
    folder = package(tmp_path, (mlp.variant("onnxruntime"), other), (elsewhere, graphs["openvino"]))
    with pytest.raises(NoUsableVariant) as caught:
        load(folder)
    said = str(caught.value)
    assert "onnxruntime-fp32: " in said and "differs by" in said and "openvino-fp32: " in said and "tomorrow" in said


def test_a_variant_by_its_id(stored: Path) -> None:
    with load(stored, variant="openvino-fp32") as predictor:
        assert predictor.variant.id == "openvino-fp32" and predictor.passed_over == ()
    with pytest.raises(
        NoUsableVariant, match="no variant 'openvino-int8'; the variants are onnxruntime-fp32, openvino"
    ):
        load(stored, variant="openvino-int8")


def test_the_point_and_the_version_may_be_given(stored: Path) -> None:
    point = OperatingPoint(streams=2, threads=2, batch=1)
    with load(stored, point=point, version="12") as predictor:
        assert predictor.point == point and predictor.predict([1.0, 2, 3, 4])["version"] == "12"


def test_a_tampered_package_opens_no_engine(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(stored, tmp_path / "copy"))
    graph = folder / "variants" / "onnxruntime-fp32" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[::-1])
    monkeypatch.setattr(loading, "open_runner", lambda *given: pytest.fail("opened"))
    with pytest.raises(TamperedPackage, match=r"model\.onnx"):
        load(folder)


def test_measured_batches_are_warm_and_nothing_stays_open(
    stored_ship: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Any] = []

    class Watched:
        def __init__(self, runner: Runner) -> None:
            self.runner, self.signature, self.kernels = runner, runner.signature, runner.kernels

        def run(self, feeds: Any) -> Any:
            events.append(len(feeds["features"]))
            return self.runner.run(feeds)

        def close(self) -> None:
            events.append("closed")
            self.runner.close()

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(loading, "open_runner", lambda *given: Watched(open_runner(*given)))
    with load(stored_ship):
        golden, warmed, tried = [2, 1, 5], [1, 4, 8], [8, 8]
        assert events == golden + warmed + tried
    assert events[-1] == "closed"
    assert not list(tmp_path.iterdir())

    def fail(artifact: Artifact, point: OperatingPoint) -> Runner:
        raise EngineError("engine", "does not start")

    monkeypatch.setattr(loading, "open_runner", fail)
    with pytest.raises(NoUsableVariant, match="does not start"):
        load(stored_ship)
    assert not list(tmp_path.iterdir())


def test_every_field_of_the_stamp_comes_from_the_package(stored: Path) -> None:
    with read_package(stored) as package, load(stored) as predictor:
        answer = json.loads(json.dumps(predictor.predict([1.0, 2, 3, 4])))
        assert answer["model"] == package.manifest.name
        assert answer["version"] == package.digest[:12]


BROKEN = """
import json, sys
from shipworthy.errors import GoldenMismatch
from shipworthy.package import verify
from shipworthy.predict import load

with load(sys.argv[1]) as predictor:
    said = [predictor.variant.id, predictor.passed_over, predictor.predict([5.1, 3.5, 1.4, 0.2])["label"]]
try:
    verify(sys.argv[1])
except GoldenMismatch as error:
    said.append(str(error))
print(json.dumps(said))
"""


@pytest.mark.parametrize(
    "source",
    [
        'raise ImportError("libstdc++.so.6: version `GLIBCXX_3.4.99\' not found")',
        "import onnxruntime_part_that_is_gone",
        "raise OSError('cannot map its memory')",
        "",
    ],
)
def test_an_engine_whose_installation_is_broken_gives_way(source: str, stored_ship: Path, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, str(stored_ship)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    chosen, passed, label, mismatch = json.loads(done.stdout)
    assert chosen == "openvino-fp32" and label in mlp.LABELS
    ((name, reason),) = passed
    assert name == "onnxruntime-fp32" and "onnxruntime" in reason and "not installed" not in reason
    assert "onnxruntime-fp32: " in mismatch


def test_the_package_stays_found_when_the_process_changes_its_folder(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(stored, tmp_path / "copy")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with load("copy") as predictor:
        monkeypatch.chdir(tmp_path / "other")
        assert predictor.package.root == (tmp_path / "copy").resolve()
        assert predictor.codec.notes == predictor.notes == ()
        assert predictor.contract.root.is_dir()
