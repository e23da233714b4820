"""Packages that are loaded, replaced and taken out while a server answers."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from lifecycle_cases import BODY, JSON, Load, replace_package, resident_mb, serving, spoil, until, version_of

from shipworthy.errors import PackageError, ServeError, TamperedPackage
from shipworthy.server import Server


@pytest.fixture
def versions(stored: Path, tmp_path: Path) -> list[Path]:
    """Two versions of a package."""
    return [version_of(stored, tmp_path / f"version-{second}", second) for second in (1, 2)]


@pytest.fixture
def place(versions: list[Path], tmp_path: Path) -> Path:
    """Where the package is that the server was given; it can be replaced."""
    place = tmp_path / "iris"
    place.symlink_to(versions[0])
    return place


@pytest.fixture
def server(place: Path) -> Iterator[Server]:
    with Server(place, port=0) as running:
        yield running


def version(server: Server) -> object:
    return httpx.post(server.url + "/predict", content=BODY, headers=JSON).json()["version"]


def port(server: Server) -> int:
    return int(server.url.rsplit(":", 1)[1])


def test_hot_reload_under_load_fails_no_request(
    server: Server, place: Path, versions: list[Path], effort: float
) -> None:
    seen = {version(server)}
    with Load(port(server)) as load:
        for turn in range(1, max(5, round(100 * effort)) + 1):
            replace_package(place, versions[turn % 2])
            server.load("iris")
            seen.add(version(server))
    assert set(load.outcomes) == {200}
    assert load.outcomes[200] > 50
    assert len(seen) == 2


def test_what_is_refused_leaves_what_is_served(server: Server, place: Path, stored: Path, tmp_path: Path) -> None:
    before = version(server)
    spoilt = version_of(stored, tmp_path / "spoilt", 3)
    spoil(spoilt)
    replace_package(place, spoilt)
    with pytest.raises(TamperedPackage, match=r"model\.onnx"):
        server.load("iris")
    assert version(server) == before
    replace_package(place, version_of(stored, tmp_path / "mended", 4))
    server.load("iris")
    assert version(server) != before


def test_a_path_that_is_refused_stays_known_where_it_was_before(
    server: Server, place: Path, stored: Path, tmp_path: Path
) -> None:
    before = version(server)
    spoil(spoilt := version_of(stored, tmp_path / "spoilt", 3))
    replace_package(place, spoilt)
    with pytest.raises(TamperedPackage):
        server.load(place)
    replace_package(place, version_of(stored, tmp_path / "mended", 4))
    server.load("iris")
    assert version(server) != before


def test_a_package_at_another_path_becomes_the_current_version(server: Server, versions: list[Path]) -> None:
    before = version(server)
    server.load(versions[1])
    assert version(server) != before
    assert [served.model for served in server.served] == ["iris", "iris"]
    described = httpx.get(server.url + "/models/iris").json()
    assert described["versions"] == [before, version(server)] and described["version"] == version(server)
    old = httpx.post(f"{server.url}/models/iris/versions/{before}/predict", content=BODY, headers=JSON)
    assert old.json()["version"] == before


def test_two_versions_of_one_name_at_the_start(versions: list[Path]) -> None:
    with Server(versions, port=0) as server:
        assert [served.version for served in server.served][-1] == version(server)
        assert len({served.version for served in server.served}) == 2


def test_unload_and_load(server: Server) -> None:
    server.unload("iris")
    assert server.served == ()
    assert httpx.get(server.url + "/readyz").status_code == 200
    assert httpx.post(server.url + "/models/iris/predict", content=BODY, headers=JSON).status_code == 404
    assert httpx.post(server.url + "/predict", content=BODY, headers=JSON).json()["detail"] == "there is no model"
    with pytest.raises(ServeError, match="no model 'iris'"):
        server.unload("iris")
    server.load("iris")
    assert version(server) == server.served[0].version


@pytest.mark.parametrize("name", ["roses", "../iris", "", "iris\0", "version-2"])
def test_load_finds_names_and_no_paths(server: Server, name: str) -> None:
    with pytest.raises((ServeError, PackageError)):
        server.load(name)
    assert len(server.served) == 1


def test_a_server_that_does_not_run_loads_nothing(stored: Path) -> None:
    server = Server(stored, port=0)
    with pytest.raises(ServeError, match="does not run"):
        server.load("iris")
    server.start()
    server.stop()
    with pytest.raises(ServeError, match="does not run"):
        server.unload("iris")


def test_a_repository(stored: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    version_of(stored, folder / "b", 1)
    (folder / "notes.txt").write_text("no package")
    with Server(repository=folder, port=0) as server:
        first = version(server)
        version_of(stored, folder / "a", 2)
        version_of(stored, folder / "c", 3, name="lilies")
        server.load("iris")
        assert version(server) != first, "the newest is current"
        assert {served.model for served in server.served} == {"iris"}
        server.load("lilies")
        assert {served.model for served in server.served} == {"iris", "lilies"}


def test_a_reload_finds_new_models_also_where_none_is_served(stored: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    version_of(stored, folder / "a", 1)
    with Server(repository=folder, port=0) as server:
        server.unload("iris")
        version_of(stored, folder / "b", 2, name="lilies")
        assert not reload(server)
        assert {served.model for served in server.served} == {"lilies"}, "what was taken out stays out"
        (folder / "a").rename(tmp_path / "a")
        folder.rename(tmp_path / "elsewhere")
        (failure, other) = reload(server)
        assert "cannot be read" in str(failure) and "cannot be read" in str(other)
        assert {served.model for served in server.served} == {"lilies"}


def reload(server: Server) -> list[Exception]:
    """As SIGHUP does, which a server in a thread does not get."""
    assert server._running is not None
    loop, process = server._running
    return asyncio.run_coroutine_threadsafe(process.reload(), loop).result(30)


def test_a_repository_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="is no folder"), Server(repository=tmp_path / "none", port=0):
        pytest.fail("it serves nothing")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_memory_returns_to_its_level_after_many_reloads(place: Path, versions: list[Path], effort: float) -> None:
    with serving(place) as server:
        current = server.ask()[1]["version"]

        def reload(turn: int) -> None:
            nonlocal current
            before = current
            replace_package(place, versions[turn % 2])
            server.signal(signal.SIGHUP)

            def changed() -> bool:
                nonlocal current
                current = server.ask()[1]["version"]
                return current != before

            until(changed)

        for turn in range(1, 6):
            reload(turn)
        level = resident_mb(server.pid)
        for turn in range(6, 6 + max(15, round(100 * effort))):
            reload(turn)
        assert resident_mb(server.pid) < level + 8
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
