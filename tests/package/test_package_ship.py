"""The `.ship` file: one canonical zip, and every other zip refused."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shipworthy.errors import PackageError, TamperedPackage
from shipworthy.package import read_package, write_ship
from shipworthy.package.audit import audit, open_tree
from shipworthy.package.ship import ShipFile, ShipWriter


def canonical(members: dict[str, bytes]) -> bytes:
    """The members as this project writes them, in the given order."""
    out = io.BytesIO()
    writer = ShipWriter(out)
    for name, content in members.items():
        writer.add(name, len(content), iter([content]))
    writer.finish()
    return out.getvalue()


def zipped(members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda info: None) -> bytes:
    """The members as the standard library writes them, each header changed by `change`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100644 << 16
            change(info)
            archive.writestr(info, content)
    return out.getvalue()


@pytest.fixture(scope="module")
def tree(stored: Path) -> dict[str, bytes]:
    files = sorted(path for path in stored.rglob("*") if path.is_file())
    return dict(sorted((path.relative_to(stored).as_posix(), path.read_bytes()) for path in files))


def opened(content: bytes, folder: Path) -> None:
    ship = folder / "some.ship"
    ship.write_bytes(content)
    with open_tree(ship) as tree:
        audit(tree)


def test_same_package_gives_the_same_file(stored: Path, stored_ship: Path, tmp_path: Path) -> None:
    assert write_ship(stored, tmp_path / "again.ship").read_bytes() == stored_ship.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.ship"]


def test_common_zip_tools_read_it(stored_ship: Path, tree: dict[str, bytes]) -> None:
    with zipfile.ZipFile(stored_ship) as archive:
        assert archive.testzip() is None
        assert {info.filename: archive.read(info) for info in archive.infolist()} == tree


def test_a_canonical_zip_from_another_tool_is_the_same_file(
    stored_ship: Path, tree: dict[str, bytes], tmp_path: Path
) -> None:
    content = zipped(tree)
    assert content == stored_ship.read_bytes()
    opened(content, tmp_path)


def compressed(info: zipfile.ZipInfo) -> None:
    info.compress_type = zipfile.ZIP_DEFLATED


def dated(info: zipfile.ZipInfo) -> None:
    info.date_time = (2026, 1, 1, 0, 0, 0)


def linked(info: zipfile.ZipInfo) -> None:
    info.external_attr = 0o120777 << 16


def executable(info: zipfile.ZipInfo) -> None:
    info.external_attr = 0o100755 << 16


def commented(info: zipfile.ZipInfo) -> None:
    info.comment = b"hello"


def extended(info: zipfile.ZipInfo) -> None:
    info.extra = b"\x99\x99\x02\x00ab"


def utf8(info: zipfile.ZipInfo) -> None:
    info.create_system = 0


@pytest.mark.parametrize("change", [compressed, dated, linked, executable, commented, extended, utf8])
def test_headers_that_are_not_canonical_are_refused(
    change: Callable[[zipfile.ZipInfo], None], tree: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(TamperedPackage, match=r"some\.ship"):
        opened(zipped(tree, change), tmp_path)


def test_bytes_around_the_members_are_refused(stored_ship: Path, tmp_path: Path) -> None:
    content = stored_ship.read_bytes()
    for changed in (b"#!/bin/sh\n" + content, content + b"\0", content + content):
        with pytest.raises(TamperedPackage, match=r"some\.ship"):
            opened(changed, tmp_path)


def test_bytes_between_members_are_refused(tree: dict[str, bytes], tmp_path: Path) -> None:
    # Offsets and sizes of the directory are those of the file, so common tools read it.
    content = zipped(tree)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in tree.items():
            out.write(b"between")
            archive.start_dir = out.tell()
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)
    assert len(out.getvalue()) > len(content)
    with pytest.raises(TamperedPackage):
        opened(out.getvalue(), tmp_path)


def test_a_comment_behind_the_directory_is_refused(tree: dict[str, bytes], tmp_path: Path) -> None:
    out = io.BytesIO(zipped(tree))
    with zipfile.ZipFile(out, "a") as archive:
        archive.comment = b"hello"
    with pytest.raises(TamperedPackage):
        opened(out.getvalue(), tmp_path)


def test_unsorted_members_are_refused(tree: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(TamperedPackage, match="order"):
        opened(canonical(dict(reversed(tree.items()))), tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_is_refused(tree: dict[str, bytes], tmp_path: Path) -> None:
    out = io.BytesIO()
    writer = ShipWriter(out)
    for name, content in tree.items():
        for _ in range(2 if name == "card.md" else 1):
            writer.add(name, len(content), iter([content]))
    writer.finish()
    with pytest.raises(TamperedPackage, match=r"card\.md"):
        opened(out.getvalue(), tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "a/../../evil", "/etc/evil", "a//evil", "./evil", "a/./evil", "evil/", "a\\evil", "C:evil", "..",
        ".", ".hidden", "a/.hidden", "evil.", "evil ", "e vil", "ev\nil", "ev\0il", "ev\x7fil", "CARD.md", "Variants/x",
        "card.md/evil", "x" * 300, "a/" * 130 + "a",
    ],
)  # fmt: skip
def test_odd_names_are_refused(name: str, tree: dict[str, bytes], tmp_path: Path) -> None:
    members = dict(sorted({**tree, name: b"evil"}.items()))
    with pytest.raises(TamperedPackage) as caught:
        opened(canonical(members), tmp_path)
    assert "some.ship" in str(caught.value)
    assert str(caught.value).isprintable()


def test_names_beyond_ascii_are_refused(tree: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(TamperedPackage):
        opened(zipped({**tree, "éclair": b"evil"}), tmp_path)


def test_an_unlisted_member_is_refused(tree: dict[str, bytes], tmp_path: Path) -> None:
    members = dict(sorted({**tree, "extra": b"evil"}.items()))
    with pytest.raises(TamperedPackage, match=r"extra: is not listed"):
        opened(canonical(members), tmp_path)


def test_a_missing_member_is_refused(tree: dict[str, bytes], tmp_path: Path) -> None:
    for name in tree:
        members = {other: content for other, content in tree.items() if other != name}
        with pytest.raises(TamperedPackage, match=f"{name}: is missing"):
            opened(canonical(members), tmp_path)


def test_a_larger_member_is_refused_before_it_is_read(
    tree: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship = tmp_path / "some.ship"
    ship.write_bytes(canonical({**tree, "card.md": bytes(5_000_000)}))
    read: list[str] = []
    chunks = ShipFile.chunks
    monkeypatch.setattr(ShipFile, "chunks", lambda self, name: read.append(name) or chunks(self, name))
    with pytest.raises(TamperedPackage, match=r"card\.md: has 5000000 bytes"), open_tree(ship) as opened_tree:
        audit(opened_tree)
    assert "card.md" not in read


def test_an_oversized_manifest_is_refused_before_it_is_read(
    tree: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shipworthy.package.audit.MAX_MANIFEST", 1000)
    with pytest.raises(TamperedPackage, match=r"manifest\.json: has \d+ bytes, at most 1000"):
        opened(canonical(tree), tmp_path)


def test_an_empty_zip_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(TamperedPackage, match=r"manifest\.json: is missing"):
        opened(canonical({}), tmp_path)


def test_a_directory_of_nonsense_size_is_refused(tmp_path: Path) -> None:
    content = bytes(4000) + zipped({})[:12] + (4000).to_bytes(4, "little") + bytes(4) + bytes(2)
    with pytest.raises(TamperedPackage, match="end record"):
        opened(content, tmp_path)


def test_beyond_4_gib_is_refused_when_written() -> None:
    writer = ShipWriter(io.BytesIO())
    with pytest.raises(PackageError, match="4 GiB"):
        writer.add("variants/large", 1 << 32, iter([]))


def test_a_tampered_folder_never_becomes_a_ship(copy: Path, tmp_path: Path) -> None:
    (copy / "card.md").write_text("another")
    with pytest.raises(TamperedPackage, match=r"card\.md"):
        write_ship(copy, tmp_path / "never.ship")
    assert not list(tmp_path.glob("*.ship")) + list(tmp_path.glob(".*"))


def test_unpacked_members_are_private_and_removed(
    stored_ship: Path, tree: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with read_package(stored_ship) as package:
        assert package.root.parent == tmp_path
        assert package.root.stat().st_mode & 0o077 == 0
        files = [path for path in package.root.rglob("*") if path.is_file()]
        assert {path.relative_to(package.root).as_posix(): path.read_bytes() for path in files} == tree
    assert not list(tmp_path.iterdir())


def test_no_room_to_unpack(stored_ship: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *rest: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(PackageError, match=r"cannot be unpacked into .*: No space left on device; make room"):
        read_package(stored_ship)
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_refused_ship(
    tree: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship = tmp_path / "some.ship"
    members = {**tree, "report.html": tree["report.html"].replace(b"small", b"large")}
    ship.write_bytes(canonical(members))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(TamperedPackage, match=r"report\.html: has the sha256"):
        read_package(ship)
    assert list(tmp_path.iterdir()) == [ship]
