"""What a registry is asked, and what it answers and refuses."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import small_packages

from shipworthy.errors import Conflict, PackageError, RegistryError
from shipworthy.registry import Event, Model, Registry


def test_a_version_has_what_is_known_of_it(registry: Registry, package) -> None:
    before = datetime.now(UTC)
    folder = package()
    version = registry.register(folder, tags={"team": "vision"}, why="first", git_commit="abc123")
    assert (version.name, version.model, version.number) == ("digits:1", "digits", 1)
    assert version.digest == small_packages.digest_of(folder)
    assert before <= version.created <= datetime.now(UTC)
    assert (version.who, version.why, version.git_commit) == ("tester", "first", "abc123")
    assert (version.parent, version.deleted, version.aliases) == (None, None, ())
    assert dict(version.tags) == {"team": "vision"}
    assert len(version.contract_digest) == 64
    assert registry.version("digits:1") == version


def test_numbers_rise_and_a_package_may_have_two(registry: Registry, package) -> None:
    first, other = package(), package(card="another")
    names = [registry.register(folder).name for folder in (first, other, first)]
    assert names == ["digits:1", "digits:2", "digits:3"]
    one, three = registry.version("digits:1"), registry.version("digits:3")
    assert one.digest == three.digest != registry.version("digits:2").digest
    assert registry.register(package("iris"), parent=None).name == "iris:1"
    assert [version.number for version in registry.list_versions("digits")] == [3, 2, 1]
    assert [version.number for version in registry.list_versions("digits", limit=2)] == [3, 2]


def test_a_named_push_is_carried_out_once(registry: Registry, package) -> None:
    folder = package()
    first = registry.register(folder, push_id="build 7", aliases=["champion"])
    registry.register(folder)
    registry.promote("digits:2")
    again = registry.register(folder, push_id="build 7", aliases=["champion"])
    assert (again.name, again.digest, again.created) == (first.name, first.digest, first.created)
    assert registry.aliases("digits") == {"champion": 2}, "a push that was done moves nothing"
    assert len(registry.list_versions("digits")) == 2
    with pytest.raises(RegistryError, match="a push of another package"):
        registry.register(package(card="another"), push_id="build 7")


def test_a_ship_file_is_the_same_package(registry: Registry, tmp_path: Path) -> None:
    stored = small_packages.STORED
    folder = registry.register(stored)
    ship = registry.register(stored.with_suffix(".ship"))
    assert folder.digest == ship.digest
    pulled = registry.pull("iris:2", tmp_path / "again.ship")
    assert pulled.read_bytes() == stored.with_suffix(".ship").read_bytes()


def test_a_parent_is_an_earlier_version(registry: Registry, package) -> None:
    folder = package()
    registry.register(folder)
    assert registry.register(folder, parent=1).parent == 1
    for parent in (3, 0, -1, 99):
        with pytest.raises(RegistryError, match="is no parent"):
            registry.register(folder, parent=parent)
    assert registry.newest_event() == 2, "what was refused left nothing"
    assert len(registry.list_versions("digits")) == 2


def test_a_broken_package_is_not_registered(registry: Registry, package) -> None:
    folder = package()
    (folder / "card.md").write_text("changed")
    with pytest.raises(PackageError, match=r"card\.md"):
        registry.register(folder)
    assert registry.models() == []
    with pytest.raises(PackageError, match="No such file"):
        registry.register(folder / "nothing")


def test_models(registry: Registry, package) -> None:
    assert registry.models() == []
    digits, iris = package(), package("iris")
    registry.register(iris, aliases=["champion", "challenger"])
    registry.register(digits)
    registry.register(digits)
    registry.delete("digits:2")
    assert registry.models() == [
        Model("digits", 1, 1, {}),
        Model("iris", 1, 1, {"challenger": 1, "champion": 1}),
    ]
    registry.delete("digits:1")
    assert registry.models()[0] == Model("digits", 0, None, {})


def test_aliases_at_registration(registry: Registry, package) -> None:
    folder = package()
    registry.register(folder, aliases=["champion", "blue", "champion"], why="first")
    version = registry.register(folder, aliases=["champion"], why="better")
    assert version.aliases == ("champion",)
    assert registry.aliases("digits") == {"blue": 1, "champion": 2}
    assert registry.version("digits:1").aliases == ("blue",)
    newest = registry.history("digits")[0]
    assert (newest.kind, newest.alias, newest.previous, newest.version, newest.why) == (
        "alias-moved", "champion", 1, 2, "better",
    )  # fmt: skip
    with pytest.raises(RegistryError, match="is no alias"):
        registry.register(folder, aliases=["7"])


def test_compare_and_swap(registry: Registry, package) -> None:
    folder = package()
    for _ in range(3):
        registry.register(folder)
    first = registry.move("digits", "champion", 1, expected=None, why="go", details={"evidence": [1, 2.5]})
    assert (first.version, first.previous, first.who, first.details) == (1, None, "tester", {"evidence": [1, 2.5]})
    for wrong in (None, 2):
        with pytest.raises(Conflict, match="names version 1, not"):
            registry.move("digits", "champion", 3, expected=wrong)
    assert registry.move("digits", "champion", 3, expected=1).previous == 1
    gone = registry.move("digits", "champion", None, expected=3, why="none is good")
    assert (gone.version, gone.previous) == (None, 3)
    assert registry.aliases("digits") == {}
    with pytest.raises(Conflict, match="names nothing, not version 3"):
        registry.move("digits", "champion", None, expected=3)
    with pytest.raises(RegistryError, match="cannot be taken away"):
        registry.move("digits", "blue", None, expected=None)
    with pytest.raises(RegistryError, match=r"digits:9: is no version; the newest is digits:3"):
        registry.move("digits", "champion", 9, expected=None)


def test_a_move_to_where_it_is_writes_nothing(registry: Registry, package) -> None:
    registry.register(package())
    first = registry.promote("digits:1", why="first")
    number = registry.newest_event()
    assert registry.promote("digits:1", why="again") == first
    assert registry.move("digits", "champion", 1, expected=1) == first
    assert registry.newest_event() == number


def test_promote_by_another_alias(registry: Registry, package) -> None:
    folder = package()
    registry.register(folder, aliases=["champion"])
    registry.register(folder, aliases=["challenger"])
    event = registry.promote("digits@challenger", why="won")
    assert (event.version, event.previous, event.why) == (2, 1, "won")
    assert registry.promote("digits", alias="stable").version == 2
    assert registry.version("digits").aliases == ("challenger", "champion", "stable")


def test_a_bare_name_without_a_champion_says_what_to_do(registry: Registry, package) -> None:
    registry.register(package(), aliases=["blue"])
    registry.register(package())
    with pytest.raises(RegistryError, match=r"digits has blue; make one: shipworthy promote digits:2$"):
        registry.version("digits")
    with pytest.raises(RegistryError, match=r"shipworthy promote digits:2 --alias green"):
        registry.version("digits@green")
    with pytest.raises(RegistryError, match="is no model of this registry; did you mean digits"):
        registry.version("iris:1")


def test_deleting_is_a_tombstone(registry: Registry, package, tmp_path: Path) -> None:
    folder = package()
    registry.register(folder)
    registry.register(folder, aliases=["champion"])
    with pytest.raises(RegistryError, match="is named by an alias: champion"):
        registry.delete("digits:2")
    event = registry.delete("digits:1", why="wrong data")
    assert (event.kind, event.version, event.why) == ("deleted", 1, "wrong data")
    assert registry.version("digits:1").deleted == event.at
    assert [version.number for version in registry.list_versions("digits")] == [2]
    assert [version.number for version in registry.list_versions("digits", deleted=True)] == [2, 1]
    with pytest.raises(RegistryError, match="was deleted on"):
        registry.delete("digits:1")
    for use in (registry.pull, registry.evidence, registry.report, registry.manifest):
        with pytest.raises(RegistryError, match="was deleted on"):
            use("digits:1")
    with pytest.raises(RegistryError, match="is deleted, so no alias can name it"):
        registry.promote("digits:1")
    assert registry.register(folder).number == 3, "numbers are not given twice"


def test_what_a_package_says(registry: Registry, package) -> None:
    registry.register(package(), aliases=["champion"])
    assert registry.evidence("digits").chosen == "onnxruntime-fp32"
    assert registry.manifest("digits").name == "digits"
    assert registry.report("digits") == (small_packages.STORED / "report.html").read_bytes()


def test_events_in_order(registry: Registry, package) -> None:
    assert (registry.newest_event(), registry.events_after(0), registry.history()) == (0, [], [])
    registry.register(package(), aliases=["champion"])
    registry.register(package("iris"))
    noted = registry.note("digits", "load-failed", version=1, why="no room", details={"host": "a"})
    assert isinstance(noted, Event)
    assert [event.number for event in registry.events_after(0)] == [1, 2, 3, 4]
    assert registry.events_after(3) == [noted]
    assert registry.newest_event() == 4
    assert [event.kind for event in registry.history("digits")] == ["load-failed", "alias-moved", "registered"]
    assert [event.number for event in registry.history(limit=2)] == [4, 3]
    assert registry.history("iris")[0].details == {"digest": registry.version("iris:1").digest}


def test_what_cannot_be_noted(registry: Registry, package) -> None:
    registry.register(package())
    for kind in ("registered", "alias-moved", "deleted", "Load failed", "", "x" * 65):
        with pytest.raises(RegistryError, match="is no kind of event"):
            registry.note("digits", kind)
    with pytest.raises(RegistryError, match="is no model"):
        registry.note("iris", "load-failed")
    with pytest.raises(RegistryError, match="is no version"):
        registry.note("digits", "load-failed", version=2)
    with pytest.raises(RegistryError, match="as JSON"):
        registry.note("digits", "load-failed", details={"p99": float("nan")})


def test_questions_about_unknown_models(registry: Registry) -> None:
    for ask in (registry.list_versions, registry.aliases, registry.history, registry.live, registry.rollback):
        with pytest.raises(RegistryError, match="is no model of this registry; it is empty"):
            ask("digits")
        with pytest.raises(RegistryError, match="is no name of a model"):
            ask("No Model")


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"why": "a\0b"}, "cannot be stored"),
        ({"why": "\ud800"}, "cannot be stored"),
        ({"why": 7}, "expected a text, got int"),
        ({"why": "one\ntwo"}, r"has the control character U\+000A; write one line"),
        ({"why": "\x1b[2Jgone"}, r"why: has the control character U\+001B"),
        ({"why": "\u202eeman"}, r"has the control character U\+202E"),
        ({"tags": {"a": "b\rc"}}, r"tag 'a': has the control character U\+000D"),
        ({"tags": {"a\x9b": "b"}}, r"a tag's name: has the control character U\+009B"),
        ({"why": "x" * 10_001}, "at most 10000"),
        ({"tags": {"": "x"}}, "is empty"),
        ({"tags": {"a": 7}}, "expected a text"),
        ({"tags": {str(number): "" for number in range(101)}}, "at most 100"),
        ({"git_commit": "x" * 81}, "at most 80"),
        ({"push_id": "x" * 121}, "at most 120"),
    ],
)
def test_words_that_cannot_be_stored(registry: Registry, package, said: dict[str, object], match: str) -> None:
    with pytest.raises(RegistryError, match=match):
        registry.register(package(), **said)
    assert registry.newest_event() == 0


def test_who_is_one_line(folder: Path) -> None:
    with pytest.raises(RegistryError, match=r"who: has the control character U\+000A"):
        Registry(folder, who="ada\nerror: ")


def test_what_programs_note_is_made_one_line(registry: Registry, package) -> None:
    registry.register(package())
    noted = registry.note("digits", "load-failed", why="Traceback:\n  \x1b[31mline 3\x1b[0m\n")
    assert noted.why == "Traceback: [31mline 3 [0m"


def test_what_belongs_to_a_version(registry: Registry, package) -> None:
    folder = package()
    for parent in (None, 1, 2, 2, 1, 5):
        registry.register(folder, parent=parent)
    six, two = registry.version("digits:6"), registry.version("digits:2")
    assert registry.ancestors(six, limit=9) == [5, 1]
    assert registry.ancestors(six, limit=1) == [5]
    assert registry.children(two, limit=9) == [4, 3]
    assert registry.children(two, limit=1) == [4]
    registry.delete("digits:3")
    assert registry.counted("digits") == (6, 1)


def test_other_wrong_use(registry: Registry, package) -> None:
    registry.register(package())
    with pytest.raises(RegistryError, match="limit"):
        registry.history(limit=-1)
    with pytest.raises(RegistryError, match="has no time zone"):
        registry.live("digits", datetime(2026, 1, 1))
    with pytest.raises(RegistryError, match="not negative"):
        registry.gc(older_than=timedelta(seconds=-1))
    with pytest.raises(RegistryError, match="not negative, at most 36500 days"):
        registry.gc(older_than=timedelta(weeks=999_999))
    assert registry.history("digits", limit=0) == []


def test_who_and_from_which_commit(folder: Path, package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHIPWORTHY_USER")
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    packed = package()

    def git(*arguments: str) -> str:
        own = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(("git", *own, *arguments), check=True, capture_output=True, text=True).stdout.strip()

    with Registry(folder) as registry, Registry(folder, who="release bot") as bot:
        assert "@" in registry.register(packed).who
        assert registry.version("digits:1").git_commit is None
        git("init", "-q")
        assert bot.register(packed).who == "release bot"
        assert registry.version("digits:2").git_commit is None, "there is no commit yet"
        (project / "train.py").write_text("x = 1\n")
        git("add", "train.py")
        git("commit", "-q", "-m", "first")
        assert registry.register(packed).git_commit == git("rev-parse", "HEAD")
        (project / "notes.txt").write_text("not tracked")
        assert registry.register(packed).git_commit == git("rev-parse", "HEAD")
        (project / "train.py").write_text("x = 2\n")
        below = project / "deep" / "er"
        below.mkdir(parents=True)
        monkeypatch.chdir(below)
        assert registry.register(packed).git_commit == git("rev-parse", "HEAD") + "+"
        monkeypatch.setenv("PATH", "")
        assert registry.register(packed).git_commit is None, "git is not needed"
        assert registry.register(packed, git_commit="given").git_commit == "given"
