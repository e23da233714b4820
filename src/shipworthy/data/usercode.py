"""The user's own code that gives data: found by `module:callable`, called, and its errors put into words."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from ..contract import Reference
from ..contract.faults import nearest
from ..errors import DataError


@contextmanager
def project_code(root: Path, culprit: str) -> Iterator[None]:
    """Run the user's code with its folder first on the import path. What it raises becomes a DataError."""
    folder = str(root.resolve())
    sys.path.insert(0, folder)
    try:
        yield
    except DataError:
        raise
    except SystemExit as error:
        remedy = 'put what only a script should run under if __name__ == "__main__":'
        raise DataError(culprit, f"ends the program (exit code {error.code})", remedy) from error
    # It is the user's code: it may raise anything.
    except Exception as error:
        raise DataError(culprit, f"raises {raised(error, root)}", "correct it, or run it in Python to see") from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def imported(reference: Reference, root: Path) -> object:
    """What a reference names; its module may lie in `root` or be installed.

    Raises DataError where there is no such module or attribute, or where importing fails."""
    _forget_namesake(reference.module, root.resolve())
    with project_code(root, str(reference)):
        try:
            found: object = importlib.import_module(reference.module)
        except ModuleNotFoundError as error:
            if error.name is None or not reference.module.startswith(error.name):
                raise
            near = nearest(reference.module, sorted(file.stem for file in root.glob("*.py")))
            reason = f"there is no module {reference.module!r} in {root.resolve()} or among the installed ones"
            raise DataError(str(reference), reason, f"write {near}:{reference.attribute}" if near else "") from None
        for part in reference.attribute.split("."):
            if not hasattr(found, part):
                near = nearest(part, [name for name in dir(found) if not name.startswith("_")])
                raise DataError(str(reference), f"has no {part!r}", f"write {near!r}" if near else "")
            found = getattr(found, part)
    return found


def raised(error: BaseException, root: Path) -> str:
    """`ValueError at train.py:12: message`, where the line is the last one that is the project's own."""
    inside = root.resolve()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if inside in Path(frame.filename).parents]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    message = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}{place}" + (f": {message}" if message else "")


def _forget_namesake(module: str, root: Path) -> None:
    """Drop a loaded module of this name that another folder gave, where `root` has one of its own."""
    top = module.partition(".")[0]
    loaded = sys.modules.get(top)
    own = (root / f"{top}.py").is_file() or (root / top).is_dir()
    if not own or not isinstance(loaded, ModuleType):
        return
    places = [getattr(loaded, "__file__", None), *getattr(loaded, "__path__", ())]
    if not any(place and root in Path(place).resolve().parents for place in places):
        for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
            del sys.modules[name]
        importlib.invalidate_caches()
