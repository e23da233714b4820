"""Writing a package: built in a temporary folder beside its place, and moved there when it is whole."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from ..contract import Contract
from ..errors import PackageError
from ..evidence import BuildRecord
from ..signals import read_reference
from .audit import audit, open_tree
from .encoders import open_codec
from .format1 import manifest_bytes, parse_manifest, reference_name, tokenizers_of, variant_faults
from .golden import Golden, check_golden, save_golden
from .manifest import FileEntry, Manifest, Variant
from .members import ASSETS, CARD, DIGEST, EVIDENCE, GOLDEN, MANIFEST, REPORT, VARIANTS, misnamed
from .ship import ShipWriter
from .tree import CHUNK, Folder, told, unreadable


def write_package(
    directory: str | Path,
    *,
    contract: Contract,
    variants: Sequence[tuple[Variant, Path]],
    golden: Golden,
    record: BuildRecord,
    report_html: str,
    card: str,
    assets: Mapping[str, Path] | None = None,
    references: Mapping[str, Path] | None = None,
    replace: bool = False,
) -> Path:
    """Write a package of format 1 into `directory`, whole or not at all; the same input gives the same bytes.

    `variants` come in the order of preference, each with the folder of its files. `assets` are further files by their
    path below `assets/`; a tokenizer that the contract names is taken from there under the name it has in the contract,
    or else read where the contract says, and the packed contract points to it. `references` are files by the id of
    the variant that they were made with. With `replace`, a package that stands
    at `directory` gives way. Raises PackageError, and then nothing is changed."""
    directory = Path(directory)
    check_golden(golden, "golden", contract.signature)
    _check_place(directory, replace)
    build = _beside(directory, "part")
    with _writing(directory):
        build.mkdir(parents=True)
        try:
            packed = [_add_variant(build, variant, source) for variant, source in variants]
            contract_packed = _add_assets(build, contract, dict(assets or {}))
            _add_references(build, packed, references or {})
            save_golden(golden, build / GOLDEN)
            texts = {EVIDENCE: record.model_dump_json(indent=2) + "\n", REPORT: report_html, CARD: card}
            for name, text in texts.items():
                (build / name).write_text(text, encoding="utf-8", newline="\n")
            _seal(build, directory, contract, contract_packed, packed, record.created)
            _move(build, directory)
        finally:
            shutil.rmtree(build, ignore_errors=True)
    return directory


def write_ship(directory: str | Path, file: str | Path) -> Path:
    """Write the package in `directory` as one `.ship` file, whole or not at all; the package is audited first."""
    directory, file = Path(directory), Path(file)
    with open_tree(directory) as tree, _writing(file):
        audit(tree)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = _beside(file, "part")
        try:
            with part.open("xb") as out:
                writer = ShipWriter(out)
                for name, size in sorted(tree.sizes().items()):
                    writer.add(name, size, tree.chunks(name))
                writer.finish()
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    return file


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """A full disk or a folder that may not be written is the user's to mend, so it is no traceback."""
    try:
        yield
    except OSError as error:
        remedy = "choose another place, or make room and check the permissions"
        raise PackageError(str(target), f"cannot be written: {told(error)}", remedy) from None


def _check_place(directory: Path, replace: bool) -> None:
    if not directory.exists() and not directory.is_symlink():
        return
    if directory.is_dir() and not directory.is_symlink():
        inside = {path.name for path in directory.iterdir()}
        # Only what looks like a package may be removed, never a folder that was named by mistake.
        if not inside or (replace and {MANIFEST, DIGEST} <= inside):
            return
        if {MANIFEST, DIGEST} <= inside:
            raise PackageError(str(directory), "holds a package already", "choose another folder, or replace it")
    raise PackageError(str(directory), "exists and is no package", "choose another folder")


def _add_variant(build: Path, variant: Variant, source: Path) -> Variant:
    directory = f"{VARIANTS}/{variant.id}"
    if "/" in variant.id or misnamed(directory):
        raise PackageError(f"variant {variant.id!r}", "has an id that cannot be the name of a folder", "rename it")
    variant = variant.model_copy(update={"directory": directory})
    if (build / directory).exists():
        raise PackageError(f"variant {variant.id!r}", "occurs twice", "give each variant its own id")
    files = {f"{directory}/{file.relative_to(source).as_posix()}": file for file in source.rglob("*") if file.is_file()}
    for name, file in files.items():
        _copy(file, build / name)
    faults = variant_faults(variant, set(files))
    if faults:
        raise PackageError(f"variant {variant.id!r}", faults[0])
    return variant


def _add_references(build: Path, variants: Sequence[Variant], references: Mapping[str, Path]) -> None:
    known = [variant.id for variant in variants]
    for name, source in references.items():
        if name not in known:
            raise PackageError(f"reference {name!r}", f"is of no variant; they are {', '.join(known)}")
        target = build / reference_name(name)
        _copy(source, target)
        read_reference(target, str(source))


def _add_assets(build: Path, contract: Contract, assets: dict[str, Path]) -> Contract:
    """Copy the assets, and return the contract with its tokenizers pointing to them, which have been opened."""
    encodes = dict(contract.encode)
    for key, tokenizer in tokenizers_of(contract).items():
        source = assets.pop(tokenizer, contract.path(tokenizer))
        name = _plain(f"{key}-{Path(tokenizer).name}")
        encodes[key] = encodes[key].model_copy(update={"tokenizer": f"{ASSETS}/{name}"})
        assets[name] = source
    for name, source in assets.items():
        reason = misnamed(f"{ASSETS}/{name}")
        if reason is not None:
            raise PackageError(f"asset {name!r}", reason, "rename it")
        _copy(source, build / ASSETS / name)
    packed = contract.model_copy(update={"encode": encodes})
    open_codec(packed, build, f"the package of {contract.name!r}")
    return packed


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+@=~-]+", "_", name).strip(".") or "file"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise unreadable(str(source), error) from None


def _seal(
    build: Path, directory: Path, contract: Contract, packed: Contract, variants: Sequence[Variant], created: str
) -> None:
    """Write the manifest with every file's hash, and its digest."""
    if not variants:
        raise PackageError(str(directory), "has no variant", "give at least one")
    manifest = Manifest(
        name=contract.name,
        created=created,
        contract_digest=contract.digest,
        contract=packed,
        signature=packed.signature,
        variants=tuple(variants),
        files={name: _entry(build / name, size) for name, size in sorted(Folder(build).sizes().items())},
    )
    text = manifest_bytes(manifest)
    # What is written is read back by the reader's own rules, so that no package is born that none can open.
    parse_manifest(text, str(directory))
    (build / MANIFEST).write_bytes(text)
    (build / DIGEST).write_text(hashlib.sha256(text).hexdigest() + "\n", encoding="ascii", newline="\n")


def _entry(path: Path, size: int) -> FileEntry:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
    return FileEntry(sha256=hasher.hexdigest(), size=size)


def _move(build: Path, directory: Path) -> None:
    """Put the finished folder in its place; a package that stands there is set aside until then."""
    if not directory.exists():
        build.rename(directory)
        return
    old = directory.rename(_beside(directory, "old"))
    try:
        build.rename(directory)
    except BaseException:
        old.rename(directory)
        raise
    shutil.rmtree(old)


def _beside(path: Path, suffix: str) -> Path:
    """A new hidden name in the same folder, so that a rename is one step on one file system."""
    path = path.absolute()
    return path.with_name(f".{path.name}.{uuid4().hex[:12]}.{suffix}")
