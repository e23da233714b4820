"""The command line as it is typed, and a registry with three versions."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_cases import Run, evidence, package

from shipworthy.cli import main
from shipworthy.contract import Limits
from shipworthy.registry import Registry

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))

import postgres_server


@pytest.fixture
def database() -> Iterator[str]:
    """An empty one on a PostgreSQL server of its own."""
    missing = postgres_server.missing()
    if missing is not None:
        pytest.skip(missing)
    with postgres_server.running() as server:
        yield server.new_database()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shipworthy", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return call


@pytest.fixture(scope="session")
def ships(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three packages of one model: the first is the worst, the second the best, the third is under another contract."""
    folder = tmp_path_factory.mktemp("ships")
    return [
        package(folder / "first.ship", evidence(0.9815, 0.0527)),
        package(folder / "second.ship", evidence(0.9926, 0.0361, (1, 8, 32))),
        package(folder / "third.ship", evidence(0.9889, 0.0361), limits=Limits(p99_ms=30.0, size_mb=1.0)),
    ]


@pytest.fixture(scope="session")
def prepared(ships: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with digits:1 (champion), digits:2 (challenger, made from it) and digits:3."""
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
