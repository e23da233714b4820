"""The branch example, as its README runs it: a trace is wrong, and the package serves both sides of the branch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from examples_project import Example

import shipworthy
from shipworthy.contract import Array
from shipworthy.evidence import BuildRecord
from shipworthy.model import LoadedModel, load_model, run_eager
from shipworthy.package import read_package
from shipworthy.predict import Predictor
from shipworthy.server import Server

pytestmark = pytest.mark.full
"""Two minutes of building; CI runs it beside the quick tests."""


@pytest.fixture(scope="module")
def branch(example: Callable[[str], Example]) -> Example:
    return example("branch")


@pytest.fixture(scope="module")
def package(branch: Example, effort: float) -> Path:
    return branch.build(["onnxruntime", "torchscript"], full=effort == 1.0)


@pytest.fixture(scope="module")
def record(package: Path) -> BuildRecord:
    with read_package(package) as opened:
        return opened.record


@pytest.fixture(scope="module")
def predictor(package: Path) -> Iterator[Predictor]:
    with shipworthy.load(package) as opened:
        yield opened


@pytest.fixture(scope="module")
def eager(branch: Example) -> LoadedModel:
    return load_model(branch.contract)


@pytest.fixture(scope="module")
def sides(branch: Example, eager: LoadedModel) -> tuple[Array, Array]:
    """Real images that leave early [n, 64], and others [m, 64]."""
    import torch

    with np.load(branch.folder / "validation.npz") as data:
        images = data["image"]
    module: Any = eager.module
    with torch.inference_mode():
        sure = module.early(torch.from_numpy(images) / 16.0).softmax(-1).amax(-1).numpy()
    # Not those at the edge, which rounding may put on either side.
    easy, hard = images[sure > module.sure + 0.01], images[sure < module.sure - 0.01]
    assert len(easy) > 100
    assert len(hard) > 100
    return easy, hard


def test_both_exits_are_used_and_the_late_one_is_needed(branch: Example) -> None:
    right, left, early_alone = (float(word.strip("%")) for word in branch.said.split() if word.endswith("%"))
    assert right > early_alone
    assert 40 < left < 90


def test_check_warns_of_the_branch_and_finds_no_coupling(branch: Example) -> None:
    (command,) = branch.commands_of("check")
    checked = branch.run(f"{command} --json")
    assert checked.returncode == 1, checked.stdout
    findings = {finding["rule"]: finding for finding in json.loads(checked.stdout)["findings"]}
    assert findings["branches"]["severity"] == "warning"
    assert "train.py" in findings["branches"]["where"]
    assert "a trace of one input is wrong for another of the same shape" in findings["branches"]["why"]
    assert "batch-coupling" not in findings


def test_build_says_that_tracing_alone_is_wrong(record: BuildRecord) -> None:
    for engine in ("torchscript", "onnxruntime"):
        row = next(row for row in record.results if row.candidate.engine == engine)
        assert row.gate not in ("export", "parity", "metric"), "what was exported instead is right"
        frozen = next(finding for finding in row.findings if finding.rule == "trace-froze-branch")
        assert "logits is off by" in frozen.why
        assert "script" in frozen.remedy
    assert record.chosen is not None
    aoti = [row for row in record.results if row.candidate.engine == "aoti"]
    assert all((row.verdict, row.gate) == ("rejected", "export") for row in aoti)


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_a_trace_keeps_the_side_of_its_example(eager: LoadedModel, sides: tuple[Array, Array]) -> None:
    """What the README says of tracing, done by hand."""
    import torch

    easy, hard = (torch.from_numpy(side[:50]) for side in sides)
    with torch.inference_mode(), pytest.warns(torch.jit.TracerWarning):
        of_easy = torch.jit.trace(eager.module, (easy,), check_trace=False)
        of_hard = torch.jit.trace(eager.module, (hard,), check_trace=False)
        expected = eager.module(hard)
        torch.testing.assert_close(of_easy(easy), eager.module(easy))
        torch.testing.assert_close(of_hard(hard), expected)
        assert (of_easy(hard) - expected).abs().max() > 1
        torch.testing.assert_close(of_hard(easy), eager.module(easy), msg="right, but it never leaves early")


@pytest.mark.parametrize("take", ["easy", "hard", "mixed"])
def test_every_variant_serves_both_sides(
    take: str, package: Path, record: BuildRecord, eager: LoadedModel, sides: tuple[Array, Array]
) -> None:
    easy, hard = sides
    images = {"easy": easy[:9], "hard": hard[:9], "mixed": np.stack([easy[:9], hard[:9]], axis=1).reshape(18, 64)}[take]
    for row in record.results:
        if row.verdict not in ("chosen", "accepted"):
            continue
        with shipworthy.load(package, variant=row.candidate.id, allow_code=True) as opened:
            expected = run_eager(eager, opened.contract.signature, {"image": images})["logits"]
            np.testing.assert_allclose(opened.run({"image": images})["logits"], expected, rtol=1e-3, atol=1e-4)


def test_an_answer_does_not_depend_on_its_neighbours(predictor: Predictor, sides: tuple[Array, Array]) -> None:
    easy, hard = sides
    alone = predictor.run({"image": easy[:1]})["logits"]
    beside = predictor.run({"image": np.concatenate([easy[:1], hard[:7]])})["logits"][:1]
    np.testing.assert_allclose(beside, alone, rtol=1e-3, atol=1e-4)


def test_commands_that_ask(branch: Example, package: Path, predictor: Predictor) -> None:
    commands = branch.commands_of("predict")
    assert commands == [f"shipworthy predict {package.name} {name}.json" for name in ("easy", "hard")]
    for command in commands:
        asked = branch.run(command)
        assert asked.returncode == 0, asked.stderr
        expected = predictor.predict(json.loads((branch.folder / command.split()[-1]).read_text()))
        assert json.loads(asked.stdout)["probabilities"] == expected["probabilities"]


def test_over_http(branch: Example, package: Path, predictor: Predictor, sides: tuple[Array, Array]) -> None:
    assert branch.commands_of("serve") == [f"shipworthy serve {package.name}"]
    images = [side[number].tolist() for side in sides for number in range(3)]
    body = {"instances": [{"image": image} for image in images]}
    with Server(package, port=0) as server:
        response = httpx.post(f"{server.url}/predict", json=body)
        headers = {"content-type": "application/json"}
        curl = httpx.post(f"{server.url}/predict", content=branch.curl_body(), headers=headers)
    assert response.status_code == 200
    expected = predictor.predict(body)["predictions"]
    assert [a["probabilities"] for a in response.json()["predictions"]] == [a["probabilities"] for a in expected]
    assert curl.json()["probabilities"] == predictor.predict(json.loads(branch.curl_body()))["probabilities"]
