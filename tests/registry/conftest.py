"""Small packages, a registry to begin with, and a PostgreSQL server where the host has one."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shipworthy.registry import Registry

sys.path.insert(0, str(Path(__file__).parent))

import postgres_server
import small_packages

MakePackage = Callable[..., Path]


@pytest.fixture(autouse=True)
def _private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own: no cache, no registry, no name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SHIPWORTHY_REGISTRY", str(tmp_path / "default-registry"))
    monkeypatch.setenv("SHIPWORTHY_USER", "tester")


@pytest.fixture
def package(tmp_path: Path) -> MakePackage:
    """Make a package as a folder: the stored one, with another name, card and evidence."""

    def make(name: str = "digits", card: str = "a card", **evidence: object) -> Path:
        folder = tmp_path / "packages" / f"{name}-{len(list(tmp_path.glob('packages/*')))}"
        return small_packages.make(folder, name=name, card=card, **evidence)

    return make


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty") / "registry"
    Registry(folder, who="tester").close()
    return folder


@pytest.fixture
def folder(empty_registry: Path, tmp_path: Path) -> Path:
    """The folder of a new registry, without the time that migrations take."""
    return Path(shutil.copytree(empty_registry, tmp_path / "registry"))


@pytest.fixture
def registry(folder: Path) -> Iterator[Registry]:
    with Registry(folder) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Server]:
    """A server of its own; each test makes a database in it."""
    missing = postgres_server.missing()
    if missing is not None:
        pytest.skip(missing)
    with postgres_server.running() as server:
        yield server
