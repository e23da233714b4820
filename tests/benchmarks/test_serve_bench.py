"""The harness of benchmarks/serve: servers that are asked, chosen among, and written down, and those that fail."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.serve import dialects, models, samples, servers, tables  # noqa: E402
from benchmarks.serve.apps.without import PARTS  # noqa: E402
from benchmarks.serve.cold import starts  # noqa: E402
from benchmarks.serve.models import FLOAT32, IRIS, MODELS, ONNX, UINT8, Model  # noqa: E402
from benchmarks.serve.open_loop import best_peers  # noqa: E402
from benchmarks.serve.process import Failed, Process  # noqa: E402
from benchmarks.serve.race import Contender, Effort, everywhere, race  # noqa: E402
from benchmarks.serve.results import Result  # noqa: E402
from benchmarks.serve.rows import by_connections  # noqa: E402
from benchmarks.serve.servers import EMPTY, SERVERS, Command, Server  # noqa: E402
from benchmarks.serve.visit import visited  # noqa: E402

from shipworthy.contract import read_contract  # noqa: E402

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
import asyncio
import json
import numpy as np
from engine import from_environment
run, told = from_environment()
now = most = 0
ODD = {{"/busy": b"busy", "/nonsense": b"<html>", "/other": b'{{"a": 1}}', "/short": b"{{}}"}}
async def app(scope, receive, send):
    global now, most
    if scope["type"] != "http":
        return
    body, path = (await receive())["body"], scope["path"]
    if path == "/most":
        answer = b"%d" % most
    elif path in ODD:
        answer = ODD[path]
    else:
        now += 1
        most = max(most, now)
        await asyncio.sleep({wait})
        now -= 1
        row = run(np.array([json.loads(body)["features"]], np.float32))[0] + {wrong}
        answer = json.dumps({{"probabilities": row.tolist()}}).encode()
    length, status = len(answer) + (path == "/short"), 503 if path == "/busy" else 200
    await send({{"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % length)]}})
    await send({{"type": "http.response.body", "body": answer}})
"""


def server(folder: Path, name: str = "doubler", wrong: float = 0.0, start_s: float = 30.0, wait: float = 0.0) -> Server:
    (folder / f"{name}.py").write_text(APP.format(wrong=wrong, wait=wait))

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


def test_the_samples_are_sent_at_once_and_in_turn_where_some_may_be_refused(tiny: Model, tmp_path: Path) -> None:
    for limit, least, most in ((None, 2, models.SAMPLES), (5, 1, 1)):
        with visited(server(tmp_path, wait=0.02), tiny, ONNX, 1, tiny.expected(ONNX), limit=limit) as visit:
            visit.check()
            connection = HTTPConnection("127.0.0.1", visit.port, timeout=10)
            connection.request("GET", "/most")
            assert least <= int(connection.getresponse().read()) <= most
            connection.close()


def test_whatever_an_answer_is_it_is_a_failure_with_a_reason(tiny: Model, tmp_path: Path) -> None:
    with visited(server(tmp_path), tiny, ONNX, 1, tiny.expected(ONNX)) as visit:
        asked = visit.requests[0]
        for path, reason in (
            ("/busy", "status 503: b'busy'"),
            ("/nonsense", "cannot be read: JSONDecodeError"),
            ("/other", "cannot be read: KeyError"),
            ("/short", "no answer: IncompleteRead"),
        ):
            with pytest.raises(Failed, match=reason):
                visit.ask(replace(asked, path=path))
        visit.process.close()
        with pytest.raises(Failed, match="no answer: ConnectionRefusedError"):
            visit.ask(asked)
        assert visit.trouble() is not None


def test_wrong_answers_are_no_answers(tiny: Model, tmp_path: Path) -> None:
    wrong = server(tmp_path, "wrong", wrong=0.01, start_s=3.0)
    with (
        pytest.raises(Failed, match=r"within 3 s: answers with other numbers than the engine: they differ by 0\.01"),
        visited(wrong, tiny, ONNX, 1, tiny.expected(ONNX)),
    ):
        raise AssertionError("it was let in")


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_a_peer_that_fails_is_a_row_with_its_error(tiny: Model, tmp_path: Path) -> None:
    good, broken = server(tmp_path), server(tmp_path, "broken")
    (tmp_path / "broken.py").write_text("raise RuntimeError('it does not start')")
    every = [Contender(one, ONNX, 1) for one in (broken, good)]
    race(tiny, every, everywhere(1, 4), QUICK, lambda _: None)
    rows = by_connections("tiny", every, (1, 4))
    assert [(row.server, row.connections) for row in rows] == [("broken", None), ("doubler", 1), ("doubler", 4)]
    assert rows[0].rps is None and rows[0].error is not None and "it does not start" in rows[0].error
    for row in rows[1:]:
        assert row.error is None and row.errors == 0 and row.rounds == 1 and row.rss_mb is not None
        assert row.rps is not None and row.rps > 20 and row.rps_low == row.rps == row.rps_high
        assert row.p50_ms is not None and row.p99_ms is not None and 0 < row.p50_ms <= row.p99_ms
        assert row.elsewhere_cpu is not None and row.elsewhere_cpu >= 0 and row.first_answer_s is not None
    text = tables._table(rows, tables._NUMBERS)
    assert "| broken | failed: with 1 worker: ended with status" in text and "it does not start" in text


def test_cold_starts_are_a_row_each(tiny: Model, tmp_path: Path) -> None:
    (row,) = starts(tiny, [server(tmp_path)], ONNX, QUICK, lambda _: None)
    assert (row.workload, row.server, row.rounds, row.error) == ("start", "doubler", 1, None)
    assert row.first_answer_s is not None and row.first_answer_low_s == row.first_answer_s == row.first_answer_high_s


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
        process.wait(lambda: "silent", 30.0)


def test_a_process_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    sleep = "import time; time.sleep(60)"
    child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleep!r}]); {sleep}"
    with Process([sys.executable, "-c", child], {}, tmp_path, tmp_path / "log") as process:
        process.wait(lambda: None if len(process.members()) == 2 else "alone", 20.0)
    assert process.members() == [] and not process.alive()


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
