"""A registry that is backed up as docs/registry.md says, and restored, is whole."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from registry_cases import evidence, package

from shipworthy.registry import Registry

PAGE = (Path(__file__).parents[2] / "docs" / "registry.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## Back it up\n")[2].partition("\n## ")[0]
TEAM = "postgresql://ships@db.example/registry"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with two packages."""
    package(tmp_path / "digits.ship", evidence(0.9815, 0.0527))
    package(tmp_path / "digits-october.ship", evidence(0.9926, 0.0361))
    return tmp_path


def scripts() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", SECTION, flags=re.DOTALL)


def run_script(script: str, folder: Path) -> None:
    found = [str(path.parent) for path in Path("/usr/lib/postgresql").glob("*/bin/pg_dump")]
    path = os.pathsep.join([*found, str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-euc", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), script


def test_the_backup_of_the_page_is_whole(shop: Path) -> None:
    """While the registry is in use, so that its last versions are in SQLite's log alone."""
    folder, sqlite, *_ = scripts()[0], *re.findall(r"`(sqlite3 [^`]*)`", SECTION)
    with Registry(shop / "registry") as registry:
        registry.register(shop / "digits.ship", aliases=["champion"], git_commit="")
        with closing(sqlite3.connect(f"file:{shop}/registry/registry.db?immutable=1", uri=True)) as alone:
            assert alone.execute("SELECT name FROM sqlite_master").fetchall() == [], "a copy of it alone lacks it"
        run_script(folder, shop)
        registry.register(shop / "digits-october.ship", aliases=["champion"], git_commit="")
    assert_restored(str(shop / "backup"), shop)
    if shutil.which("sqlite3") is not None:
        (shop / "backup" / "registry.db").unlink()
        run_script(" ".join(sqlite.split()), shop)
        with Registry(shop / "backup", create=False) as again:
            assert again.aliases("digits") == {"champion": 2}


@pytest.mark.full
def test_the_dump_of_the_page_is_whole(shop: Path, database: str) -> None:
    _, dump, restore = scripts()
    (shop / "backup").mkdir()
    with Registry(database, artifacts=str(shop / "files")) as registry:
        registry.register(shop / "digits.ship", aliases=["champion"], git_commit="")
        run_script(dump.replace(TEAM, database), shop)
        registry.register(shop / "digits-october.ship", aliases=["champion"], git_commit="")
        with registry.database.write() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
    run_script(restore.replace(TEAM, database), shop)
    assert_restored(database, shop)


def assert_restored(url: str, folder: Path) -> None:
    """The first version is there as it was pushed, and others can follow."""
    with Registry(url, create=False) as restored:
        assert restored.aliases("digits") == {"champion": 1}
        restored.pull("digits:1", folder / "restored.ship")
        assert (folder / "restored.ship").read_bytes() == (folder / "digits.ship").read_bytes()
        assert restored.register(folder / "digits-october.ship", git_commit="").name == "digits:2"
