"""The harness of benchmarks/serve: servers that are asked, chosen among, and written down, and those that fail."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.serve import dialects, models, picture, results, samples, servers, tables  # noqa: E402
from benchmarks.serve.__main__ import ORDER, WORKLOADS  # noqa: E402
from benchmarks.serve.apps.without import PARTS  # noqa: E402
from benchmarks.serve.closed import Slice, _read  # noqa: E402
from benchmarks.serve.cold import starts  # noqa: E402
from benchmarks.serve.models import FLOAT32, IRIS, MODELS, ONNX, UINT8, Model  # noqa: E402
from benchmarks.serve.open_loop import best_peers  # noqa: E402
from benchmarks.serve.process import Failed, Process, free_port  # noqa: E402
from benchmarks.serve.race import Contender, Effort, better, race  # noqa: E402
from benchmarks.serve.race import results as rows_of  # noqa: E402
from benchmarks.serve.results import FIELDS, Result  # noqa: E402
from benchmarks.serve.servers import EMPTY, SERVERS, Command, Server  # noqa: E402
from benchmarks.serve.visit import visited  # noqa: E402

from shipworthy.contract import read_contract  # noqa: E402

WANTED = (
    *("workload", "server", "ours", "connections", "offered_rps", "rps", "goodput_rps"),
    *("p50_ms", "p99_ms", "rss_mb", "first_answer_s"),
)
QUICK = Effort(rounds=1, slice_s=1.0, warm_s=1.0, starts=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """Three numbers, doubled."""
    from onnx import TensorProto, helper, save_model

    made = replace(IRIS, name="tiny", shape=(3,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "CACHE", tmp_path_factory.mktemp("serve"))
        patch.setattr("benchmarks.serve.visit.CACHE", models.CACHE)
        rows = np.random.default_rng(0).random((models.SAMPLES, 3)).astype(np.float32)
        patch.setitem(samples.FEEDS, "tiny", lambda count: rows[:count])
        patch.setattr(servers, "python", lambda environment: sys.executable)
        graph = helper.make_graph(
            [helper.make_node("Add", ["features", "features"], ["probabilities"])],
            "tiny",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        )
        made.folder.mkdir()
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        save_model(model, made.folder / "model.onnx")
        yield made


APP = """
import json
import numpy as np
from engine import from_environment
run, told = from_environment()
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = (await receive())["body"]
    row = run(np.array([json.loads(body)["features"]], np.float32))[0] + {wrong}
    answer = json.dumps({{"probabilities": row.tolist()}}).encode()
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}})
    await send({{"type": "http.response.body", "body": answer}})
"""


def server(folder: Path, name: str = "doubler", wrong: float = 0.0, start_s: float = 30.0) -> Server:
    (folder / f"{name}.py").write_text(APP.format(wrong=wrong))

    def start(job: servers.Job) -> Command:
        told = servers.told(job)
        told["PYTHONPATH"] += f":{folder}"
        return Command(servers._uvicorn("any", f"{name}:app", job), told)

    return Server(name, "any", start, dialects.PROBABILITIES, None, workers=(1,), start_s=start_s)


def test_a_server_is_started_asked_and_ended(tiny: Model, tmp_path: Path) -> None:
    with visited(server(tmp_path), tiny, ONNX, 1, tiny.expected(ONNX)) as visit:
        visit.check()
        assert visit.process.alive() and 0.1 < visit.first_answer_s < 30
        assert 20 < visit.process.rss_mb() < 1000
        asked = visit.ask(visit.requests[0])
    assert np.allclose(asked, 2 * tiny.samples()[0])
    assert not visit.process.alive() and visit.process.members() == []
    assert list(models.CACHE.glob("server-*")) == []


def test_wrong_answers_are_no_answers(tiny: Model, tmp_path: Path) -> None:
    wrong = server(tmp_path, "wrong", wrong=0.01, start_s=3.0)
    with (
        pytest.raises(Failed, match="gave no good answer within 3 s"),
        visited(wrong, tiny, ONNX, 1, tiny.expected(ONNX)),
    ):
        raise AssertionError("it was let in")


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_a_peer_that_fails_is_a_row_with_its_error(tiny: Model, tmp_path: Path) -> None:
    good, broken = server(tmp_path), server(tmp_path, "broken")
    (tmp_path / "broken.py").write_text("raise RuntimeError('it does not start')")
    every = [Contender(one, ONNX, 1) for one in (broken, good)]
    rows = rows_of("tiny", race(tiny, every, (1, 4), QUICK, lambda _: None, deciding=4), every)
    assert [(row.server, row.connections) for row in rows] == [("broken", None), ("doubler", 1), ("doubler", 4)]
    assert rows[0].rps is None and rows[0].error is not None and "it does not start" in rows[0].error
    for row in rows[1:]:
        assert row.error is None and row.errors == 0 and row.rounds == 1 and row.rss_mb is not None
        assert row.rps is not None and row.rps > 20 and row.rps_low == row.rps == row.rps_high
        assert row.p50_ms is not None and row.p99_ms is not None and 0 < row.p50_ms <= row.p99_ms
    text = tables._table(rows, tables._CLOSED)
    assert "| broken | failed: ended with status" in text and "it does not start" in text


def test_cold_starts_are_a_row_each(tiny: Model, tmp_path: Path) -> None:
    (row,) = starts(tiny, [server(tmp_path)], ONNX, QUICK, lambda _: None)
    assert (row.workload, row.server, row.rounds, row.error) == ("start", "doubler", 1, None)
    assert row.first_answer_s is not None and row.first_answer_low_s == row.first_answer_s == row.first_answer_high_s


def test_the_better_number_of_workers_is_kept_and_the_other_said() -> None:
    def ran(workers: int, *rates: float, error: str | None = None) -> Contender:
        slices = {32: [Slice(rate, 1.0, 2.0, 0) for rate in rates]} if rates else {}
        return Contender(SERVERS[1], ONNX, workers, slices=slices, error=error)

    one, two = ran(1, 90.0, 100.0, 110.0), ran(2, 140.0)
    assert better([one, two], 32) == [two]
    (row,) = rows_of("iris", [two], [one, two])
    assert (row.workers, row.rps, row.other_workers_rps) == (2, 140.0, 100.0)
    (row,) = rows_of("iris", [one], [one, ran(2, error="died")])
    assert (row.rps, row.rps_low, row.rps_high, row.other_workers_rps) == (100.0, 90.0, 110.0, None)
    assert row.detail == "with 2 workers: died" and row.error is None
    assert better([ran(1, error="died"), ran(2, 5.0)], 32)[0].workers == 2


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("one", SERVERS, ids=lambda one: one.name)
def test_what_is_sent_holds_the_sample(one: Server, model: Model) -> None:
    if one.pictures is None and not model.of_numbers:
        with pytest.raises(Failed, match="serves no pictures"):
            one.dialect(model)
        return
    sample = np.arange(np.prod(model.shape)).reshape(model.shape).astype(model.dtype)
    request = one.dialect(model).ask(model, sample)
    wire = request.wire(1234)
    assert wire.startswith(f"POST {request.path} HTTP/1.1\r\nhost: 127.0.0.1:1234\r\n".encode())
    assert wire.endswith(b"\r\n\r\n" + request.body) and f"content-length: {len(request.body)}\r\n".encode() in wire
    held = sample.tobytes() if not model.of_numbers else b"0.0,1.0,2.0,3.0"
    assert held in request.body


def test_answers_are_read_in_every_form() -> None:
    numbers = np.array([0.25, 0.5, 0.25], np.float32)
    head = b'{"outputs":[]}'
    cases = [
        (dialects.PROBABILITIES, b'{"probabilities": [0.25, 0.5, 0.25]}', {}),
        (dialects.PROBABILITIES, b'{"probabilities": {"a": 0.25, "b": 0.5, "c": 0.25}}', {}),
        (dialects.ROWS, b"[[0.25, 0.5, 0.25]]", {}),
        (dialects.TENSORS, b'{"outputs": [{"data": [0.25, 0.5, 0.25]}]}', {}),
        (dialects.raw("/x"), numbers.tobytes(), {}),
        (dialects.BINARY_TENSORS, head + numbers.tobytes(), {"inference-header-content-length": str(len(head))}),
    ]
    for dialect, body, headers in cases:
        assert np.array_equal(dialect.read(IRIS, body, headers), numbers)


def test_a_process_that_ends_says_why(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    with Process(words, {}, tmp_path, tmp_path / "log") as process, pytest.raises(Failed, match="no such thing"):
        process.wait(lambda: False, 30.0)


def test_a_process_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    sleep = "import time; time.sleep(60)"
    child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleep!r}]); {sleep}"
    with Process([sys.executable, "-c", child], {}, tmp_path, tmp_path / "log") as process:
        process.wait(lambda: len(process.members()) == 2, 20.0)
    assert process.members() == [] and not process.alive()


def test_what_wrk_says_is_read() -> None:
    found = _read("RESULT 2000000 1000 200 3 250.000 1500.000 9000.000")
    assert found == Slice(rps=400.0, p50_ms=0.25, p99_ms=1.5, errors=203)
    assert free_port() > 1023


def test_the_best_peers_are_those_with_our_engine() -> None:
    def row(name: str, engine: str, rps: float, *, ours: bool = False) -> Result:
        return Result(UINT8.name, name, ours, rps=rps, engine=engine, workers=2)

    rows = [
        row("a", models.INT8, 50.0),
        row("b", ONNX, 99.0),
        row("c", models.INT8, 80.0),
        row("d", models.INT8, 60.0),
        row("ours", models.INT8, 90.0, ours=True),
    ]
    assert best_peers(rows, UINT8.name) == [("c", 2), ("d", 2)]


def test_rows_have_what_is_asked_for_and_are_kept_by_workload(tmp_path: Path) -> None:
    assert set(WANTED) <= set(FIELDS)
    assert set(WORKLOADS) <= set(ORDER)
    old = [Result("start", "a", False, first_answer_s=1.0), Result("iris", "a", False, rps=1.0)]
    new = [Result("iris", "a", False, rps=2.0), Result("iris", "b", True, rps=3.0)]
    rows = results.merged(old, new, ORDER)
    assert [(row.workload, row.server, row.rps) for row in rows] == [
        ("iris", "a", 2.0),
        ("iris", "b", 3.0),
        ("start", "a", None),
    ]
    results.write(tmp_path / "results.json", rows, {"cpu": "x"})
    assert results.read(tmp_path / "results.json") == (rows, {"cpu": "x"})
    assert set(json.loads((tmp_path / "results.json").read_text())["rows"][0]) == set(FIELDS)
    assert results.read(tmp_path / "none.json") == ([], {})


def test_tables_and_picture_show_every_workload() -> None:
    environment = results.environment("make bench-serve")
    assert environment["versions"]["mlserver"] == "1.7.1" and environment["versions"]["ray"] == "2.60.0"
    rows = [
        Result("iris", EMPTY, False, connections=32, rps=40_000.0, workers=1),
        Result("iris-features", "Shipworthy without metrics", True, connections=32, rps=31_000.0, ratio=1.03),
        Result(f"{UINT8.name} in process", "Shipworthy", True, rps=370.0, detail="2 streams"),
        Result(UINT8.name, "MLServer", False, connections=8, rps=250.0, workers=1, ratio=0.68),
        Result("start", "Shipworthy", True, first_answer_s=0.7, rss_mb=106.0, rounds=5),
        *(
            Result(
                "open-loop", name, ours, offered_rps=rate, goodput_rps=rate * share, capacity_rps=300.0, target_ms=50.0
            )
            for name, ours, share in (("Shipworthy", True, 0.99), ("MLServer", False, 0.5))
            for rate in (150.0, 600.0)
        ),
    ]
    text = tables.markdown(rows, environment)
    for said in (
        "| empty ASGI |",
        "| 103% |",
        "**Shipworthy, in process**",
        "| 68% |",
        "| 0.70 |",
        "| 200% |",
        "- **Sh",
    ):
        assert said in text, said
    drawn = picture.chart([row for row in rows if row.workload == "open-loop"]).to_dict()
    assert len(drawn["layer"]) == 4 and "50 ms" in json.dumps(drawn["title"])


def test_every_server_has_pinned_versions_and_only_one_is_empty() -> None:
    assert [one.name for one in SERVERS if "asgi" in one.name.lower()] == [EMPTY]
    assert [one.name for one in SERVERS if one.ours] == ["Shipworthy"]
    made = set(re.search(r"^PEERS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())  # type: ignore[index]
    listed = {file.stem for file in (ROOT / "benchmarks" / "serve" / "peers").glob("*.txt")}
    assert made == listed and {one.environment for one in SERVERS} < made
    for name in listed:
        lines = (ROOT / "benchmarks" / "serve" / "peers" / f"{name}.txt").read_text().splitlines()
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), name
        if name.startswith("shipworthy"):
            assert not any(line.startswith("torch") for line in lines)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_contracts_say_what_is_sent(model: Model) -> None:
    contract = read_contract(samples.CONTRACTS / f"{model.name}.toml")
    (name, spec), *_ = contract.inputs.items()
    assert (contract.name, name, spec.dtype) == (model.name, model.input, model.dtype)
    assert tuple(spec.shape[1:]) == model.shape and list(contract.outputs) == [model.output]


def test_pixels_become_the_pictures_that_the_other_model_is_fed() -> None:
    found = samples.pixels(2)
    assert found.dtype == np.uint8 and found.shape == (2, 3, 224, 224) and 20 < found.std() < 120
    assert FLOAT32.shape == UINT8.shape and FLOAT32.weights == UINT8.weights


def test_every_part_that_is_switched_off_is_there() -> None:
    """In a process of its own, because parts are replaced for good."""
    import subprocess

    code = "from benchmarks.serve.apps.without import PARTS\nfor part in PARTS.values(): part()\nprint(len(PARTS))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == str(len(PARTS)), ended.stderr
