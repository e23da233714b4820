"""The promise: whatever is changed in a package, it is refused, and the file is named."""

from __future__ import annotations

import io
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipworthy.errors import PackageError, TamperedPackage
from shipworthy.package import read_package
from shipworthy.package.audit import audit, open_tree
from shipworthy.package.ship import ShipFile, ShipWriter

PLAIN = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refusal(path: Path) -> str:
    """What is said of a package that must be refused."""
    with pytest.raises(TamperedPackage) as caught, open_tree(path) as tree:
        audit(tree)
    return str(caught.value)


def members(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def flipped(file: Path, position: int, mask: int) -> Iterator[None]:
    """The file with one byte changed, and as it was afterwards."""
    with file.open("r+b") as handle:
        handle.seek(position)
        byte = handle.read(1)[0]
        handle.seek(position)
        handle.write(bytes([byte ^ mask]))
    try:
        yield
    finally:
        with file.open("r+b") as handle:
            handle.seek(position)
            handle.write(bytes([byte]))


@pytest.mark.long
def test_any_flipped_byte_of_any_file_is_refused_by_name(copy: Path, effort: float) -> None:
    step = round(1 / effort)
    tried = 0
    for file in members(copy):
        for position in range(tried % step, file.stat().st_size, step):
            with flipped(file, position, mask=1 + (position * 37) % 255):
                assert file.name in refusal(copy), f"byte {position} of {file}"
            tried += 1
    assert tried >= 10_000 * effort
    with open_tree(copy) as tree:
        audit(tree)


@pytest.mark.long
def test_any_flipped_byte_of_a_ship_file_is_refused_by_name(stored_ship: Path, tmp_path: Path, effort: float) -> None:
    ship = tmp_path / "copy.ship"
    shutil.copyfile(stored_ship, ship)
    with ShipFile(ship) as opened:
        spans = {name: (entry.offset, entry.end) for name, entry in opened._entries.items()}
    tried = 0
    for position in range(0, ship.stat().st_size, round(1 / effort)):
        inside = [name for name, (start, end) in spans.items() if start <= position < end]
        with flipped(ship, position, mask=1 + (position * 37) % 255):
            said = refusal(ship)
            assert (f"copy.ship/{inside[0]}" if inside else "copy.ship") in said, f"byte {position}"
        tried += 1
    assert tried >= 10_000 * effort


@pytest.mark.parametrize("form", ["stored", "stored_ship"])
@pytest.mark.long
def test_read_package_refuses_flipped_bytes(
    form: str, request: pytest.FixtureRequest, tmp_path: Path, effort: float
) -> None:
    source: Path = request.getfixturevalue(form)
    target = tmp_path / source.name
    files = members(Path(shutil.copytree(source, target))) if source.is_dir() else [Path(shutil.copy(source, target))]
    for number in range(int(400 * effort)):
        file = files[number % len(files)]
        position = (number * 7919) % file.stat().st_size
        with flipped(file, position, mask=0xFF), pytest.raises(TamperedPackage, match=file.name):
            read_package(target)


@PLAIN
@given(data=st.data())
def test_truncated_or_lengthened_file_is_refused_by_name(copy: Path, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(members(copy)))
    whole = file.read_bytes()
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start, len(whole)))
    added = data.draw(st.binary(min_size=0 if stop > start else 1, max_size=16))
    changed = whole[:start] + added + whole[stop:]
    if changed == whole:
        return
    file.write_bytes(changed)
    try:
        assert file.name in refusal(copy)
    finally:
        file.write_bytes(whole)


@PLAIN
@given(data=st.data())
def test_truncated_lengthened_or_garbage_ship_is_refused(
    stored_ship: Path, tmp_path: Path, data: st.DataObject
) -> None:
    whole = stored_ship.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    changed = whole[:start] + data.draw(st.binary(max_size=64)) + whole[stop:]
    if changed == whole:
        return
    ship = tmp_path / "broken.ship"
    ship.write_bytes(changed)
    assert "broken.ship" in refusal(ship)


NUMBERS = st.sampled_from([0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFE, 0xFFFF_FFFF]) | st.integers(
    0, 0xFFFF_FFFF
)


@settings(PLAIN, max_examples=300)
@given(data=st.data())
def test_edits_of_several_header_fields_are_refused(stored_ship: Path, tmp_path: Path, data: st.DataObject) -> None:
    whole = stored_ship.read_bytes()
    with ShipFile(stored_ship) as opened:
        local = [entry.offset for entry in opened._entries.values()]
        lengths = [46 + len(name) for name in opened._entries]
        start = max(entry.end for entry in opened._entries.values())
    central = [start + sum(lengths[:index]) for index in range(len(lengths))]
    # Checksum, both sizes, length of the name; of the directory also the offset; of the end its counts, size and start.
    fields = [at + field for at in local for field in (14, 18, 22, 26)]
    fields += [at + field for at in central for field in (16, 20, 24, 28, 42)]
    fields += [len(whole) - 22 + field for field in (8, 10, 12, 16)]
    changed = bytearray(whole)
    for at in data.draw(st.lists(st.sampled_from(fields), min_size=1, max_size=6)):
        width = 2 if at >= len(whole) - 14 and at < len(whole) - 10 else 4
        changed[at : at + width] = data.draw(NUMBERS).to_bytes(4, "little")[:width]
    if changed == whole:
        return
    ship = tmp_path / "edited.ship"
    ship.write_bytes(changed)
    assert "edited.ship" in refusal(ship)


def crafted(sizes: list[int], crcs: list[int]) -> bytes:
    """Members without bytes, a directory that gives them these sizes one behind the other, and an end that fits."""
    directory, offset = b"", 0
    for index, (size, crc) in enumerate(zip(sizes, crcs, strict=True)):
        name = f"m{index:03}".encode()
        head = (b"PK\1\2", (3 << 8) | 20, 20, 0, 0, 0, 33, crc, size, size, len(name), 0, 0, 0, 0, 0o100644 << 16)
        directory += struct.pack("<4s6H3I5H2I", *head, offset & 0xFFFF_FFFF) + name
        offset += 30 + len(name) + size
    count = len(sizes)
    return directory + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), 0, 0)


@PLAIN
@given(data=st.data())
def test_directories_with_sizes_of_any_kind_are_refused(tmp_path: Path, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(NUMBERS, min_size=1, max_size=5))
    ship = tmp_path / "crafted.ship"
    ship.write_bytes(crafted(sizes, [data.draw(NUMBERS) for _ in sizes]))
    assert "crafted.ship" in refusal(ship)


def test_a_member_beyond_the_limit_is_refused_by_name(tmp_path: Path) -> None:
    ship = tmp_path / "crafted.ship"
    ship.write_bytes(crafted([0xFFFF_FFF0, 1], [0, 0]))
    assert "crafted.ship/'m000': lies beyond the 4 GiB" in refusal(ship)
    with pytest.raises(PackageError, match="less than 4 GiB"):
        ShipWriter(io.BytesIO()).add("m000", 0xFFFF_FFF0, iter([]))


def test_no_number_of_a_header_escapes_as_an_error_of_struct(
    stored_ship: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ShipFile) -> None:
        struct.pack("<I", 1 << 32)

    monkeypatch.setattr(ShipFile, "_audit_headers", fail)
    with pytest.raises(TamperedPackage, match=r"format1\.ship: its headers hold a number"):
        ShipFile(stored_ship)


@PLAIN
@given(content=st.binary(max_size=400))
def test_garbage_is_no_ship(tmp_path: Path, content: bytes) -> None:
    ship = tmp_path / "garbage.ship"
    ship.write_bytes(content)
    assert "garbage.ship" in refusal(ship)


@PLAIN
@given(data=st.data())
def test_swapped_files_are_refused(copy: Path, data: st.DataObject) -> None:
    one, two = data.draw(st.lists(st.sampled_from(members(copy)), min_size=2, max_size=2, unique=True))
    aside = copy.parent / "aside"
    one.rename(aside), two.rename(one), aside.rename(two)
    try:
        said = refusal(copy)
        assert one.name in said or two.name in said
    finally:
        one.rename(aside), two.rename(one), aside.rename(two)


def test_renamed_file_is_refused(copy: Path) -> None:
    for file in members(copy):
        moved = file.with_name(file.name + "x")
        file.rename(moved)
        assert file.name in refusal(copy)
        moved.rename(file)


def test_missing_file_is_refused_by_name(copy: Path) -> None:
    for file in members(copy):
        content = file.read_bytes()
        file.unlink()
        assert f"{file.relative_to(copy).as_posix()}: is missing" in refusal(copy)
        file.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["extra.txt", "variants/onnxruntime-fp32/extra.py", "signature.json", "reference/a.bin"]
)
def test_unlisted_file_is_refused_by_name(copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_bytes(b"")
    assert f"{name}: is not listed" in refusal(copy)


def test_hidden_file_is_refused_by_name(copy: Path) -> None:
    (copy / ".hidden").write_bytes(b"")
    assert ".hidden" in refusal(copy)


def test_undecodable_name_is_refused(copy: Path) -> None:
    (copy / os.fsdecode(b"\xff\xfe")).touch()
    refusal(copy).encode()


def test_folder_without_members_is_refused(copy: Path) -> None:
    (copy / "variants" / "empty").mkdir()
    assert "variants/empty" in refusal(copy)


def test_very_deep_folders_are_refused(copy: Path) -> None:
    deep = copy
    for _ in range(400):
        deep = deep / "a"
        deep.mkdir()
    assert "a/a" in refusal(copy)


@pytest.mark.parametrize("to_folder", [False, True])
def test_symbolic_link_is_refused(copy: Path, tmp_path: Path, to_folder: bool) -> None:
    member = copy / "variants" if to_folder else copy / "card.md"
    elsewhere = tmp_path / "elsewhere"
    member.rename(elsewhere)
    member.symlink_to(elsewhere)
    assert f"{member.name}: is a symbolic link" in refusal(copy)


def test_named_pipe_is_refused_without_waiting(copy: Path) -> None:
    (copy / "card.md").unlink()
    os.mkfifo(copy / "card.md")
    assert "card.md: is no regular file" in refusal(copy)


def test_package_reached_by_a_link_is_read(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(copy)
    with read_package(tmp_path / "current") as package:
        assert package.manifest.name == "iris"


@pytest.mark.parametrize("kind", ["absent", "pipe"])
def test_no_package_at_all(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "nothing"
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(PackageError, match="nothing"):
        read_package(path)


def test_a_path_with_a_nul_character() -> None:
    with pytest.raises(PackageError, match="cannot be read: embedded null"):
        read_package("some\0where")


def test_unreadable_member_is_an_error_of_its_own(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: os.PathLike[str], *rest: int) -> int:
        if Path(path).name == "card.md":
            raise PermissionError(13, "Permission denied")
        return real(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PackageError, match=r"card\.md: cannot be read: Permission denied"):
        read_package(copy)
