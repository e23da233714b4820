"""A package that lies on an MLflow server as a version of the registry. Nothing that comes in is ever unpickled."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import RegistryError, TamperedPackage
from ...package import read_package
from ..names import ALIAS
from ..records import Event, Version
from ..registry import Registry
from .connection import Files, Server, reach
from .flavour import MLMODEL
from .source import DIGEST, GIT_COMMIT, Source, find

_SHIP = ".ship"
_PICKLES = frozenset({".pkl", ".pickle", ".cloudpickle", ".joblib", ".pth", ".pt", ".dill"})
_FLAVOURS = re.compile(r"^flavors:\n((?:[ \t].*\n?)*)", re.MULTILINE)
_FLAVOUR = re.compile(r"^  (\w+):", re.MULTILINE)
_MOST_FILES = 2000
"""That are looked through for a package; a run can hold any number of images."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What became of a pull."""

    version: Version
    source: Source
    created: bool
    """False where the registry had a version of the same package."""
    moved: tuple[Event, ...]
    """One for each alias that names the version now and did not before."""
    skipped: tuple[str, ...] = ()
    """Aliases that name the version there, and that a registry cannot have."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A package that was downloaded and audited, and is in no registry yet."""

    file: Path
    model: str
    """That its manifest names."""
    digest: str
    source: Source
    server: str
    """Its address without secrets."""
    aliases: tuple[str, ...]
    """Those that shall follow."""
    skipped: tuple[str, ...] = ()
    """Those that cannot, because no alias of a registry can be called that."""


def pull(registry: Registry, uri: str, *, source: str, aliases: bool = False) -> Pulled:
    """Register the package behind `models:/digits/3`, `models:/digits@champion` or `runs:/<id>/path` of the MLflow
    server at `source`; its model is the one that the package's manifest names.

    The new version has the tags `mlflow.uri`, `mlflow.server`, `mlflow.run_id` and `mlflow.version`. A package that the
    registry has already gets no second version. `aliases`: those that name the version there will name it here too, by
    compare-and-swap, but for those that no alias here can be called (`2024-best`, `_x`): the result names them.

    Raises RegistryError where there is no such thing, or what is there is no package; PackageError where the package is
    refused; Conflict where an alias was moved here meanwhile."""
    with fetch(uri, source=source, aliases=aliases) as fetched:
        return enter(registry, fetched)


@contextmanager
def fetch(uri: str, *, source: str, aliases: bool = False) -> Iterator[Fetched]:
    """The first half of `pull`, which needs no registry: find, download and audit. The file is there until the end."""
    with tempfile.TemporaryDirectory() as folder:
        with reach(source) as server:
            found = find(server, uri)
            wanted = found.aliases if aliases else ()
            follow = tuple(alias for alias in wanted if ALIAS.fullmatch(alias))
            skipped = tuple(alias for alias in wanted if alias not in follow)
            file = _download(server, found, Path(folder))
        with read_package(file) as package:
            model, digest = package.manifest.name, package.digest
        _check_tag(found, digest)
        yield Fetched(file, model, digest, found, server.shown, follow, skipped)


def enter(registry: Registry, fetched: Fetched) -> Pulled:
    """The second half of `pull`: register, unless the registry has the package, and move aliases."""
    found = fetched.source
    held = registry.with_digest(fetched.model, fetched.digest)
    version = held or registry.register(
        fetched.file,
        tags=_lineage(fetched),
        why=f"pulled from {found.uri} of {fetched.server}",
        # Empty for none: HEAD of this working folder has nothing to do with the package.
        git_commit=found.tags.get(GIT_COMMIT, ""),
    )
    moved = _follow(registry, version, fetched)
    return Pulled(registry.version(version.name), found, held is None, moved, fetched.skipped)


def _lineage(fetched: Fetched) -> dict[str, str]:
    source = fetched.source
    found = {
        "mlflow.uri": source.uri,
        "mlflow.server": fetched.server,
        "mlflow.run_id": source.run_id or "",
        "mlflow.version": "" if source.version is None else str(source.version),
    }
    return {key: value for key, value in found.items() if value}


def _follow(registry: Registry, version: Version, fetched: Fetched) -> tuple[Event, ...]:
    named = registry.aliases(version.model)
    return tuple(
        registry.move(
            version.model,
            alias,
            version.number,
            expected=named.get(alias),
            why=f"{alias} of {fetched.source.uri} on {fetched.server}",
        )
        for alias in fetched.aliases
        if named.get(alias) != version.number
    )


def _check_tag(source: Source, digest: str) -> None:
    told = source.tags.get(DIGEST)
    if told is not None and told != digest:
        raise TamperedPackage(
            source.uri,
            f"holds the package {digest[:12]}, but its tag {DIGEST} names {told[:12]}",
            "push the package to MLflow again",
        )


def _download(server: Server, source: Source, folder: Path) -> Path:
    """The only `.ship` file that lies there. Raises RegistryError where there is none, or several."""
    base, file = source.artifacts, ""
    if base.endswith(_SHIP):
        base, _, file = base.rpartition("/")
    files = server.files(base)
    if not file:
        listed = files.list(_MOST_FILES)
        packages = [path for path in listed if path.endswith(_SHIP)]
        if len(packages) > 1:
            some = ", ".join(packages[:4])
            remedy = f"name one of them: runs:/{source.run_id or 'RUN_ID'}/{packages[0]}"
            raise RegistryError(source.uri, f"holds {len(packages)} packages: {some}", remedy)
        if not packages:
            raise _no_package(source, files, listed, folder)
        file = packages[0]
    return files.fetch(file, folder)


def _no_package(source: Source, files: Files, listed: list[str], folder: Path) -> RegistryError:
    """The error that says what lies there instead."""
    remedy = "build a package from the model, where you trust it: shipworthy build, then shipworthy push"
    flavours = _flavours(files, listed, folder)
    found = f"a model of MLflow's flavour {' and '.join(flavours)}" if flavours else ", ".join(listed[:4]) or "nothing"
    pickle = next((path for path in listed if PurePosixPath(path).suffix in _PICKLES), None)
    danger = "" if pickle is None else f"; {pickle} is a pickle, which executes code when it is opened"
    return RegistryError(source.uri, f"holds no .ship package, but {found}{danger}", remedy)


def _flavours(files: Files, listed: list[str], folder: Path) -> list[str]:
    """What an MLmodel file names; the flavour that all have only where there is no other."""
    path = next((path for path in listed if PurePosixPath(path).name == MLMODEL), None)
    if path is None:
        return []
    text = files.fetch(path, folder).read_text(encoding="utf-8", errors="replace")
    block = _FLAVOURS.search(text)
    names = _FLAVOUR.findall(block[1]) if block else []
    return [name for name in names if name != "python_function"] or names
