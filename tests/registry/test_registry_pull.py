"""Packages come out of a registry byte for byte, and a damaged file is never handed out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import small_packages

from shipworthy.errors import RegistryError, TamperedPackage
from shipworthy.package import read_package, write_ship
from shipworthy.registry import Registry, reading
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
