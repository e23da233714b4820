"""The registry's verbs: what they do, and what they print."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from registry_cases import Run

from shipworthy.package import read_label
from shipworthy.registry import Registry

FEATURES = json.dumps({"features": [5.1, 3.5, 1.4, 0.2]})
VERBS = ("push", "pull", "list", "show", "diff", "promote", "rollback", "history", "delete", "gc")


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


def test_rollback_goes_back_from_what_it_read(run: Run, registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else goes back between the look and the step; and one who says what has to go."""
    for number in ("2", "3"):
        run("promote", f"digits:{number}")
    with Registry(registry) as other:
        monkeypatch.setattr(Registry, "aliases", lambda self, model: {"champion": 3})
        other.rollback("digits")
    code, _, err = run("rollback", "digits")
    monkeypatch.undo()
    assert code == 2 and "names version 2, not version 3" in err
    code, _, err = run("rollback", "digits", "--replaces", "3", "--registry", registry)
    assert code == 2 and "names version 2, not version 3" in err
    code, out, _ = run("rollback", "digits", "--replaces", "2", "--registry", registry)
    assert (code, out) == (0, "digits@champion names digits:1, in place of digits:2\n")


def test_show_has_the_nearest_of_many(run: Run, ships: list[Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "many"
    with Registry(place) as made:
        for parent in (None, *range(1, 13), *[1] * 11):
            made.register(ships[0], parent=parent, git_commit="")
        for number in (1, 2) * 6:
            made.promote(f"digits:{number}")
    deep = json.loads(run("show", "digits:13", "--json", "--registry", place)[1])
    assert deep["ancestors"] == [f"digits:{number}" for number in range(12, 2, -1)]
    assert deep["more"] == ["ancestors"]
    assert "digits:3 ← …" in run("show", "digits:13", "--registry", place)[1]
    first = json.loads(run("show", "digits:1", "--json", "--registry", place)[1])
    assert (len(first["descendants"]), len(first["events"])) == (10, 10)
    assert first["descendants"][0] == "digits:24" and first["more"] == ["descendants", "events"]
    out = run("show", "digits:1", "--registry", place)[1]
    assert re.search(r"made of it +…, digits:15, ", out) and "and before: shipworthy history digits" in out
    out = run("show", "digits", "--registry", place)[1]
    assert out.startswith("digits, 24 versions\n") and "and 14 older ones: shipworthy list digits" in out
    assert (
        len(
            json.loads(
                run("history", "digits", "--alias", "champion", "--limit", "3", "--json", "--registry", place)[1]
            )
        )
        == 3
    )


def test_promote_takes_what_another_alias_names(run: Run, registry: Path) -> None:
    assert run("promote", "digits@challenger")[1] == "digits@champion names digits:2, in place of digits:1\n"


def test_promoting_the_champion_says_that_it_is_already(run: Run, registry: Path) -> None:
    assert run("promote", "digits:2", "--replaces", "1")[0] == 0
    moved = len(json.loads(run("history", "--json")[1]))
    assert re.fullmatch(
        r"digits@champion names digits:2 already, since \d{4}-.* UTC\n", run("promote", "digits:2", "--why", "again")[1]
    )
    assert len(json.loads(run("history", "--json")[1])) == moved


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
    code, out, _ = run("show", "digits:3")
    assert code == 0
    assert out.startswith("digits:3, deleted ")
    assert "never used" in out


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
