"""The audit: is every byte, file and path of a package what its manifest says? Nothing is imported or executed here.

The order is fixed: DIGEST against manifest.json, the format number, the table of files, every file's size and hash, and
only then the meaning of what the manifest says."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ..errors import PackageError, TamperedPackage, UnknownFormat
from .format1 import first_fault, parse_manifest
from .manifest import FORMAT, FileEntry, Manifest
from .members import DIGEST, MANIFEST, check_members, folders_of
from .ship import ShipFile
from .tree import Folder, Tree, unreadable

# A manifest is read into memory before anything is known of it.
MAX_MANIFEST = 64 << 20

# One procedure per format number; those of older formats stay.
_PARSERS = {FORMAT: parse_manifest}

_FILES = TypeAdapter(dict[str, FileEntry])
_AGAIN = "get the package again from where it was built"


@dataclass(frozen=True, slots=True)
class Audited:
    """A package that is whole: its manifest, the sha256 of manifest.json, and all of its bytes."""

    manifest: Manifest
    digest: str
    size: int


@contextmanager
def open_tree(path: Path) -> Iterator[Tree]:
    """The members of a folder or of a `.ship` file. Raises PackageError where there is neither."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: the path has a NUL character
        raise unreadable(repr(str(path))[1:-1], error) from None
    if stat.S_ISDIR(mode):
        yield Folder(path)
    elif stat.S_ISREG(mode):
        with ShipFile(path) as ship:
            yield ship
    else:
        raise PackageError(str(path), "is neither a folder nor a .ship file")


def audit(tree: Tree, keep: Path | None = None) -> Audited:
    """Check a package whole, and copy its members into the folder `keep` while they are hashed.

    Raises TamperedPackage naming the file that is changed, missing, unlisted or misnamed; UnknownFormat; PackageError
    where the manifest itself makes no sense."""
    sizes = tree.sizes()
    where = f"{tree.where}/{MANIFEST}"
    text, digest = _manifest_bytes(tree, sizes)
    content = _parse_json(text, where)
    parse = _PARSERS.get(_format_of(content, where))
    if parse is None:
        raise UnknownFormat(
            tree.where,
            f"has format {content['format']}; this version reads {', '.join(map(str, _PARSERS))}",
            "update shipworthy",
        )
    files = _file_table(content, where)
    _compare_names(tree, sizes, files)
    for name, entry in files.items():
        _check_file(tree, name, entry, sizes[name], keep)
    if keep is not None:
        (keep / MANIFEST).write_bytes(text)
        (keep / DIGEST).write_text(f"{digest}\n", encoding="ascii")
    return Audited(parse(text, where), digest, sum(sizes.values()))


@dataclass(frozen=True, slots=True)
class Label:
    """What a package says of itself before it is audited."""

    name: str
    created: str
    digest: str
    """sha256 of manifest.json."""

    @property
    def version(self) -> str:
        """What a package that no registry has numbered is called by: the first digits of its digest."""
        return self.digest[:12]


def read_label(path: Path) -> Label:
    """The label of a folder or a `.ship` file: its manifest is what DIGEST says, and nothing else is looked at.

    Raises as `audit` does, for the manifest."""
    with open_tree(path) as tree:
        where = f"{tree.where}/{MANIFEST}"
        text, digest = _manifest_bytes(tree, tree.sizes())
        content = _parse_json(text, where)
    name, created = content.get("name"), content.get("created")
    if not (isinstance(name, str) and isinstance(created, str)):
        raise PackageError(where, "has no name or no date", "this is no package of shipworthy")
    return Label(name, created, digest)


def _manifest_bytes(tree: Tree, sizes: Mapping[str, int]) -> tuple[bytes, str]:
    for name in (MANIFEST, DIGEST):
        if name not in sizes:
            raise TamperedPackage(f"{tree.where}/{name}", "is missing", _AGAIN)
    if sizes[DIGEST] != 65:
        raise TamperedPackage(f"{tree.where}/{DIGEST}", "is not 64 hexadecimal digits and a line feed", _AGAIN)
    if sizes[MANIFEST] > MAX_MANIFEST:
        raise TamperedPackage(
            f"{tree.where}/{MANIFEST}", f"has {sizes[MANIFEST]} bytes, at most {MAX_MANIFEST} are read"
        )
    text = b"".join(tree.chunks(MANIFEST))
    stated = b"".join(tree.chunks(DIGEST))
    digest = hashlib.sha256(text).hexdigest()
    if stated != f"{digest}\n".encode("ascii"):
        raise TamperedPackage(
            f"{tree.where}/{MANIFEST}",
            f"has the sha256 {digest}, but {DIGEST} says {stated.decode('latin-1')!r}",
            _AGAIN,
        )
    return text, digest


def _parse_json(text: bytes, where: str) -> dict[str, object]:
    try:
        content = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise PackageError(where, f"is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise PackageError(where, "is no JSON object")
    return content


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return mapping


def _format_of(content: dict[str, object], where: str) -> int:
    number = content.get("format")
    if type(number) is not int:
        raise UnknownFormat(where, "says no format number", "this is no package of shipworthy")
    return number


def _file_table(content: dict[str, object], where: str) -> dict[str, FileEntry]:
    try:
        files = _FILES.validate_python(content.get("files"))
    except ValidationError as error:
        raise PackageError(where, f"its table of files is not valid: {first_fault(error)}") from None
    check_members(where, [*files, MANIFEST, DIGEST])
    return files


def _compare_names(tree: Tree, sizes: Mapping[str, int], files: Mapping[str, FileEntry]) -> None:
    for name in sorted(set(files) - set(sizes)):
        raise TamperedPackage(f"{tree.where}/{name}", "is missing", _AGAIN)
    for name in sorted(set(sizes) - set(files) - {MANIFEST, DIGEST}):
        raise TamperedPackage(f"{tree.where}/{name}", f"is not listed in {MANIFEST}", "remove it")
    for name in sorted(tree.folders() - folders_of(files)):
        raise TamperedPackage(f"{tree.where}/{name}", "is a folder without a member", "remove it")


def _check_file(tree: Tree, name: str, entry: FileEntry, size: int, keep: Path | None) -> None:
    where = f"{tree.where}/{name}"
    if size != entry.size:
        raise TamperedPackage(where, f"has {size} bytes, {MANIFEST} says {entry.size}", _AGAIN)
    hasher = hashlib.sha256()
    if keep is None:
        for chunk in tree.chunks(name):
            hasher.update(chunk)
    else:
        target = keep / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for chunk in tree.chunks(name):
                hasher.update(chunk)
                file.write(chunk)
    if hasher.hexdigest() != entry.sha256:
        raise TamperedPackage(where, f"has the sha256 {hasher.hexdigest()}, {MANIFEST} says {entry.sha256}", _AGAIN)
