"""What a profile looks like, what it says of engines and packages, and the command line."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from shipworthy.cli import main
from shipworthy.contract import Contract
from shipworthy.errors import EngineError, ExportError, InputError, MissingExtra, ModelError, ShipworthyError
from shipworthy.package import read_package
from shipworthy.profiling import ProfileReport, engines, figures, profile
from shipworthy.profiling.flame import WIDTH, flame_svg
from shipworthy.profiling.report import Block
from shipworthy.profiling.table import cut
from without_torch import Environment

STORED = Path(__file__).parent.parent / "package" / "stored" / "format1"


def printed(report: ProfileReport, width: int) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(report.table(20))  # all rows: which are the slowest five is up to the machine
    return console.export_text().splitlines()


@pytest.mark.full
def test_the_engines_tell_types_precisions_and_shares(report: ProfileReport) -> None:
    assert [engine.name for engine in report.engines] == ["openvino", "onnxruntime"]
    heavy = {"openvino": {"Convolution", "FullyConnected"}, "onnxruntime": {"Conv", "Gemm"}}
    for engine in report.engines:
        assert (engine.precision, engine.point.threads, engine.point.batch) == ("fp32", 1, 4)
        assert engine.us == pytest.approx(sum(node.us for node in engine.nodes))
        assert sum(row.share for row in engine.types) == pytest.approx(1)
        assert sum(row.nodes for row in engine.types) == len(engine.nodes)
        assert {node.precision for node in engine.nodes if node.heavy} == {"fp32"}
        assert {row.op for row in engine.types} & heavy[engine.name]
        assert [row.us for row in engine.types] == sorted((row.us for row in engine.types), reverse=True)


def test_the_report_survives_json(report: ProfileReport) -> None:
    assert ProfileReport.model_validate_json(report.json()) == report


def test_the_page_is_offline_and_names_modules_and_regions(report: ProfileReport) -> None:
    text = report.html()
    assert "http://" not in text and "https://" not in text
    assert not re.search(r"<(script|link|img|iframe)\b", text)
    for word in ("pair.a", "BatchNorm2d", "my features", "my &lt;pairs&gt;", "never called", "shared weights"):
        assert word in text, word
    assert "my <pairs>" not in text
    assert report._repr_html_().startswith("<iframe srcdoc=")


def test_the_flame_picture_shows_who_calls_whom(report: ProfileReport) -> None:
    assert report.torch is not None
    root = report.torch.flame
    assert (root.name, root.kind) == ("Net", "module")
    named = {block.name: block for block in root.inside}
    assert named["my features"].kind == "region"
    conv = next(block for block in named["my features"].inside if block.name == "conv")
    assert [(inner.name, inner.kind) for inner in conv.inside] == [("aten::conv2d", "heavy")]
    pair = next(block for block in named["my <pairs>"].inside if block.name == "pair")
    assert pair.calls == 2 and {"pair.a", "pair.b"} <= {block.name for block in pair.inside}


class Drawing(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rects: list[dict[str, float]] = []
        self.titles: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "rect":
            self.rects.append({name: float(value or 0) for name, value in attrs})
        self._in_title = tag == "title"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.titles.append(data)
            self._in_title = False


def test_blocks_are_as_wide_as_their_time_and_lie_within_their_caller() -> None:
    inner = (Block(name="a", kind="heavy", us=30, calls=1), Block(name="b & c", kind="operator", us=20, calls=3))
    tiny = Block(name="tiny", kind="operator", us=0.01, calls=1)
    root = Block(name="Net", kind="module", us=100, calls=1, inside=(*inner, tiny))
    drawing = Drawing()
    drawing.feed(flame_svg(root))
    widths = [rect["width"] + 1 for rect in drawing.rects]
    assert widths == pytest.approx([WIDTH, 0.3 * WIDTH, 0.2 * WIDTH], abs=0.2)
    assert [rect["x"] for rect in drawing.rects] == pytest.approx([0, 0, 0.3 * WIDTH], abs=0.2)
    assert drawing.titles[0] == "Net\n100 µs (100.0 %), 50 µs of it its own"
    assert drawing.titles[2] == "Net › b & c\n20 µs (20.0 %), 3 calls"


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit_the_terminal(report: ProfileReport, width: int) -> None:
    lines = printed(report, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for word in ("mkldnn_convolution", "my features", "pair.a", "openvino fp32, 1 thread, batch 4", "Gemm", "*"):
        assert word in text, word
    rows = [line for line in lines if line.startswith(" mkldnn_convolution")]
    assert rows and all("…" not in line.split("4×3×6×6")[0] for line in rows), "figures are never cut"


def test_long_paths_keep_their_ends_and_no_figure_is_cut(report: ProfileReport) -> None:
    assert report.torch is not None
    path = "model.encoder.layers.11.self_attention.out_proj"
    row = report.torch.modules[1].model_copy(update={"path": path, "us": 123456.0, "own_us": 123456.0, "bytes": 10**8})
    one = report.torch.model_copy(update={"modules": (row,), "profiled_us": 123456.0})
    lines = printed(report.model_copy(update={"torch": one}), 80)
    line = next(line for line in lines if "attention.out_proj" in line)
    assert line.split("   ")[0].strip() == "…self_attention.out_proj"
    assert all(figure in line for figure in ("123 ms", "100.0 %", "100 MB"))
    assert max(map(len, lines)) <= 80


def test_figures() -> None:
    assert [figures.duration(us) for us in (None, 0, 1.234, 999.4, 1000, 2.5e6)] == [
        "–", "0 µs", "1.23 µs", "999 µs", "1 ms", "2.5 s",
    ]  # fmt: skip
    assert [figures.size(size) for size in (0, 999, 97_500_000)] == ["0 B", "999 B", "97.5 MB"]
    assert [figures.count(n) for n in (0, 340, 25_557_032)] == ["0", "340", "25.6 M"]
    assert figures.rate(2_000_000, 1000) == "2 GFLOP/s"
    assert figures.rate(None, 5) == figures.flops(0) == figures.share(1, 0) == "–"
    assert (figures.threads(1), figures.threads(2)) == ("1 thread", "2 threads")
    assert figures.shapes(((4, 3), (), (2,), (1,))) == "4×3 · () · 2 …"
    assert cut("encoder.layers.11.self_attention.out_proj", 20) == "encode…tion.out_proj"


def test_an_engine_that_cannot_tell_is_refused_before_anything_runs(small: Contract) -> None:
    with pytest.raises(EngineError, match="did you mean 'openvino'"):
        profile(small, engines=["openvin"])
    with pytest.raises(EngineError, match="does not tell the times of its operators"):
        profile(small, engines=["aoti"])


def test_an_engine_that_is_not_installed(small: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra):
        profile(small, engines=["openvino"])
    report = profile(small, steps=1, batch=1)
    assert [(one.name, one.why) for one in report.untold] == [
        ("openvino", "is not installed"),
        ("onnxruntime", "is not installed"),
    ]


def test_an_engine_that_takes_no_graph_of_the_model_is_named(small: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise ExportError("onnxruntime fp32", "no operator for it")

    monkeypatch.setattr("shipworthy.exporters.export", refused)
    report = profile(small, steps=1, batch=1, engines=["onnxruntime"])
    assert [(one.name, one.why) for one in report.untold] == [("onnxruntime", "no operator for it")]
    assert "onnxruntime: not timed: no operator for it" in "\n".join(printed(report, 80))


def test_an_onnx_file_has_engines_only(tmp_path: Path, small: Contract) -> None:
    graph = next(STORED.glob("variants/onnx*/*.onnx"))
    settings: dict[str, Any] = {"name": "file", "inputs": {"features": {"dtype": "float32", "shape": ["batch", 4]}}}
    contract = Contract(**settings, model=str(graph.resolve()))
    report = profile(contract, engines=["onnxruntime"], seconds=0.02)
    assert report.torch is None and [engine.engine for engine in report.engines] == ["onnxruntime"]
    with pytest.raises(ModelError, match=r"an \.onnx file has no PyTorch module to trace"):
        profile(contract, trace=tmp_path / "trace.json", engines=())


def test_a_package_shows_its_variants() -> None:
    report = profile(STORED, seconds=0.02)
    assert report.torch is None
    assert {engine.name for engine in report.engines} == {"onnxruntime-fp32", "openvino-fp32"}
    with read_package(STORED.with_suffix(".ship")) as package:
        one = profile(package, batch=16, engines=["onnxruntime"], seconds=0.02)
    assert [(engine.engine, engine.point.batch) for engine in one.engines] == [("onnxruntime", 16)]
    assert [(row.name, row.why) for row in one.untold] == [("openvino-fp32", "was not asked for")]
    assert "http://" not in report.html()
    with pytest.raises(ModelError, match="a package has no PyTorch module to trace"):
        profile(STORED, trace="trace.json")
    with pytest.raises(ShipworthyError, match="not timed on cuda"):
        profile(STORED, device="cuda")
    with pytest.raises(InputError, match="the batch is empty"):
        profile(STORED, batch=0, engines=["onnxruntime"])


def test_a_package_needs_no_torch() -> None:
    code = (
        f"import sys; from shipworthy.profiling import profile; report = profile({str(STORED)!r}, seconds=0.02);"
        "assert len(report.engines) == 2; report.json(); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_package_is_profiled_where_torch_is_not_installed(environment: Environment, tmp_path: Path) -> None:
    done = environment.run("shipworthy", "profile", STORED, "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = ProfileReport.model_validate_json((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [engine.engine for engine in found.engines] == [environment.engine]
    assert len(found.untold) == 1 and "is not installed" in found.untold[0].why


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shipworthy", "profile", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return call


def test_the_command_prints_and_writes(run, small: Contract, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = ("--trace", "t.json", "--html", "p.html", "--json", "p.json")
    code, out, err = run(small.root / "shipworthy.toml", "--batch", "2", "--steps", "2", "--engines", "none", *written)
    assert (code, err) == (0, "")
    assert "modules by their own time" in out and "my features" in out
    assert out.rstrip().splitlines()[-3:] == ["wrote t.json", "wrote p.html", "wrote p.json"]
    assert "traceEvents" in json.loads(Path("t.json").read_text(encoding="utf-8"))
    assert "<svg" in Path("p.html").read_text(encoding="utf-8")
    assert json.loads(Path("p.json").read_text(encoding="utf-8"))["torch"]["batch"] == 2


def test_the_command_takes_a_package(run) -> None:
    code, out, err = run(STORED.with_suffix(".ship"), "--engines", "onnxruntime", "--top", "1")
    assert (code, err) == (0, "")
    assert "onnxruntime-fp32, " in out and "openvino-fp32: not timed: was not asked for" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere.toml",), "nowhere.toml"),
        (("nowhere.ship",), "nowhere.ship"),
        ((STORED, "--engines", "tensorrt"), "is no engine"),
        ((STORED, "--engines", "torch"), "does not tell"),
        ((STORED, "--html", "no/such/p.html"), "there is no folder no/such"),
        ((STORED, "--html", "."), "is a folder"),
        ((STORED, "--json", "."), "is a folder"),
        (("CONTRACT", "--device", "cuda"), "no CUDA device"),
        (("CONTRACT", "--batch", "65"), "65 is outside of batch:1..64"),
    ],
    ids=lambda value: " ".join(str(word) for word in value[-2:]) if isinstance(value, tuple) else "",
)
def test_a_users_mistake_is_two_lines_and_exit_code_2(
    run, words, said: str, small: Contract, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, out, err = run(*(small.root / "shipworthy.toml" if word == "CONTRACT" else word for word in words))
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and said in err.replace("\n", " ")
    assert "Traceback" not in err
