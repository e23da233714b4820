"""`shipworthy rollout` and `shipworthy feedback`, as they are typed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from rollout_world import MODEL, assigned, completed, copies, make_registry, signed
from shipworthy.cli import app, rollout_options, rollout_show
from shipworthy.errors import FeedbackError, MissingExtra, RegistryError, RolloutError
from shipworthy.registry import Registry
from shipworthy.rollout import Observed, Rollouts, Spec, prediction_key
from shipworthy.rollout.observed import Copies

Run = Callable[..., Result]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with make_registry(tmp_path / "registry") as made:
        yield made


@pytest.fixture
def run(registry: Registry) -> Run:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--registry", registry.url])

    return call


def refused(result: Result, kind: type[Exception]) -> str:
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def test_a_rollout_from_start_to_stop(run: Run, registry: Registry) -> None:
    started = run("rollout", "start", MODEL, "--challenger", "2", "--mode", "canary", "--ramp", "1,5,25,50,100",
                  "--timeout", "2h", "--auto", "--why", "smaller")  # fmt: skip
    assert started.exit_code == 0, started.output
    assert started.output.startswith("rollout 1: canary of digits:2 beside digits:1\n")
    rollout = Rollouts(registry).get(1)
    assert rollout.spec == Spec("canary", ramp=(0.01, 0.05, 0.25, 0.5), timeout_s=7200.0, auto=True)
    assert rollout.why == "smaller"
    listed = run("rollout", "list", MODEL)
    assert "running" in listed.output
    assert "smaller" in listed.output
    stopped = run("rollout", "stop", MODEL, "--why", "holiday")
    assert stopped.output == "rollout 1 is stopped; digits:1 serves everything\n"
    shown = run("rollout", "status", MODEL)
    assert "stopped: holiday" in shown.output


@pytest.mark.parametrize("name", ["3", "digits:3", "@challenger"])
def test_a_challenger_is_named_shortly(run: Run, registry: Registry, name: str) -> None:
    registry.move(MODEL, "challenger", 3, expected=None)
    shown = run("rollout", "start", MODEL, "--challenger", name, "--json")
    data = json.loads(shown.output)
    assert (data["challenger"], data["mode"], data["state"], data["spec"]["delta"]) == (3, "shadow", "running", 0.01)


def test_what_is_wrong_is_said_with_its_remedy(run: Run) -> None:
    assert "rollout.ramp" in refused(run("rollout", "start", MODEL, "--challenger", "2", "--ramp", "1,5"), RolloutError)
    assert "is no version" in refused(run("rollout", "start", MODEL, "--challenger", "9"), RegistryError)
    assert "has had no rollout" in refused(run("rollout", "status", MODEL), RolloutError)
    assert "is no model" in refused(run("rollout", "status", "letters"), RegistryError)
    assert "no running rollout" in refused(run("rollout", "stop", MODEL), RolloutError)
    assert run("rollout", "list").output == "there has been no rollout\n"
    assert "give one of both" in refused(run("rollout", "status", MODEL, "--watch", "--json"), RolloutError)


def test_the_defaults_that_are_told_are_those_that_hold() -> None:
    fields = {"StageTime": "stage_seconds", "Timeout": "timeout_s"}
    told = 0
    for name, option in vars(rollout_options).items():
        found = re.search(r"default: ([\w,.%-]+?)\.?$", get_args(option)[1].help) if get_args(option) else None
        if found is None or name == "Delta":
            continue
        field = fields.get(name) or re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
        mode = {"ramp": "canary", "stage": "canary", "share": "ab"}.get(field.split("_")[0], "shadow")
        value = int(found[1]) if found[1].isdecimal() else found[1]
        assert getattr(Spec.from_options(mode, {field: value}), field) == getattr(Spec("shadow"), field), name
        told += 1
    assert told == 9


def drawn(registry: Registry, width: int = 80) -> str:
    rollout = Rollouts(registry).list(MODEL)[0]
    console = Console(width=width, record=True, file=sys.stderr)
    console.print(rollout_show.view(rollout, registry.history(MODEL, limit=3)))
    return console.export_text()


def test_a_canary_is_shown_on_one_screen(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("canary", ramp=(0.05, 0.25), guardrails=("errors", "ratio")))
    new = [place % 20 == 0 for place in range(400)]
    done = completed(new, 0.05, failed=[place % 40 == 0 for place in range(400)])
    rollouts.merge(rollout.id, Observed(assigned(new, 0.05), done))
    text = drawn(registry)
    assert max(map(len, text.splitlines())) <= 80
    assert "rollout 1: canary of digits:2 beside digits:1" in text
    assert "5 %   stages 5 % → 25 %" in text
    assert "400 of 1,000 requests at this stage" in text
    assert "challenger 2        20     20      10     0       0          –" in text
    latency = next(line for line in text.splitlines() if "more slow answers" in line)
    assert latency.split()[-1] == "off"
    errors = next(line for line in text.splitlines() if "more errors" in line)
    assert "━━━━━━━━━━━━━━━━━━━━━━━━" in errors
    assert errors.split()[-1] == "100"
    assert "rollback: " not in text.splitlines()[1]
    assert "verdict rollback" in text.splitlines()[1]
    assert "rollout verdict" in text


def test_the_guardrail_drift_is_shown_where_it_is_on_and_what_it_said(run: Run, registry: Registry) -> None:
    asked = "errors,latency,ratio,drift"
    shown = run("rollout", "start", MODEL, "--challenger", "2", "--mode", "ab", "--guardrails", asked, "--json")
    assert json.loads(shown.output)["spec"]["guardrails"] == asked.split(",")
    Rollouts(registry).alarmed(MODEL, 2, "confidence has moved")
    text = drawn(registry)
    assert max(map(len, text.splitlines())) <= 80
    assert any("drift, it alone" in line and "by the monitor's alarms" in line for line in text.splitlines())
    assert "running, verdict rollback" in text
    assert "rollback: confidence has moved" in text


def test_a_shadow_is_shown_by_its_pairs(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow", auto=True))
    rollouts.merge(rollout.id, Observed(copies=copies([(bytes(12), 0, 1)], agreeing=199)))
    text = drawn(registry)
    assert "200 copies were answered" in text and "dropped" not in text
    for _ in range(2):
        rollouts.merge(rollout.id, Observed(copies=Copies(lost=1700)))
    text = drawn(registry)
    assert "200 copies were answered" in text and "3,400 were dropped, as there was no time for them" in text
    assert [line.split() for line in text.splitlines() if line.lstrip().startswith("200  ")] == [
        ["200", "199", "1", "0", "0", "1", "0"]
    ]
    assert "more pairs where all of them agree" in text.replace("\n", " ")
    assert "share of requests" not in text


def test_watching_ends_with_the_rollout(run: Run, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("shadow", auto=True))
    looks = []

    def later(seconds: float) -> None:
        looks.append(seconds)
        rollouts.merge(rollout.id, Observed(copies=copies([], agreeing=300, timed=50)))

    monkeypatch.setattr(rollout_show.time, "sleep", later)
    watched = run("rollout", "status", MODEL, "--watch")
    assert watched.exit_code == 0
    assert looks == [1.0, 1.0]
    assert "promote: The new version's mean loss" in watched.output


def test_status_as_json_has_every_figure(run: Run, registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start(MODEL, "digits:2", Spec("ab"))
    rollouts.merge(rollout.id, Observed(assigned([True, False])))
    data: dict[str, Any] = json.loads(run("rollout", "status", MODEL, "--json").output)
    assert data["counts"]["assigned"] == [1, 1]
    assert {figure["process"] for figure in data["figures"]} >= {"promote", "rollback", "errors", "assigned"}
    assert data["judgement"]["verdict"] is None
    assert json.loads(run("rollout", "list", "--json").output)[0]["id"] == rollout.id


def answers(registry: Registry, number: int, **place: Any) -> list[str]:
    key = prediction_key(registry)
    return [signed({"predicted_class": 0}, key=key, **place) for _ in range(number)]


def test_labels_from_csv(run: Run, registry: Registry, tmp_path: Path) -> None:
    rollout = Rollouts(registry).start(MODEL, "digits:2", Spec("ab"))
    ids = answers(registry, 6, rollout=rollout.id, share=0.5)
    file = tmp_path / "labels.csv"
    rows = [f"{ids[0]},a,", f"{ids[1]},1,", f"{ids[2]},,0.5", f"{ids[3]},zebra,", "forged,a,", f"{ids[4]},,",
            f"{ids[5]},a,1", f"{ids[0]},b,"]  # fmt: skip
    file.write_text("prediction_id,label,loss\n" + "\n".join(rows) + "\n")
    result = run("feedback", str(file))
    assert result.exit_code == 0, result.output
    counts = dict(line.split()[:2] for line in result.stdout.splitlines()[2:] if line.strip())
    assert counts == {"accepted": "3", "contradictory": "1", "forged": "1", "unusable": "3"}
    named = [line for line in result.stderr.splitlines() if line.startswith("line ")]
    assert [line.split(":")[0] for line in named] == ["line 5", "line 6", "line 7", "line 8", "line 9"]
    assert "'zebra' is no class of this model" in named[0]
    assert Rollouts(registry).get(rollout.id).evidence.unpaired.losses.tolist() == [1.5, 0.0]
    again = run("feedback", str(file), "--model", MODEL, "--json")
    data = json.loads(again.stdout)
    assert data["outcomes"] == {"duplicate": 3, "contradictory": 1, "forged": 1, "unusable": 3}
    assert data["rows"] == 8


def test_labels_from_parquet(run: Run, registry: Registry, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    ids = answers(registry, 2500)
    file = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"prediction_id": ids, "label": [0.0] * 2499 + [7.0], "more": [1] * 2500}), file)
    data = json.loads(run("feedback", str(file), "--json").stdout)
    assert data["outcomes"] == {"accepted": 2499, "unusable": 1}
    assert data["wrong"][0]["line"] == 2500


def test_a_file_without_a_usable_row_ends_with_code_2(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("prediction_id,label\n" + "nothing,a\n" * 12)
    result = run("feedback", str(file))
    assert result.exit_code == 2
    assert len([line for line in result.stderr.splitlines() if line.startswith("line ")]) == 10
    assert "and 2 more rows" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("labels.csv", b"id,label\n1,2\n", "has not the columns"),
        ("labels.csv", b"prediction_id,label\n", "has no rows"),
        ("labels.csv", b"prediction_id,label\n\xff\xfe,1\n", "is no CSV in UTF-8"),
        ("labels.parquet", b"no parquet", "is no Parquet file"),
        ("labels.txt", b"", "neither .csv nor .parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(run: Run, tmp_path: Path, name: str, content: bytes, told: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert told in refused(run("feedback", str(file)), FeedbackError)
    assert "cannot be read" in refused(run("feedback", str(tmp_path / "none.csv")), FeedbackError)


def test_parquet_needs_an_extra_and_csv_does_not(
    run: Run, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    file = tmp_path / "labels.parquet"
    file.write_bytes(b"")
    assert "shipworthy[build]" in refused(run("feedback", str(file)), MissingExtra)
    table = tmp_path / "labels.csv"
    table.write_text(f"prediction_id,label\n{answers(registry, 1)[0]},a\n")
    assert run("feedback", str(table)).exit_code == 0
