"""`verify`: every variant that can run here is replayed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlp
import pytest

from shipworthy.errors import GoldenMismatch, TamperedPackage
from shipworthy.package import best_point, verify
from shipworthy.runtime import this_host
from shipworthy.runtime.protocol import OperatingPoint

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


@pytest.mark.parametrize("form", ["stored", "stored_ship"])
def test_every_variant_of_the_stored_package_is_replayed(form: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(form)
    report = verify(path)
    assert (report.name, report.format, report.files, report.path) == ("iris", 1, 9, str(path))
    assert [(row.id, row.replayed) for row in report.variants] == [("onnxruntime-fp32", True), ("openvino-fp32", True)]
    for row in report.variants:
        assert row.detail.startswith("3 golden cases, off by at most")
        assert 0 <= row.max_abs["logits"] <= 1e-4
    assert json.loads(report.json())["variants"][0]["id"] == "onnxruntime-fp32"


def test_without_replay_nothing_is_opened(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shipworthy.package.verification.open_runner", lambda *given: pytest.fail("opened"))
    report = verify(stored, replay=False)
    assert [row.replayed for row in report.variants] == [False, False]
    assert all("as asked" in row.detail for row in report.variants)


def test_a_variant_that_cannot_run_here_is_listed_with_the_reason(copy: Path, reseal: Callable[..., None]) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["variants"][0]["requires"]["executes_code"] = True
        manifest["variants"][1]["requires"]["arch"] = "elsewhere"

    reseal(copy, change)
    first, second = verify(copy).variants
    assert not first.replayed and "executable code" in first.detail
    assert not second.replayed and "elsewhere" in second.detail
    assert verify(copy, allow_code=True).variants[0].replayed


def test_a_graph_that_answers_otherwise_is_named(copy: Path, reseal: Callable[..., None], tmp_path: Path) -> None:
    w2 = mlp.weights()[2] * 1.01
    changed = mlp.write_onnx(tmp_path / "other", w2)
    (copy / "variants" / "onnxruntime-fp32" / "model.onnx").write_bytes((changed / "model.onnx").read_bytes())
    with pytest.raises(TamperedPackage, match=r"model\.onnx"):
        verify(copy)
    reseal(copy)
    with pytest.raises(GoldenMismatch, match=r"onnxruntime-fp32: .*golden case 0, output 'logits': differs by"):
        verify(copy)


def test_a_graph_that_does_not_open_is_named(copy: Path, reseal: Callable[..., None]) -> None:
    (copy / "variants" / "openvino-fp32" / "model.xml").write_text("<garbage/>")
    reseal(copy)
    with pytest.raises(GoldenMismatch, match="openvino-fp32: "):
        verify(copy)


def test_threads_and_streams_are_no_more_than_this_host_has() -> None:
    host = this_host()
    many = mlp.variant("onnxruntime", points=(OperatingPoint(streams=512, threads=1024, batch=16),))
    assert best_point(many, host.cores) == OperatingPoint(streams=host.cores, threads=host.cores, batch=16)
    few = mlp.variant("onnxruntime", points=(OperatingPoint(streams=1, threads=1, batch=16),))
    assert best_point(few, host.cores) == OperatingPoint(streams=1, threads=1, batch=16)
    assert best_point(mlp.variant("onnxruntime", points=()), host.cores) == OperatingPoint()
