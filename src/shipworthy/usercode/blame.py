"""Which line and which layer of the user's own an exception or a call came from."""

from __future__ import annotations

import linecache
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

_NOT_OURS = tuple(
    {
        str(Path(path).resolve())
        for path in map(sysconfig.get_paths().get, ("stdlib", "platstdlib", "purelib", "platlib"))
        if path
    }
)
_HERE = str(Path(__file__).resolve().parents[1])


def is_user_file(name: str) -> bool:
    """Neither of an installed package, nor of this one's rooms that run models, nor made up by Python."""
    return not name.startswith("<") and "site-packages" not in name and not name.startswith((*_NOT_OURS, _HERE))


def user_line(exc: BaseException) -> str | None:
    """`train.py:12 in forward: if x.sum() > 0:` of the last line of the user's own that led to `exc`."""
    last = None
    for frame, line in _traceback(exc.__traceback__):
        if is_user_file(frame.f_code.co_filename):
            last = (frame.f_code.co_filename, line, frame.f_code.co_name)
    return None if last is None else describe_line(*last)


def raised_at(exc: BaseException) -> str:
    """`ValueError at train.py:12: the message`, in one line."""
    line = user_line(exc)
    where = f" at {line.split(' in ')[0]}" if line else ""
    first = (str(exc).strip().split("\n") or [""])[0]
    return f"{type(exc).__name__}{where}" + (f": {first}" if first else "")


def describe_line(file: str, line: int, function: str = "") -> str:
    code = linecache.getline(file, line).strip()
    inside = f" in {function}" if function else ""
    return f"{Path(file).name}:{line}{inside}" + (f": {code}" if code else "")


def calling_line() -> str | None:
    """The innermost line of the user's own on the current stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_user_file(frame.f_code.co_filename):
            return describe_line(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return None


def layer_of(exc: BaseException) -> str | None:
    """`body.0 (Linear(in_features=4, out_features=8, bias=True))`: the innermost module in which `exc` was raised.

    The path starts at the outermost module on the traceback."""
    nn = getattr(sys.modules.get("torch"), "nn", None)
    if nn is None:
        return None
    modules = [frame.f_locals["self"] for frame, _ in _traceback(exc.__traceback__) if "self" in frame.f_locals]
    modules = [module for module in modules if isinstance(module, nn.Module)]
    if not modules:
        return None
    root, inner = modules[0], modules[-1]
    path = next((name for name, module in root.named_modules() if module is inner), "")
    first = repr(inner).split("\n")[0].rstrip("( ")
    return f"{path or 'the model itself'} ({first})"


def _traceback(start: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while start is not None:
        yield start.tb_frame, start.tb_lineno
        start = start.tb_next
