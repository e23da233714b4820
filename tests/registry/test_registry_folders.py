"""Blobs in a folder: whole under their names or not there, whatever happens while they are written and looked at."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from shipworthy.errors import RegistryError
from shipworthy.registry import blobs as module
from shipworthy.registry.blobs import Blobs

CONTENT = b"content"
SHA256, SIZE = hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(str(tmp_path / "blobs"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "content").write_bytes(CONTENT)
    return tmp_path / "content"


def test_what_is_freed_while_it_is_looked_at(blobs: Blobs, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`gc` removes it between the look at its size and that at its bytes."""
    blobs.put(SHA256, SIZE, file)
    read = module._hash

    def late(found: Path, kind: str) -> str:
        found.unlink()
        return read(found, kind)

    monkeypatch.setattr(module, "_hash", late)
    assert blobs.put(SHA256, SIZE, file) is True, "it is stored again"
    assert blobs.has(SHA256, SIZE)


def test_a_folder_that_has_the_name_of_a_blob(blobs: Blobs, file: Path, tmp_path: Path) -> None:
    there = Path(blobs.path(SHA256))
    there.mkdir(parents=True)
    with pytest.raises(RegistryError, match="Is a directory"):
        blobs.put(SHA256, SIZE, file)
    assert list(there.iterdir()) == [], "nothing is put into it"
    assert list((tmp_path / "blobs" / "parts").iterdir()) == []


def test_a_name_that_cannot_be_given(blobs: Blobs, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy under the final name would be half a blob for a while, and for ever where the process ends."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", refused)
    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(RegistryError, match="Invalid cross-device link"):
        blobs.put(SHA256, SIZE, file)
    assert not Path(blobs.path(SHA256)).exists() and list(blobs.listing()) == []


def test_a_folder_has_no_half_blob(blobs: Blobs, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RegistryError, match="No space left on device"):
        blobs.put(SHA256, SIZE, file)
    assert list(blobs.listing()) == [] and not blobs.has(SHA256, SIZE)
