"""The table of engines, and how an operating point reaches each of them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_zoo import Ready

from shipworthy.errors import EngineError, MissingExtra
from shipworthy.runtime import ENGINES, OperatingPoint, engine_version, open_runner

Make = Callable[[str, str, str], Ready]


def test_the_table() -> None:
    assert list(ENGINES) == ["torch", "torchscript", "aoti", "onnxruntime", "openvino", "onnx-reference"]
    assert [name for name, engine in ENGINES.items() if engine.executes_code] == ["torch", "torchscript", "aoti"]
    assert [name for name, engine in ENGINES.items() if not engine.packable] == ["torch", "onnx-reference"]


def test_an_unknown_engine_names_the_nearest(ready: Make) -> None:
    artifact = replace(ready("torchscript", "fp32", "mlp").exported.artifact, engine="openvin")
    with pytest.raises(EngineError, match="did you mean 'openvino'"):
        open_runner(artifact)


def test_versions_and_the_room_itself_import_no_engine() -> None:
    code = (
        "import sys, shipworthy.runtime as r; v = {e: r.engine_version(e) for e in r.ENGINES}; r.this_host();"
        "assert all(v.values()), v;"
        "heavy = [m for m in ('torch', 'onnxruntime', 'openvino', 'onnx', 'scipy') if m in sys.modules];"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_of_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert engine_version("openvino") is None


@pytest.mark.parametrize("engine", ["torchscript", "onnxruntime", "openvino"])
def test_a_missing_engine_names_its_extra(engine: str, ready: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = ready(engine, "fp32", "mlp").exported.artifact
    monkeypatch.setitem(sys.modules, ENGINES[engine].module, None)
    with pytest.raises(MissingExtra) as caught:
        open_runner(artifact)
    assert caught.value.extra == ENGINES[engine].extra


def test_openvino_gets_streams_threads_and_precision(ready: Make) -> None:
    runner = open_runner(ready("openvino", "fp32", "mlp").exported.artifact, OperatingPoint(streams=2, threads=2))
    compiled = runner._graph._compiled  # type: ignore[attr-defined]
    assert compiled.get_property("NUM_STREAMS") == 2
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    runner.close()


@pytest.mark.parametrize(("streams", "threads", "sessions"), [(1, 2, 1), (2, 2, 1), (2, 4, 2), (3, 2, 1)])
def test_onnxruntime_shares_a_session_only_where_it_has_no_threads(
    ready: Make, streams: int, threads: int, sessions: int
) -> None:
    point = OperatingPoint(streams=streams, threads=threads)
    runner = open_runner(ready("onnxruntime", "fp32", "mlp").exported.artifact, point)
    idle = runner._graph._idle  # type: ignore[attr-defined]
    assert len(idle) == streams
    assert len(set(map(id, idle))) == sessions
    assert idle[0].get_session_options().intra_op_num_threads == max(1, threads // streams)
    runner.close()


def test_torch_threads_are_set_in_every_thread_that_runs(ready: Make) -> None:
    made = ready("torchscript", "fp32", "mlp")
    before = torch.get_num_threads()
    runner = open_runner(made.exported.artifact, OperatingPoint(streams=2, threads=2))
    seen: list[int] = []

    def work() -> None:
        runner.run(made.specimen.feeds(2))
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [1]
    runner.close()
    torch.set_num_threads(before)


def test_no_more_runs_at_once_than_streams(ready: Make) -> None:
    made = ready("torchscript", "fp32", "mlp")
    runner = open_runner(made.exported.artifact, OperatingPoint(streams=2, threads=2))
    graph = runner._graph  # type: ignore[attr-defined]
    inside, most, lock, original = 0, 0, threading.Lock(), graph.execute

    def counted(feeds: object) -> object:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        answer = original(feeds)
        with lock:
            inside -= 1
        return answer

    graph.execute = counted
    threads = [
        threading.Thread(target=lambda: [runner.run(made.specimen.feeds(4)) for _ in range(40)]) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= 2
    runner.close()


def test_openvino_is_imported_with_its_telemetry_off() -> None:
    code = (
        "import sys; from shipworthy.runtime.engine_openvino import need_openvino; need_openvino('a test');"
        "from openvino.tools.ovc import telemetry_utils;"
        "assert 'telemetry_stub' in telemetry_utils.tm.__name__, telemetry_utils.tm"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            'raise ImportError("libstdc++.so.6: version GLIBCXX_3.4.99 not found\\nsecond line")',
            "GLIBCXX_3.4.99 not found;",
        ),
        ("import a_part_that_is_gone", "No module named 'a_part_that_is_gone'"),
        ('raise OSError("no memory")', "no memory"),
        ("", "has no attribute"),
    ],
)
def test_a_broken_engine_is_an_engine_error(
    engine: str, source: str, said: str, ready: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = ready(engine, "fp32", "mlp").exported.artifact
    (tmp_path / f"{engine}.py").write_text(source)
    for name in [name for name in sys.modules if name.split(".")[0] == engine]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError) as caught:
        open_runner(artifact)
    # What was imported from there must not stay for other tests.
    sys.modules.pop(engine, None)
    assert type(caught.value) is EngineError
    assert said in str(caught.value) and "second line" not in str(caught.value)
