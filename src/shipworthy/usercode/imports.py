"""Find what `module:callable` names, in the project that the contract stands in."""

from __future__ import annotations

import importlib
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from ..errors import ModelError, ShipworthyError
from .blame import raised_at

_LIBRARIES = ("stdlib", "platstdlib", "purelib", "platlib")
_INSTALLED = tuple(
    Path(path).resolve()
    for path in {*map(sysconfig.get_paths().get, _LIBRARIES), *site.getsitepackages(), site.getusersitepackages()}
    if path
)


@contextmanager
def importing_from(root: Path) -> Iterator[None]:
    """Let imports find `root` first, and nothing of another project that has modules of the same names.

    What is imported stays in sys.modules, so that the classes can be pickled; sys.path is put back."""
    root = root.resolve()
    before = list(sys.path)
    _forget_others(root)
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def running(root: Path, culprit: str, error: type[ShipworthyError] = ModelError) -> Iterator[None]:
    """Run the user's code as `importing_from` does; what it raises becomes an `error` that names its own line."""
    with importing_from(root):
        try:
            yield
        except ShipworthyError:
            raise
        except SystemExit as exc:
            remedy = 'put what only a script should run under if __name__ == "__main__":'
            raise error(culprit, f"ends the program (exit code {exc.code})", remedy) from exc
        except Exception as exc:  # a user's code may raise anything at all
            raise error(culprit, f"raises {raised_at(exc)}", "correct it, or run it in Python to see") from exc


def resolve(reference: str, root: Path, error: type[ShipworthyError] = ModelError) -> object:
    """The object that `module:attribute` names; the attribute may be dotted.

    Raises `error` where the module is not found or fails while it is imported, or has no such attribute."""
    module_name, _, attribute = reference.partition(":")
    if not attribute or not module_name:
        raise error(reference, "is not of the form module:callable", 'write for example "train:build_model"')
    with importing_from(root):
        found: object = _import(module_name, reference, root, error)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise _no_attribute(reference, found, part, error)
        found = getattr(found, part)
    return found


def _import(name: str, reference: str, root: Path, error: type[ShipworthyError]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(exc.name + ".")):
            raise _no_module(reference, name, root, error) from exc
        raise error(
            reference,
            f"{name} imports {exc.name!r}, which is not installed",
            f"install it, or run from the environment that {name} was written in",
        ) from exc
    except SyntaxError as exc:
        raise error(
            reference, f"{name} has a syntax error at {exc.filename}:{exc.lineno} ({exc.msg})", "correct the line"
        ) from exc
    except SystemExit as exc:
        raise error(
            reference,
            f"{name} ends the program while it is imported (exit code {exc.code})",
            'put what should only run as a script under if __name__ == "__main__":',
        ) from exc
    except Exception as exc:  # a user's module may raise anything at all while it is imported
        raise error(
            reference,
            f"{name} fails while it is imported: {raised_at(exc)}",
            "correct it, or import it in Python to see",
        ) from exc


def _no_module(reference: str, name: str, root: Path, error: type[ShipworthyError]) -> ShipworthyError:
    here = [p.stem for p in root.glob("*.py")] + [p.parent.name for p in root.glob("*/__init__.py")]
    near = get_close_matches(name, here, n=1)
    there = ", ".join(sorted(here)[:8]) or "no Python modules at all"
    hint = f"did you mean {near[0]!r}?" if near else f"the folder has {there}"
    return error(reference, f"there is no module {name!r} in {root.resolve()} or among the installed ones", hint)


def _no_attribute(reference: str, found: object, part: str, error: type[ShipworthyError]) -> ShipworthyError:
    names = [name for name in vars(found) if not name.startswith("_")] if hasattr(found, "__dict__") else []
    near = get_close_matches(part, names, n=1)
    own = ", ".join(name for name in names if callable(getattr(found, name)))
    owner = getattr(found, "__name__", type(found).__name__)
    hint = f"did you mean {near[0]!r}?" if near else f"what it has to call: {own or 'nothing'}"
    return error(reference, f"{owner} has no attribute {part!r}", hint)


def _forget_others(root: Path) -> None:
    """Drop from sys.modules what another folder put there under a name that `root` has too."""
    if not root.is_dir():
        return
    names = {p.stem for p in root.glob("*.py")} | {p.parent.name for p in root.glob("*/*.py")}
    for name in names & set(sys.modules):
        if isinstance(sys.modules[name], ModuleType) and _is_other_project(sys.modules[name], root):
            for loaded in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
                del sys.modules[loaded]


def _is_other_project(module: ModuleType, root: Path) -> bool:
    places = [
        Path(file).resolve() for file in (getattr(module, "__file__", None), *getattr(module, "__path__", ())) if file
    ]
    if module.__name__ in ("__main__", "shipworthy") or not places:
        return False
    return not any(place.is_relative_to(root) or _is_installed(place) for place in places)


def _is_installed(path: Path) -> bool:
    """Only the library folders count: an environment may lie inside a project, and a project inside a prefix."""
    return any(path.is_relative_to(folder) for folder in _INSTALLED)
