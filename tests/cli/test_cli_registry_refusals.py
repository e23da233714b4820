"""What the registry's verbs refuse: one line on what is wrong, one on what to do."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from registry_cases import Run

from shipworthy.registry import Registry

FEATURES = json.dumps({"features": [5.1, 3.5, 1.4, 0.2]})


@pytest.mark.parametrize(
    ("words", "said", "remedy"),
    [
        (("show", "digts"), "digts", "digits"),
        (("show", "digits:9"), "digits:9", "digits:3"),
        (("list", "--registry", "postgresql+psycopg2://anna:secret@host/x"), "psycopg2", "pg8000"),
        (("list", "--registry", "postgresql://host/x"), "names no user", "postgresql://user@host/database"),
        (("list", "--registry", "postgresql://anna@db..example/x"), "a host or a sign that cannot be sent", "the url"),
        (("list", "--registry", "postgresql:/anna:secret@host/x"), "no // after the colon", "postgresql://user@host"),
        (("list", "--registry", "postgresql://anna:it@secret@host/x"), "an @ where none can be", "%40"),
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
        (("promote", "digits:2", "--replaces", "3"), "names version 1, not version 3", "look again"),
        (("promote", "digits:2", "--replaces", "0"), "names version 1, not nothing", "look again"),
        (("rollback", "digits"), "digits", "promote"),
        (("rollback", "digits@champion"), "a model is asked for", "digits"),
        (("list", "digits:1"), "a model is asked for", "digits"),
        (("history", "digits:1"), "a model is asked for", "digits"),
        (("verify", "d" * 300), "ddd", "digits"),
        (("rollback", "digits", "--alias", "stable"), "stable", ""),
        (("delete", "digits:1"), "digits:1", ""),
        (("delete", "digits"), "digits", ""),
        (("history", "digits", "--at", "half past nine"), "half past nine", "2h ago"),
        (("history", "digits", "--at", "2999-01-01"), "future", "UTC"),
        (("history", "--at", "now"), "--at", "history MODEL --at"),
        (("gc", "--older-than", "soon"), "soon", "90s"),
        (("gc", "--older-than", "999999w"), "older_than", "at most 36500 days"),
        (("list", "--registry", "d" * 5000), "is no place for a registry", "postgresql"),
        (("list", "--registry", "~nosuchuser/registry"), "is no place for a registry", "postgresql"),
        (("list", "--registry", "postgresql://a:secret@host/x?sslmood=require"), "'sslmood'", "sslmode"),
        (("promote", "digits:2", "--why", "one\ntwo"), "control character U+000A", "one line"),
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


def test_a_tag_that_is_given_twice_is_refused(run: Run, ships: list[Path], tmp_path: Path) -> None:
    code, _, err = run("push", ships[0], "--tag", "a=1", "--tag", "a=2", "--registry", tmp_path / "new")
    assert code == 2
    assert "--tag a: is given twice" in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [("--alias", "7"), ("--why", "\x1b[2J"), ("--tag", "a=\n"), ("nothing",)])
def test_a_push_that_is_refused_makes_no_registry(run: Run, ships: list[Path], tmp_path: Path, words) -> None:
    (tmp_path / "notes.txt").write_text("no package")
    what = [tmp_path / "notes.txt"] if words == ("nothing",) else [ships[0], *words]
    for place in (tmp_path / "typo", f"sqlite:///{tmp_path}/typo/x.db"):
        assert run("push", *what, "--registry", place)[0] == 2
        assert not (tmp_path / "typo").exists()


def test_a_password_is_never_shown(run: Run, monkeypatch: pytest.MonkeyPatch, registry: Path) -> None:
    """The registry has no model, and its url a password."""
    with Registry(registry) as opened:
        opened.url = "postgresql://anna:TOPSECRET@host/x"
        opened.database.shown = "postgresql://anna:***@host/x"
        monkeypatch.setattr(opened, "models", list)
        monkeypatch.setattr("shipworthy.cli.listing.opened", lambda url: nullcontext(opened))
        code, out, err = run("list")
    assert (code, out) == (0, "postgresql://anna:***@host/x has no model yet; next: shipworthy push PACKAGE\n")
    assert "TOPSECRET" not in err


def test_a_broken_package_leaves_no_version(run: Run, registry: Path, ships: list[Path], tmp_path: Path) -> None:
    data = bytearray(ships[0].read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "broken.ship").write_bytes(data)
    code, _, err = run("push", tmp_path / "broken.ship")
    assert code == 2
    assert "broken.ship" in err
    assert len(json.loads(run("list", "digits", "--json")[1])) == 3
