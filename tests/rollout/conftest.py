"""A registry to be served from, and a PostgreSQL server where the host has one."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))
sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

import postgres_server


@pytest.fixture(scope="session", autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Servers note what they try, and nothing of that is the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A registry whose versions can be served, to be copied, and the folder in which its packages were made."""
    from following_cases import make_registry

    folder, work = tmp_path_factory.mktemp("iris") / "registry", tmp_path_factory.mktemp("packages")
    make_registry(folder, work)
    return folder, work


@pytest.fixture
def folder(iris: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that registry."""
    from following_cases import be_private

    be_private(monkeypatch, tmp_path / "cache")
    return shutil.copytree(iris[0], tmp_path / "registry")


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Server]:
    """A server of its own; each test makes a database in it."""
    missing = postgres_server.missing()
    if missing is not None:
        pytest.skip(missing)
    with postgres_server.running() as server:
        yield server
