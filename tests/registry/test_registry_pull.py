"""Packages come out of a registry byte for byte, and a damaged file is never handed out."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

import pytest
import small_packages
from typer.testing import CliRunner

from shipworthy.cli.app import app
from shipworthy.errors import RegistryError, TamperedPackage
from shipworthy.package import read_package, write_ship
from shipworthy.registry import Registry, cache, reading
from shipworthy.registry.cache import cache_folder


@pytest.fixture
def filled(registry: Registry, package) -> Registry:
    registry.register(package(), aliases=["champion"])
    return registry


def blob_of(registry: Registry, path: str) -> Path:
    entry = registry.manifest("digits").files[path]
    return Path(registry.blobs.path(entry.sha256))


def test_the_same_file_as_was_built(registry: Registry, package, tmp_path: Path) -> None:
    folder = package()
    registry.register(folder)
    built = write_ship(folder, tmp_path / "built.ship")
    pulled = registry.pull("digits:1")
    assert pulled.read_bytes() == built.read_bytes()
    assert pulled.parent == cache_folder() == tmp_path / "cache" / "shipworthy" / "packages"
    with read_package(pulled) as opened:
        assert opened.digest == small_packages.digest_of(folder)


def test_where_it_is_written(filled: Registry, tmp_path: Path) -> None:
    assert filled.pull("digits", tmp_path / "mine.ship") == tmp_path / "mine.ship"
    assert filled.pull("digits", tmp_path) == tmp_path / "digits-1.ship"
    assert filled.pull("digits", tmp_path / "deep" / "er.ship").is_file()
    assert (tmp_path / "mine.ship").read_bytes() == (tmp_path / "digits-1.ship").read_bytes()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RegistryError, match="cannot be written"):
        filled.pull("digits", tmp_path / "file" / "x.ship")


def test_the_cache_is_used(filled: Registry) -> None:
    first = filled.pull("digits")
    blob_of(filled, "card.md").unlink()
    assert filled.pull("digits") == first
    first.unlink()
    with pytest.raises(RegistryError, match="is missing; restore it from a backup"):
        filled.pull("digits")
    assert list(cache_folder().iterdir()) == [], "no part is left"


@pytest.mark.parametrize("damage", ["cut", "byte", "empty", "other"])
def test_a_damaged_cached_file_is_pulled_again(filled: Registry, damage: str, package, tmp_path: Path) -> None:
    file = filled.pull("digits")
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "byte":
        file.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        write_ship(package("iris"), file)
    assert filled.pull("digits") == file
    assert file.read_bytes() == content


@pytest.mark.parametrize("path", ["card.md", "evidence.json", "variants/onnxruntime-fp32/model.onnx", "manifest.json"])
@pytest.mark.parametrize("damage", ["byte", "cut", "longer"])
def test_a_blob_that_was_changed_is_found(filled: Registry, path: str, damage: str, tmp_path: Path) -> None:
    version = filled.version("digits")
    blob = Path(filled.blobs.path(version.digest)) if path == "manifest.json" else blob_of(filled, path)
    content = blob.read_bytes()
    changed = {"byte": bytes([content[0] ^ 1]) + content[1:], "cut": content[:-1], "longer": content + b"x"}[damage]
    blob.write_bytes(changed)
    with pytest.raises(TamperedPackage, match=blob.name):
        filled.pull("digits")
    with pytest.raises(TamperedPackage, match="does not have the bytes that its name says"):
        filled.pull("digits", tmp_path / "out.ship")
    assert not (tmp_path / "out.ship").exists()
    if path == "evidence.json":
        with pytest.raises(TamperedPackage, match=blob.name):
            filled.evidence("digits")


def test_what_was_damaged_is_mended_by_another_push(filled: Registry, package) -> None:
    """Of the same size, so that only its bytes tell."""
    for blob in filled.blobs.listing():
        content = Path(blob.path).read_bytes()
        Path(blob.path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if content else content)
    with pytest.raises(TamperedPackage):
        filled.pull("digits:1")
    filled.register(package(card="another"), aliases=["champion"])
    assert filled.pull("digits").is_file(), "what both have in common is whole again"
    with pytest.raises(TamperedPackage):
        filled.pull("digits:1")
    filled.register(package())
    assert filled.pull("digits:1").is_file()
    assert list((Path(filled.blobs.url) / "parts").iterdir()) == []


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["pull", *map(str, arguments)])
    return result.exit_code, result.output if result.exception is None else str(result.exception)


def test_a_file_that_is_there_is_not_overwritten(filled: Registry, tmp_path: Path, monkeypatch, package) -> None:
    filled.register(package(card="another"))
    option, notes = ("--registry", filled.url), tmp_path / "notes.txt"
    notes.write_text("mine")
    code, told = run("digits:1", notes, *option)
    assert code != 0 and "is there already, and is not digits:1; give another name, or write over it: --force" in told
    assert notes.read_text() == "mine"
    assert run("digits:1", notes, "--force", *option) == (0, f"wrote {notes}, which is digits:1\n")
    whole, written = notes.read_bytes(), notes.stat().st_mtime_ns
    assert run("digits:1", notes, *option) == (0, f"{notes} is digits:1 already\n")
    assert notes.stat().st_mtime_ns == written
    assert "is not digits:2" in run("digits:2", notes, *option)[1]
    assert notes.read_bytes() == whole
    nowhere = tmp_path / "link"
    nowhere.symlink_to(tmp_path / "missing")
    assert "is there already" in run("digits:1", nowhere, *option)[1]
    assert nowhere.is_symlink()
    monkeypatch.chdir(tmp_path)
    Path("digits-1.ship").write_text("mine")
    assert "digits-1.ship: is there already" in run("digits:1", *option)[1]
    assert "digits-1.ship: is there already" in run("digits:1", ".", *option)[1]


def test_a_file_that_may_not_be_read(filled: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filecmp, "cmp", refused)
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    code, told = run("digits:1", notes, "--registry", filled.url)
    assert code != 0 and f"{notes}: is there already, and cannot be read: Permission denied; give another" in told
    assert notes.read_text() == "mine"


def test_what_is_no_file_is_not_replaced(filled: Registry, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for forced in ((), ("--force",)):
        code, told = run("digits", pipe, *forced, "--registry", filled.url)
        assert code != 0 and "is no plain file; give the name of a file" in told
    with pytest.raises(RegistryError, match="is no plain file"):
        filled.pull("digits", pipe)
    assert pipe.is_fifo()


def test_a_slash_means_a_folder(filled: Registry, tmp_path: Path) -> None:
    option = ("--registry", filled.url)
    code, told = run("digits", f"{tmp_path}/new/", *option)
    assert code != 0 and "new/: is no folder; make it first: mkdir -p" in told
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").mkdir()
    assert run("digits", f"{tmp_path}/new/", *option)[0] == 0
    assert (tmp_path / "new" / "digits-1.ship").is_file()
    assert "cannot be written: File name too long" in run("digits", tmp_path / ("x" * 300), *option)[1]


def test_rows_that_were_changed_are_found(filled: Registry) -> None:
    with filled.database.write() as connection:
        connection.exec_driver_sql("UPDATE package_blobs SET path = 'cards.md' WHERE path = 'card.md'")
    with pytest.raises(TamperedPackage, match=r"card\.md"):
        filled.pull("digits")
    assert list(cache_folder().iterdir()) == []


def test_evidence_of_a_newer_version(registry: Registry, package, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.register(package(), aliases=["champion"])
    monkeypatch.setattr(reading, "read_member", lambda *_: b'{"name": "digits", "what is new": 1}')
    with pytest.raises(RegistryError, match=r"digits:1/evidence.json: .*; update shipworthy"):
        registry.evidence("digits")


def test_the_cache_is_the_users_own(filled: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "shipworthy" / "packages"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "card.md"))
    (tmp_path / "card.md").write_text("no folder")
    with pytest.raises(RegistryError, match="cannot be written"):
        filled.pull("digits")
    assert os.environ["XDG_CACHE_HOME"]


def test_a_user_without_a_home(filled: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number which no user has."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(RegistryError, match=r"the cache of packages: has no place: .* home .*; set XDG_CACHE_HOME"):
        filled.pull("digits")
    assert filled.pull("digits", tmp_path / "mine.ship").is_file(), "which needs no cache"


def test_a_cache_that_may_not_be_used(filled: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/" + "x" * 300)
    with pytest.raises(RegistryError, match=r"cannot be written: File name too long; .* set XDG_CACHE_HOME to another"):
        filled.pull("digits")


def test_a_cache_that_is_emptied_at_any_time(filled: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    file = filled.pull("digits")
    check, emptied = cache.check, []

    def late(found: Path, digest: str) -> None:
        if not emptied:
            emptied.append(found)
            found.unlink()
            raise FileNotFoundError(2, "No such file or directory")
        check(found, digest)

    monkeypatch.setattr(cache, "check", late)
    assert filled.pull("digits") == file and file.is_file()
    assert emptied == [file]
