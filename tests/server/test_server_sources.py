"""Where packages are found: by the names that they give themselves, whatever is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shipworthy.errors import PackageError, ServeError, ShipworthyError, TamperedPackage
from shipworthy.package import read_label
from shipworthy.server.problems import ProblemError
from shipworthy.server.routing import Offered
from shipworthy.server.sources import Sources


class Opened:
    """What stands for predictors: which paths were opened, and which of them were closed again."""

    def __init__(self, refused: Path | None = None) -> None:
        self.paths: list[Path] = []
        self.closed: list[Path] = []
        self._refused = refused

    def __call__(self, path: Path) -> Any:
        if path == self._refused:
            raise PackageError(str(path), "is refused")
        self.paths.append(path)
        label = read_label(path)
        closed = self.closed

        class Predictor(SimpleNamespace):
            def __enter__(self) -> Predictor:
                return self

            def __exit__(self, *given: object) -> None:
                closed.append(path)

        return Predictor(version=label.version, name=label.name)


@pytest.fixture
def copies(stored: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with one package."""
    folder = tmp_path / "repository"
    folder.mkdir()
    shutil.copy(stored, folder / "any-name.ship")
    return folder  # type: ignore[return-value]


def test_the_names_are_those_of_the_manifests(copies: Path) -> None:
    opened = Opened()
    sources = Sources([], repository=copies, open_package=opened)
    assert [predictor.name for predictor in sources.open_all(lambda: False)] == ["iris"]
    assert sources.names() == ("iris",)
    assert opened.closed == []


@pytest.mark.parametrize(
    "name", ["any-name", "any-name.ship", "../repository/any-name.ship", "/etc/passwd", "", "IRIS"]
)
def test_no_other_name_is_found(name: str, copies: Path) -> None:
    opened = Opened()
    sources = Sources([], repository=copies, open_package=opened)
    with pytest.raises(ProblemError, match="has no package of the name"):
        sources.open(name, served=())
    assert opened.paths == []


def test_what_is_served_is_not_opened_again(copies: Path) -> None:
    opened = Opened()
    sources = Sources([], repository=copies, open_package=opened)
    version = read_label(copies / "any-name.ship").version
    found = sources.open("iris", served={version})
    assert (found.versions, found.opened, opened.paths) == ((version,), (), [])


def test_a_refused_package_closes_those_before_it(stored: Path, copies: Path) -> None:
    opened = Opened(refused=copies / "any-name.ship")
    sources = Sources([stored], repository=copies, open_package=opened)
    with pytest.raises(PackageError, match="is refused"):
        sources.open_all(lambda: False)
    assert opened.closed == [stored]


def test_nothing_is_kept_open_that_is_no_longer_wanted(stored: Path, copies: Path) -> None:
    opened = Opened()
    sources = Sources([stored], repository=copies, open_package=opened)
    assert sources.open_all(lambda: len(opened.paths) == 1) == []
    assert opened.closed == [stored]


def test_files_of_the_folder_that_are_no_packages_are_passed_over(copies: Path) -> None:
    (copies / "half.ship").write_bytes((copies / "any-name.ship").read_bytes()[:1000])
    (copies / "notes.txt").write_text("not a package")
    (copies / ".hidden.ship").write_text("not looked at")
    sources = Sources([], repository=copies, open_package=Opened())
    assert len(sources.open_all(lambda: False)) == 1


def test_a_broken_package_stops_only_its_own_name(stored: Path, tmp_path: Path) -> None:
    own, other = tmp_path / "own.ship", tmp_path / "other.ship"
    shutil.copy(stored, own)
    shutil.copy(stored, other)
    sources = Sources([own, other], open_package=Opened())
    sources.open_all(lambda: False)
    sources._known[other] = "other"
    other.write_bytes(b"broken")
    assert len(sources.open("iris", served=()).opened) == 1
    with pytest.raises((TamperedPackage, PackageError)):
        sources.open("other", served=())


def test_a_file_that_becomes_a_version_that_is_served_keeps_that(copies: Path) -> None:
    """It was replaced between the look at its label and its opening."""
    opened = Opened()

    class Other(SimpleNamespace):
        def __enter__(self) -> Other:
            return self

        def __exit__(self, *given: object) -> None: ...

        def close(self) -> None:
            opened.closed.append(copies)

    other: Any = Other(version="served")
    sources = Sources([], repository=copies, open_package=lambda path: other)
    found = sources.open("iris", served={"served"})
    assert (found.versions, found.opened, opened.closed) == (("served",), (), [copies])


def test_what_was_taken_from_the_folder_is_known_no_longer(stored: Path, copies: Path) -> None:
    own = copies.parent / "own.ship"
    shutil.copy(stored, own)
    sources = Sources([own], repository=copies, open_package=Opened())
    sources.open_all(lambda: False)
    sources._known[copies / "any-name.ship"] = sources._known[copies / "gone.ship"] = "roses"
    sources.open("iris", served=())
    assert sources.names() == ("iris",)
    own.write_bytes(b"broken")
    sources._known[own] = "lilies"
    sources.open("iris", served=())
    assert sources.names() == ("lilies", "iris"), "one of the operator's own keeps the name that it had"


def test_a_folder_that_has_gone_is_said(copies: Path) -> None:
    sources = Sources([], repository=copies, open_package=Opened())
    copies.rename(copies.with_name("elsewhere"))
    with pytest.raises(ServeError, match="cannot be read"):
        sources.open("iris", served=())


class Registered:
    """An upstream that offers a spare version before the current one, and opens what it offers."""

    names = ("roses",)

    def __init__(self, *, refuses: str = "") -> None:
        self.seen: list[str] = []
        self._refuses = refuses

    def offered(self, name: str) -> Sequence[Offered]:
        return [Offered("2", Path("2"), spare=True), Offered("1", Path("1"))]

    @contextmanager
    def trying(self, name: str, version: str) -> Iterator[None]:
        self.seen.append(f"try {name}:{version}")
        try:
            yield
        finally:
            self.seen.append(f"tried {version}")

    def refused(self, name: str, version: str, error: ShipworthyError) -> None:
        self.seen.append(f"refused {version}")

    def open(self, path: Path, *, version: str) -> Any:
        self.seen.append(f"open {version}")
        if version == self._refuses:
            raise PackageError(version, "is refused")

        class Predictor(SimpleNamespace):
            def __enter__(self) -> Predictor:
                return self

            def __exit__(self, *given: object) -> None:
                return None

        return Predictor(version=version)


TRIED = ["try roses:2", "open 2", "tried 2"]


def test_a_spare_version_is_opened_last_and_is_not_the_current_one() -> None:
    """It may end the process."""
    upstream = Registered()
    sources = Sources([], upstream=upstream, open_package=upstream.open)
    assert [one.version for one in sources.open_all(lambda: False)] == ["2", "1"]
    assert upstream.seen == ["open 1", *TRIED]
    upstream.seen.clear()
    found = sources.open("roses", served=("1",))
    assert (found.versions, len(found.opened), upstream.seen) == (("2", "1"), 1, TRIED)
    upstream.seen.clear()
    assert sources.open_all(lambda: bool(upstream.seen)) == [] and upstream.seen == ["open 1"]


def test_a_spare_version_that_is_refused_is_done_without() -> None:
    upstream = Registered(refuses="2")
    sources = Sources([], upstream=upstream, open_package=upstream.open)
    assert sources.open("roses", served=()).versions == ("1",)
    assert upstream.seen == ["open 1", *TRIED, "refused 2"]


def test_no_spare_version_is_tried_for_a_model_that_is_refused() -> None:
    upstream = Registered(refuses="1")
    sources = Sources([], upstream=upstream, open_package=upstream.open)
    with pytest.raises(PackageError, match="is refused"):
        sources.open_all(lambda: False)
    assert upstream.seen == ["open 1", "refused 1"]


def test_a_repository_that_is_no_folder() -> None:
    with pytest.raises(ServeError, match="is no folder"):
        Sources([], repository="/nowhere/at/all", open_package=Opened())
