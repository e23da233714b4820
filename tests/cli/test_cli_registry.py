"""The registry's verbs: what is printed, where, and with which exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from registry_cases import evidence, package

from shipworthy.cli import main
from shipworthy.contract import Limits
from shipworthy.package import read_label

FEATURES = json.dumps({"features": [5.1, 3.5, 1.4, 0.2]})
SHIPWORTHY = (sys.executable, "-m", "shipworthy")
VERBS = ("push", "pull", "list", "show", "diff", "promote", "rollback", "history", "delete", "gc")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shipworthy", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def ships(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three packages of one model: the first is the worst, the second the best, the third is under another contract."""
    folder = tmp_path_factory.mktemp("ships")
    return [
        package(folder / "first.ship", evidence(0.9815, 0.0527)),
        package(folder / "second.ship", evidence(0.9926, 0.0361, (1, 8, 32))),
        package(folder / "third.ship", evidence(0.9889, 0.0361), limits=Limits(p99_ms=30.0, size_mb=1.0)),
    ]


@pytest.fixture(scope="module")
def prepared(ships: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with digits:1 (champion), digits:2 (challenger, made from it) and digits:3."""
    from shipworthy.registry import Registry

    folder = tmp_path_factory.mktemp("prepared") / "registry"
    registry = Registry(folder, who="anna@build")
    registry.register(ships[0], aliases=["champion"], why="the first one", tags={"data": "october"})
    registry.register(ships[1], aliases=["challenger"], parent=1, why="retrained")
    registry.register(ships[2])
    registry.close()
    return folder


@pytest.fixture
def registry(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that the environment names."""
    folder = tmp_path / "registry"
    shutil.copytree(prepared, folder)
    monkeypatch.setenv("SHIPWORTHY_REGISTRY", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def rows(out: str) -> list[list[str]]:
    """The cells of a piped table."""
    return [re.split(r" {2,}", line.strip()) for line in out.splitlines() if line.strip()]


def test_every_verb_of_the_registry_is_listed_and_takes_its_place(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for verb in VERBS:
        assert f" {verb} " in out
        code, text, _ = run(verb, "--help")
        assert code == 0
        assert "--registry" in text, verb


def test_push_prints_the_name_and_what_it_is(run: Run, ships: list[Path], tmp_path: Path) -> None:
    place = ("--registry", tmp_path / "new")
    code, out, err = run("push", ships[0], "--alias", "champion", "--alias", "stable", *place)
    assert (code, err) == (0, "")
    first, about = out.splitlines()
    assert first == "digits:1"
    assert read_label(ships[0]).digest[:12] in about
    assert "accuracy 0.9815" in about
    assert "champion" in about
    code, out, _ = run(
        "push", ships[1], "--parent", "1", "--tag", "data=october", "--why", "more data", "--json", *place
    )
    pushed = json.loads(out)
    assert code == 0
    assert (pushed["name"], pushed["parent"], pushed["why"]) == ("digits:2", 1, "more data")
    assert pushed["tags"] == {"data": "october"}
    assert pushed["metrics"]["metric.accuracy"] == 0.9926


def test_list_of_models(run: Run, registry: Path) -> None:
    code, out, _ = run("list")
    assert code == 0
    assert rows(out) == [
        ["model", "versions", "newest", "champion", "other aliases"],
        ["digits", "3", "3", "1", "challenger 2"],
    ]
    (model,) = json.loads(run("list", "--json")[1])
    assert model == {"name": "digits", "versions": 3, "newest": 3, "aliases": {"challenger": 2, "champion": 1}}


def test_list_of_versions_has_figures_aliases_when_and_who(run: Run, registry: Path) -> None:
    code, out, _ = run("list", "digits")
    heads, *listed = rows(out)
    assert code == 0
    assert heads[:3] == ["version", "aliases", "accuracy"]
    assert {"p50", "throughput", "size", "when (UTC)", "who", "why"} <= set(heads)
    assert [row[0] for row in listed] == ["digits:3", "digits:2", "digits:1"]
    assert "challenger" in listed[1]
    assert "0.9815" in listed[2]
    assert "anna@build" in listed[2]
    versions = json.loads(run("list", "digits", "--json", "--limit", "2")[1])
    assert [version["name"] for version in versions] == ["digits:3", "digits:2"]
    assert datetime.fromisoformat(versions[0]["created"]).tzinfo is not None


def test_an_empty_registry_says_what_comes_next(run: Run, tmp_path: Path, ships: list[Path]) -> None:
    place = ("--registry", tmp_path / "new")
    assert run("push", ships[0], *place)[0] == 0
    code, out, _ = run("delete", "digits:1", "--why", "a mistake", *place)
    assert code == 0
    assert "digits:1 is deleted" in out
    assert "--deleted" in run("list", "digits", *place)[1]
    assert "digits:1" in run("list", "digits", "--deleted", *place)[1]


def test_show_of_a_version_has_all_of_it(run: Run, registry: Path) -> None:
    code, out, _ = run("show", "digits@challenger")
    assert code == 0
    assert out.startswith("digits:2, challenger\n")
    for words in ("accuracy 0.9926", "retrained", "onnxruntime-fp32", "openvino-fp32", "chosen", "digits:2 registered"):
        assert words in out, words
    assert re.search(r"made from +digits:1\n", out)
    assert re.search(r"made of it +digits:2\n", run("show", "digits:1")[1])
    shown = json.loads(run("show", "digits:2", "--json")[1])
    assert shown["ancestors"] == ["digits:1"]
    assert shown["evidence"]["chosen"] == "onnxruntime-fp32"
    assert {event["kind"] for event in shown["events"]} == {"registered", "alias-moved"}
    assert [variant["id"] for variant in shown["variants"]] == ["onnxruntime-fp32", "openvino-fp32"]


def test_show_of_a_model_as_a_whole(run: Run, registry: Path) -> None:
    code, out, _ = run("show", "digits")
    assert code == 0
    for words in ("digits, 3 versions", "champion", "digits:3", "the first one", "challenger: – → 2"):
        assert words in out, words
    shown = json.loads(run("show", "digits", "--json")[1])
    assert {live["alias"]: live["name"] for live in shown["live"]} == {"champion": "digits:1", "challenger": "digits:2"}
    assert len(shown["versions"]) == 3


def test_diff_marks_each_figure_by_its_direction(run: Run, registry: Path) -> None:
    code, out, _ = run("diff", "digits", "digits@challenger")
    assert code == 0
    marks = {row[0]: row[-1] for row in rows(out)}
    assert marks["accuracy, holdout"] == "better"
    assert marks["p50, batch 1"] == "better"
    assert marks["throughput"] == "better"
    assert re.search(r"p50, batch 8 +– +0\.102 ms\n", out), "measured for one of both only"
    assert "the contracts say the same" in out
    marks = {row[0]: row[-1] for row in rows(run("diff", "digits:2", "digits:1")[1])}
    assert {marks[name] for name in ("accuracy, holdout", "drop at most, holdout", "p99, batch 32", "throughput")} == {
        "worse"
    }


def test_diff_says_what_differs_in_the_contract(run: Run, registry: Path) -> None:
    out = run("diff", "digits:2", "digits:3")[1]
    assert ["limits.p99_ms", "50.0", "30.0"] in rows(out)
    assert ["limits.size_mb", "default", "1.0"] in rows(out)
    told = json.loads(run("diff", "digits:2", "digits:3", "--json")[1])
    assert told["contract"] == [
        {"what": "limits.p99_ms", "a": "50.0", "b": "30.0"},
        {"what": "limits.size_mb", "a": "", "b": "1.0"},
    ]
    accuracy = next(figure for figure in told["figures"] if figure["name"] == "accuracy, holdout")
    assert (accuracy["verdict"], round(accuracy["change"], 4)) == ("worse", -0.0037)
    assert (told["a"]["name"], told["b"]["name"]) == ("digits:2", "digits:3")


def test_diff_of_a_version_with_itself(run: Run, registry: Path) -> None:
    out = run("diff", "digits", "digits:1")[1]
    assert "both are the same package, byte for byte" in out
    assert " better" not in out
    assert " worse" not in out


def test_promote_says_what_it_replaced_and_rollback_undoes_it(run: Run, registry: Path) -> None:
    assert run("promote", "digits:2", "--why", "better by 1.1 points")[:2] == (
        0,
        "digits@champion names digits:2, in place of digits:1\n",
    )
    code, out, _ = run("rollback", "digits", "--why", "slow on phones", "--json")
    event = json.loads(out)
    assert code == 0
    assert (event["kind"], event["version"], event["previous"]) == ("alias-moved", 1, 2)
    assert run("promote", "digits:3", "--alias", "canary")[1] == ("digits@canary names digits:3, where it named none\n")
    assert json.loads(run("list", "--json")[1])[0]["aliases"] == {"canary": 3, "challenger": 2, "champion": 1}


def test_promote_takes_what_another_alias_names(run: Run, registry: Path) -> None:
    assert run("promote", "digits@challenger")[1] == "digits@champion names digits:2, in place of digits:1\n"


def test_history_is_newest_first_with_reasons(run: Run, registry: Path) -> None:
    run("promote", "digits:2", "--why", "better by 1.1 points")
    code, out, _ = run("history", "digits")
    heads, newest, *older = rows(out)
    assert code == 0
    assert heads == ["when (UTC)", "what", "who", "why"]
    assert (newest[1], newest[-1]) == ("champion: 1 → 2", "better by 1.1 points")
    assert older[-1][1] in ("digits:1 registered", "champion: – → 1")
    moves = json.loads(run("history", "digits", "--alias", "champion", "--json")[1])
    assert [(move["previous"], move["version"]) for move in moves] == [(1, 2), (None, 1)]
    assert len(json.loads(run("history", "--limit", "2", "--json")[1])) == 2


def test_history_at_a_time_says_what_was_live(run: Run, registry: Path) -> None:
    assert run("promote", "digits:2", "--why", "better by 1.1 points")[0] == 0
    promoted = json.loads(run("history", "digits", "--limit", "1", "--json")[1])[0]["at"]
    moment = datetime.fromisoformat(promoted)
    elsewhere = moment.astimezone(UTC) + timedelta(hours=1)
    for at in (promoted, "now", elsewhere.strftime("%Y-%m-%dT%H:%M:%S.%f+01:00"), moment.strftime("%Y-%m-%d %H:%M:%S")):
        code, out, _ = run("history", "digits", "--at", at)
        assert code == 0
        assert "UTC digits@champion was digits:2, since" in out, at
        assert out.endswith(": better by 1.1 points\n")
    before = (moment - timedelta(microseconds=1)).isoformat()
    live = json.loads(run("history", "digits", "--at", before, "--json")[1])
    assert (live["name"], live["why"], live["who"]) == ("digits:1", "the first one", "anna@build")
    assert "named no version" in run("history", "digits", "--at", "2h ago")[1]
    assert json.loads(run("history", "digits", "--at", "2h ago", "--json")[1]) is None
    assert "was digits:2" in run("history", "digits", "--at", "now", "--alias", "challenger")[1]


def test_pull_gives_the_same_bytes(run: Run, registry: Path, ships: list[Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("pull", "digits")
    assert (code, out) == (0, "wrote digits-1.ship, which is digits:1\n")
    assert Path("digits-1.ship").read_bytes() == ships[0].read_bytes()
    assert run("pull", "digits:2", "mine.ship")[0] == 0
    assert Path("mine.ship").read_bytes() == ships[1].read_bytes()
    Path("folder").mkdir()
    assert run("pull", "digits:2", "folder")[0] == 0
    assert Path("folder/digits-2.ship").exists()


def test_delete_and_gc(run: Run, registry: Path) -> None:
    assert "alias" in run("delete", "digits:1", "--why", "old")[2]
    assert run("delete", "digits:3", "--why", "never used")[0] == 0
    would = json.loads(run("gc", "--dry-run", "--older-than", "0s", "--json")[1])
    assert would["dry_run"] is True
    assert len(would["packages"]) == 1
    assert run("gc", "--older-than", "0s")[1].startswith("freed 1 package, ")
    assert run("gc", "--older-than", "0s")[1] == "there is nothing to free\n"
    assert run("verify", "digits:2")[0] == 0
    assert run("verify", "digits:3")[0] == 2
    assert "deleted" in run("list", "digits", "--deleted")[1]


@pytest.mark.parametrize("name", ["digits", "digits@challenger", "digits:2"])
def test_names_work_where_packages_do(run: Run, registry: Path, name: str) -> None:
    code, out, err = run("verify", name)
    assert (code, err) == (0, "")
    assert "whole: digits" in out
    code, out, _ = run("predict", name, FEATURES)
    assert code == 0
    assert json.loads(out)["predicted_class"] in (0, 1, 2)
    assert json.loads(run("inspect", name, "--json")[1])["name"] == "digits"


def test_the_option_comes_before_the_environment(run: Run, prepared: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SHIPWORTHY_REGISTRY", str(tmp_path / "another"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copied = shutil.copytree(prepared, tmp_path / "registry")
    assert run("verify", "digits", "--registry", copied)[0] == 0
    assert run("list", "--registry", f"sqlite:///{copied}/registry.db")[0] == 0
    assert not (tmp_path / "another").exists()


@pytest.mark.parametrize(
    ("words", "said", "remedy"),
    [
        (("show", "digts"), "digts", "digits"),
        (("show", "digits:9"), "digits:9", "digits:3"),
        (("show", "digits@chalenger"), "digits has challenger, champion", "promote digits:3"),
        (("pull", "digits:x"), "digits:x", "digits:3"),
        (("pull", "Digits"), "Digits", "digits"),
        (("list", "digts"), "digts", "digits"),
        (("history", "digts"), "digts", "digits"),
        (("verify", "digits:9"), "digits:9", "digits:3"),
        (("predict", "digts", FEATURES), "digts", "digits"),
        (("inspect", "digits@stable"), "digits@stable", "--alias stable"),
        (("diff", "digits:1", "digits:9"), "digits:9", "digits:3"),
        (("promote", "digits:9"), "digits:9", "digits:3"),
        (("promote", "digits:2", "--alias", "7"), "7", "champion"),
        (("promote", "digits"), "digits", "digits:3"),
        (("rollback", "digits"), "digits", "promote"),
        (("rollback", "digits", "--alias", "stable"), "stable", ""),
        (("delete", "digits:1"), "digits:1", ""),
        (("delete", "digits"), "digits", ""),
        (("history", "digits", "--at", "half past nine"), "half past nine", "2h ago"),
        (("history", "digits", "--at", "2999-01-01"), "future", "UTC"),
        (("history", "--at", "now"), "--at", "history MODEL --at"),
        (("gc", "--older-than", "soon"), "soon", "90s"),
        (("push", "nowhere.ship"), "nowhere.ship", ""),
        (("list", "--registry", "mysql://somewhere/x"), "mysql", "postgresql"),
        (("list", "--registry", "postgresql://anna:secret@127.0.0.1:1/x"), "127.0.0.1", ""),
        (("list", "--registry", "/dev/null"), "/dev/null", ""),
    ],
    ids=lambda value: " ".join(map(str, value))[:40] if isinstance(value, tuple) else "",
)
def test_a_mistake_is_told_with_its_remedy(run: Run, registry: Path, words, said: str, remedy: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    error, *rest = err.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert len(rest) <= 1, err
    assert "secret" not in err
    if remedy:
        assert rest[0].startswith("remedy: ")
        assert remedy in rest[0]


def test_a_registry_that_is_not_there_is_not_made_by_looking(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "nowhere"
    for words in (("list",), ("show", "digits"), ("history",), ("verify", "digits"), ("gc",)):
        code, out, err = run(*words, "--registry", place)
        assert (code, out) == (2, ""), words
        assert "push" in err
        assert not place.exists()


def test_without_a_champion_the_remedy_is_to_promote(run: Run, ships: list[Path], tmp_path: Path) -> None:
    place = ("--registry", tmp_path / "new")
    run("push", ships[0], *place)
    code, _, err = run("verify", "digits", *place)
    assert code == 2
    assert "champion" in err
    assert "shipworthy promote digits:1" in err


def test_a_tag_without_a_value_is_refused(run: Run, ships: list[Path], tmp_path: Path) -> None:
    code, _, err = run("push", ships[0], "--tag", "october", "--registry", tmp_path / "new")
    assert code == 2
    assert "is no key=value" in err
    assert not (tmp_path / "new").exists()


def test_a_broken_package_leaves_no_version(run: Run, registry: Path, ships: list[Path], tmp_path: Path) -> None:
    data = bytearray(ships[0].read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "broken.ship").write_bytes(data)
    code, _, err = run("push", tmp_path / "broken.ship")
    assert code == 2
    assert "broken.ship" in err
    assert len(json.loads(run("list", "digits", "--json")[1])) == 3


def shown_on_a_terminal(width: int, *words: str) -> str:
    """What a terminal of that width gets, without its colours."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm-256color"}
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        environment.pop(name, None)
    child = subprocess.Popen([*SHIPWORTHY, *words], stdout=follower, stderr=subprocess.PIPE, env=environment)
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 65536):
            shown += part
    except OSError:
        pass  # Linux says so when the other side has closed.
    os.close(leader)
    assert child.wait(timeout=60) == 0, child.stderr and child.stderr.read()
    assert child.stderr is not None
    child.stderr.close()
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")


@pytest.mark.parametrize("words", [("list", "digits"), ("diff", "digits:1", "digits:3")], ids=["list", "diff"])
def test_a_terminal_gets_a_table_that_fits(registry: Path, words: tuple[str, ...]) -> None:
    narrow = shown_on_a_terminal(80, *words)
    assert "────" in narrow
    assert max(map(len, narrow.splitlines())) <= 80
    assert re.search(r"0\.9815", narrow), "figures are not folded"


def test_a_pipe_gets_whole_rows_and_may_be_closed(registry: Path) -> None:
    subprocess.run([*SHIPWORTHY, "promote", "digits:2", "--why", "because " * 40], check=True, capture_output=True)
    piped = subprocess.run([*SHIPWORTHY, "history", "digits"], check=True, capture_output=True, text=True)
    assert "─" not in piped.stdout
    assert "\x1b" not in piped.stdout
    assert len(piped.stdout.splitlines()) == 7, "a head, five events of the start and a promotion"
    quoted = " ".join(f"'{word}'" for word in (*SHIPWORTHY, "history", "digits"))
    cut = subprocess.run(["bash", "-c", f"{quoted} | head -n 1"], check=True, capture_output=True, text=True)
    assert cut.stdout.startswith("when (UTC)")
    assert cut.stderr == ""
