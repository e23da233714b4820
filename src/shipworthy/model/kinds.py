"""What kind of file a model or its weights are in, found without executing any of it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import ModelError, UnsafePickle
from .pickles import PickleContents, read_pickle_imports

FileKind: TypeAlias = Literal["safetensors", "tensors", "torchscript", "exported", "onnx"]

_LEGACY_HEADER = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file of torch.save from before its zip format starts: a pickle of its magic number."""

_LFS_POINTER = b"version https://git-lfs"


def file_kind(path: Path) -> FileKind:
    """`tensors` is what torch.save writes of a state_dict or a checkpoint; the others are named as they are elsewhere.

    Raises ModelError where there is no such file or it is of no known kind, UnsafePickle where reading it would
    execute code."""
    _readable(path)
    if path.suffix == ".onnx":
        return "onnx"
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(_LFS_POINTER):
        raise ModelError(str(path), "is a Git LFS pointer, not the file itself", "fetch it with: git lfs pull")
    if path.suffix == ".safetensors" or head[8:10] == b'{"':
        return "safetensors"
    if _is_zip(path):
        return _zip_kind(path)
    if head[:1] == b"\x80":
        contents = _pickles(path, path.read_bytes())
        _refuse_module(path, contents)
        if not head.startswith(_LEGACY_HEADER):
            _refuse_plain_pickle(path, contents)
        return "tensors"
    raise ModelError(
        str(path),
        "is neither a state_dict, TorchScript, an ExportedProgram nor ONNX",
        "give a .safetensors, a .pt or .pth from torch.save(model.state_dict(), ...), a .pt2 or an .onnx file",
    )


def _readable(path: Path) -> None:
    if not path.exists():
        near = sorted(p.name for p in path.parent.glob("*") if p.suffix == path.suffix) if path.parent.is_dir() else []
        raise ModelError(
            str(path), "there is no such file", f"files beside it: {', '.join(near[:5])}" if near else "check the path"
        )
    if path.is_dir():
        raise ModelError(str(path), "is a folder, not a file", "name the file that holds the model or its weights")
    if path.stat().st_size == 0:
        raise ModelError(str(path), "is empty", "write it again: the save was interrupted")


def _zip_kind(path: Path) -> FileKind:
    names, pickle = _members(path)
    inner = {name.split("/", 1)[1] for name in names if "/" in name}
    if any(name.startswith("data/aotinductor/") for name in inner):
        raise ModelError(
            str(path),
            "is a compiled AOTInductor package, which cannot be exported again",
            "give the ExportedProgram it was compiled from (torch.export.save)",
        )
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return "exported"
    if any(name.startswith("code/") for name in inner):
        return "torchscript"
    if pickle is not None:
        _refuse_module(path, _pickles(path, pickle))
        return "tensors"
    raise ModelError(
        str(path),
        "is a zip archive, but not one that PyTorch wrote",
        "save it again with torch.save(model.state_dict(), ...) or torch.export.save(...)",
    )


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        # It ends like an archive whose other parts are elsewhere: a zip, and a damaged one.
        return True


def _members(path: Path) -> tuple[list[str], bytes | None]:
    """The names in the archive, and the pickle of torch.save where it has one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickle = next((name for name in names if name.endswith("/data.pkl")), None)
            return names, None if pickle is None else archive.read(pickle)
    except Exception as exc:  # zipfile raises much else besides BadZipFile for damaged headers
        raise ModelError(
            str(path), f"is a damaged archive ({exc or type(exc).__name__})", "copy or save it again"
        ) from exc


def _pickles(path: Path, data: bytes) -> PickleContents:
    try:
        return read_pickle_imports(data)
    except Exception as exc:  # pickletools raises whatever a damaged opcode leads it to
        raise ModelError(str(path), f"holds a damaged pickle ({exc})", "copy or save it again") from exc


def _refuse_module(path: Path, contents: PickleContents) -> None:
    """Refuse a whole module. What else a checkpoint holds is judged by torch's own safe reader."""
    if contents.whole_module:
        raise UnsafePickle(
            str(path),
            f"is a pickled whole module of class {(*contents.foreign, 'unknown')[0]}; reading it would execute code",
            "where the model is trained, save only its weights: torch.save(model.state_dict(), 'weights.pt'), "
            'and name what builds it in the contract: model = "module:callable"',
        )


def _refuse_plain_pickle(path: Path, contents: PickleContents) -> None:
    raise UnsafePickle(
        str(path),
        f"is a plain pickle that would import {', '.join(contents.imports[:5]) or 'nothing'}; "
        "reading it could execute code",
        "save only the tensors: torch.save(model.state_dict(), 'weights.pt')",
    )
