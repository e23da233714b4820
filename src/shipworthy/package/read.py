"""Reading a package: audited whole, then its parts; a `.ship` file is unpacked into a private folder."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from ..contract import Contract
from ..errors import PackageError
from ..evidence import BuildRecord
from .audit import Audited, audit, open_tree
from .format1 import first_fault, reference_name
from .golden import Golden, read_golden
from .manifest import Manifest
from .members import ASSETS, EVIDENCE, GOLDEN
from .tree import Folder, told, unreadable


@dataclass(frozen=True, slots=True)
class Package:
    """A package that has passed the audit. A context manager: closing removes the private folder of a `.ship` file."""

    path: Path
    """What was opened: a folder or a `.ship` file."""
    root: Path
    """The folder with the members; absolute, so that it stays the same when the process changes its folder."""
    manifest: Manifest
    digest: str
    """sha256 of manifest.json: it names this package and no other."""
    size: int
    """Bytes of all members."""
    golden: Golden
    record: BuildRecord
    unpacked: tempfile.TemporaryDirectory[str] | None = None

    @property
    def contract(self) -> Contract:
        """The contract, with its paths relative to `root`."""
        return self.manifest.contract.model_copy(update={"root": self.root})

    @property
    def assets(self) -> Path:
        return self.root / ASSETS

    def reference(self, variant: str) -> Path | None:
        """The file of a variant's reference; None where the package has none for it."""
        name = reference_name(variant)
        return self.root / name if name in self.manifest.files else None

    def close(self) -> None:
        if self.unpacked is not None:
            self.unpacked.cleanup()

    def __enter__(self) -> Package:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_package(path: str | Path) -> Package:
    """Audit and open a package: a folder or a `.ship` file.

    Raises TamperedPackage naming the file that is not what the manifest says, UnknownFormat, or PackageError."""
    path = Path(path)
    with open_tree(path) as tree:
        if isinstance(tree, Folder):
            return _assemble(path, path.resolve(), audit(tree), None)
        unpacked = tempfile.TemporaryDirectory(prefix="shipworthy-")
        try:
            root = Path(unpacked.name).absolute()
            return _assemble(path, root, audit(tree, keep=root), unpacked)
        except OSError as error:
            unpacked.cleanup()
            remedy = "make room, or name another folder for temporary files in TMPDIR"
            raise PackageError(str(path), f"cannot be unpacked into {root}: {told(error)}", remedy) from None
        except BaseException:
            unpacked.cleanup()
            raise


def _assemble(path: Path, root: Path, audited: Audited, unpacked: tempfile.TemporaryDirectory[str] | None) -> Package:
    return Package(
        path=path,
        root=root,
        manifest=audited.manifest,
        digest=audited.digest,
        size=audited.size,
        golden=read_golden(root / GOLDEN, f"{path}/{GOLDEN}", audited.manifest.signature),
        record=_read_record(root / EVIDENCE, f"{path}/{EVIDENCE}"),
        unpacked=unpacked,
    )


def _read_record(file: Path, where: str) -> BuildRecord:
    try:
        return BuildRecord.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise PackageError(where, first_fault(error), "update shipworthy, or build the package again") from None
    except OSError as error:
        raise unreadable(where, error) from None
