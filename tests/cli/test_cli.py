"""The command line: what is printed, where, and with which exit code."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from shipworthy import __version__
from shipworthy.cli import main

STORED = Path(__file__).parent.parent / "package" / "stored" / "format1"
FEATURES = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shipworthy", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return call


def test_version(run) -> None:
    assert run("--version") == (0, f"shipworthy {__version__}\n", "")


def test_every_verb_is_listed(run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for verb in ("init", "check", "build", "inspect", "verify", "serve", "predict", "demo", "doctor"):
        assert f" {verb} " in out


def test_doctor_names_engines_and_what_is_missing(run) -> None:
    code, out, _ = run("doctor", "--json")
    lines = json.loads(out)["lines"]
    assert code == 0
    engines = {line["name"] for line in lines if line["kind"] == "engine"}
    assert engines == {"torchscript", "aoti", "onnxruntime", "openvino"}
    assert all(line["detail"] for line in lines)
    assert "onnxruntime" in run("doctor")[1]


def test_verify_says_what_was_replayed(run) -> None:
    code, out, _ = run("verify", STORED)
    assert code == 0
    assert "every hash agrees" in out
    assert "replayed: onnxruntime-fp32" in out
    assert json.loads(run("verify", STORED, "--json")[1])["format"] == 1


def test_verify_refuses_a_changed_byte_by_name(run, tmp_path: Path) -> None:
    ship = tmp_path / "changed.ship"
    data = bytearray(STORED.with_suffix(".ship").read_bytes())
    data[len(data) // 2] ^= 1
    ship.write_bytes(data)
    code, out, err = run("verify", ship)
    assert (code, out) == (2, "")
    assert "error: " in err
    assert "changed.ship" in err
    assert "Traceback" not in err


def test_inspect_lists_a_package(run) -> None:
    code, out, _ = run("inspect", STORED)
    assert code == 0
    for word in ("features", "float32", "[batch, 4]", "[batch, 3]", "openvino-fp32"):
        assert word in out
    assert json.loads(run("inspect", STORED, "--json")[1])["signature"]["inputs"]["features"]["shape"] == ["batch", 4]


def test_inspect_lists_a_graph(run) -> None:
    graph = next(STORED.glob("variants/onnx*/*.onnx"))
    code, out, _ = run("inspect", graph)
    assert code == 0
    assert "[batch, 4]" in out
    assert "Gemm" in run("inspect", graph, "--graph")[1]
    assert json.loads(run("inspect", graph, "--json")[1])["outputs"]["logits"]["dtype"] == "float32"


@pytest.mark.parametrize("form", [{"features": FEATURES}, {"instances": [{"features": FEATURES}] * 2}])
def test_predict_answers_json(run, form: dict[str, object]) -> None:
    code, out, _ = run("predict", STORED, json.dumps(form), "--round", "4")
    answer = json.loads(out)
    assert code == 0
    first = answer["predictions"][0] if "instances" in form else answer
    assert first["predicted_class"] in (0, 1, 2)
    assert first["confidence"] == round(first["confidence"], 4)


def test_predict_reads_a_file(run, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"features": FEATURES}), encoding="utf-8")
    assert run("predict", STORED, file)[0] == 0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{", "is no JSON"),
        ("nowhere.json", "cannot be read"),
        ('{"features": [1, 2]}', "sample 0, features"),
        ('{"featurs": [1, 2, 3, 4]}', "featurs"),
    ],
)
def test_predict_refuses_wrong_input(run, source: str, said: str) -> None:
    code, out, err = run("predict", STORED, source)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [
        ("check", "nowhere.toml"),
        ("build", "nowhere.toml"),
        ("inspect", "nowhere.onnx"),
        ("verify", "nowhere.ship"),
        ("serve", "nowhere.ship"),
        ("init", "nowhere:build", "--example", "nowhere:example"),
        ("serve", STORED, "--host", "0.0.0.0"),
    ],
    ids=lambda words: " ".join(map(str, words[:2])) if "host" not in str(words) else "serve without a token",
)
def test_a_users_mistake_is_two_lines_and_exit_code_2(run, words, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_a_file_that_is_no_graph_is_refused(run, tmp_path: Path) -> None:
    for suffix in (".onnx", ".xml", ".pt", ".pt2", ".txt", ".ship"):
        file = tmp_path / f"garbage{suffix}"
        file.write_bytes(b"\x00garbage" * 100)
        code, _, err = run("inspect", file)
        assert code == 2, suffix
        assert file.name in err
        assert "Traceback" not in err


@pytest.mark.full  # the demo, which is run whenever anything changes, goes the same way
def test_init_check_build_serve_words_follow_each_other(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shop.py").write_text(
        "import torch\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))\n"
        "def example():\n"
        "    return torch.zeros(2, 4)\n",
        encoding="utf-8",
    )
    code, out, err = run("init", "shop:net", "--example", "shop:example", "--name", "shop")
    assert code == 0, err
    assert "shipworthy.toml" in out
    assert run("init", "shop:net", "--example", "shop:example")[0] == 2, "an existing contract is kept"
    assert run("check")[0] in (0, 1)
    assert "findings" in json.loads(run("check", "--json")[1])
    code, out, err = run("build", "--engine", "onnxruntime", "--quiet", "--report", "report.html")
    assert code in (0, 3), err
    assert "onnxruntime-fp32" in out
    assert Path("report.html").exists()
    if code == 0:
        assert run("verify", "shop.ship")[0] == 0


def test_verify_has_an_exit_code_for_a_package_that_cannot_run_here(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shipworthy.package.verification.obstacle", lambda *_, **__: "needs another host")
    code, out, _ = run("verify", STORED)
    assert code == 1
    assert "not run: onnxruntime-fp32 needs another host" in out


def test_serve_says_what_it_serves_and_where(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shipworthy", "serve", str(STORED), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline() for _ in range(2)]
        url = lines[1].split()[1]
        health = json.load(urllib.request.urlopen(f"{url}/health", timeout=10))
        server.terminate()
        assert server.wait(20) == 0
    assert "iris: served by onnxruntime-fp32" in lines[0]
    assert health["model_loaded"] is True


@pytest.mark.parametrize("option", ["--out", "--report"])
def test_a_place_that_cannot_be_written_is_found_before_the_build(
    run, option: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shipworthy.toml").write_text(
        'name = "x"\nmodel = "no:where"\n[inputs.x]\ndtype = "float32"\nshape = ["batch", 4]\n', encoding="utf-8"
    )
    code, _, err = run("build", option, "no/such/folder/x.ship")
    assert code == 2
    assert "there is no folder no/such/folder" in err


def test_json_from_standard_input_need_not_be_text(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8", errors="strict"))
    code, _, err = run("predict", STORED, "-")
    assert code == 2
    assert "is no JSON" in err


def test_inspect_shows_the_evidence_and_the_graphs(run) -> None:
    assert "evidence, measured at the build" in run("inspect", STORED)[1]
    graphs = json.loads(run("inspect", STORED, "--json", "--graph")[1])["graphs"]
    assert set(graphs) == {"onnxruntime-fp32", "openvino-fp32"}
    assert all(graphs.values())


def test_doctor_lists_what_every_extra_brings(run) -> None:
    names = {line["name"] for line in json.loads(run("doctor", "--json")[1])["lines"] if line["kind"] == "extra"}
    assert {"build (torch)", "build (jinja2)", "demo (httpx)", "images (pillow)"} <= names


def test_the_demo_leaves_a_folder_of_the_users_own_alone(run, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("mine = True\n", encoding="utf-8")
    code, _, err = run("demo", "--once", "--directory", tmp_path)
    assert code == 2
    assert "is not the demo's" in err
    assert (tmp_path / "train.py").read_text(encoding="utf-8") == "mine = True\n"
