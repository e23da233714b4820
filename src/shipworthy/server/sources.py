"""Where a server finds its packages: those that its operator named, those in its repository folder, and those of a
registry.

A name from a caller is only ever compared with the names that packages give themselves; it never becomes a path."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PackageError, ServeError, ShipworthyError
from ..package import Label, read_label
from .problems import NOT_FOUND, ProblemError

if TYPE_CHECKING:
    from ..predict import Predictor
    from .routing import Offered, Upstream

_LOG = logging.getLogger("shipworthy.server")


@dataclass(frozen=True, slots=True)
class Found:
    """The packages of one name: every version, the current one last, and a predictor of each that was opened."""

    versions: tuple[str, ...]
    opened: tuple[Predictor, ...]


class Sources:
    """Packages by the name of their model. Used from threads."""

    def __init__(
        self,
        packages: Sequence[str | Path],
        *,
        repository: str | Path | None = None,
        upstream: Upstream | None = None,
        open_package: Callable[..., Predictor],
    ) -> None:
        """`repository` is a folder whose entries are packages. `open_package` takes a path and, where it has one in a
        registry, its `version`. ServeError where the repository is no folder."""
        self._packages = tuple(map(Path, packages))
        self._repository = Path(repository) if repository is not None else None
        self._upstream = upstream
        self._open = open_package
        self._known: dict[Path, str] = {}
        self._changing = threading.Lock()
        if self._repository is not None and not self._repository.is_dir():
            raise ServeError(f"repository {repository}", "is no folder", "name the folder that has the packages")

    def names(self) -> tuple[str, ...]:
        """The names that were found when packages were last looked for."""
        upstream = self._upstream.names if self._upstream is not None else ()
        return tuple(dict.fromkeys((*self._known.values(), *upstream)))

    def look(self) -> None:
        """Look for packages anew; opens none. ServeError where the repository cannot be read."""
        self._labelled(patient=True)

    def has(self, package: Path) -> bool:
        """Whether it is one of those that were named."""
        return package in self._packages

    def add(self, package: Path) -> str:
        """Know another package from now on; gives its name. Raises PackageError where it has none."""
        name = read_label(package).name
        if package not in self._packages:
            self._packages = (*self._packages, package)
        with self._changing:
            self._known[package] = name
        return name

    def remove(self, package: Path) -> None:
        """Know it no longer, where it was named."""
        self._packages = tuple(one for one in self._packages if one != package)

    def open_all(self, unwanted: Callable[[], bool]) -> list[Predictor]:
        """A predictor for every package, the current version of a name last; none where they become `unwanted` while
        they are opened. Raises what refuses a package; then none stays open."""
        with ExitStack() as opened:
            predictors = []
            for path, _ in self._labelled():
                if unwanted():
                    return []
                predictors.append(opened.enter_context(self._open(path)))
            for name in self._upstream.names if self._upstream is not None else ():
                found = self._open_offered(name, (), unwanted)
                predictors += [opened.enter_context(predictor) for predictor in found.opened]
            if unwanted():
                return []
            opened.pop_all()
        return predictors

    def open(self, name: str, *, served: Container[str]) -> Found:
        """The packages of one name, those opened whose version is not `served` yet.

        Raises ProblemError where there is none, and what refuses a package; then none stays open."""
        if self._upstream is not None and name in self._upstream.names:
            return self._open_offered(name, served, lambda: False)
        found = [(path, label) for path, label in self._labelled(name) if label.name == name]
        if not found:
            raise ProblemError(NOT_FOUND, f"the server has no package of the name {name[:80]!a}")
        versions: dict[str, Predictor | None] = {}
        with ExitStack() as opened:
            for path, label in found:
                if label.version in served:
                    versions[label.version] = None
                elif label.version not in versions:
                    predictor = opened.enter_context(self._open(path))
                    # The file may have been replaced since its label was read.
                    if predictor.version in served:
                        versions[predictor.version] = None
                    if versions.setdefault(predictor.version, predictor) is not predictor:
                        predictor.close()
            opened.pop_all()
        return Found(tuple(versions), tuple(predictor for predictor in versions.values() if predictor is not None))

    def _open_offered(self, name: str, served: Container[str], unwanted: Callable[[], bool]) -> Found:
        """The same for a model of a registry; no further ones from when they become `unwanted`."""
        assert self._upstream is not None
        all_offered = self._upstream.offered(name)
        versions: dict[str, Predictor | None] = {}
        with ExitStack() as opened:
            # The spare ones last: one may end the process, and is not to be tried for a model that is refused.
            for offered in sorted(all_offered, key=lambda one: one.spare):
                if offered.version in served:
                    versions[offered.version] = None
                elif not unwanted() and (predictor := self._taken(name, offered)) is not None:
                    versions[offered.version] = opened.enter_context(predictor)
            opened.pop_all()
        found = {one.version: versions[one.version] for one in all_offered if one.version in versions}
        return Found(tuple(found), tuple(predictor for predictor in found.values() if predictor is not None))

    def _taken(self, name: str, offered: Offered) -> Predictor | None:
        """A version that was offered; None where it is refused, and the model is served without it."""
        assert self._upstream is not None
        try:
            with self._upstream.trying(name, offered.version) if offered.spare else nullcontext():
                return self._open(offered.path, version=offered.version)
        except ShipworthyError as error:
            self._upstream.refused(name, offered.version, error)
            if not offered.spare:
                raise
            _LOG.error("model %r: version %s is not served: %s", name, offered.version, error)
            return None

    def _labelled(self, wanted: str | None = None, *, patient: bool = False) -> list[tuple[Path, Label]]:
        """The operator's own packages as they were named, then those of the folder, oldest first.

        One of the operator's own that cannot be read is refused, unless it had another name than the `wanted` one, or
        any name and this is `patient`."""
        own = []
        for path in self._packages:
            try:
                own.append((path, read_label(path)))
            except PackageError:
                had = self._known.get(path)
                if had is None or not (patient or (wanted is not None and had != wanted)):
                    raise
        labelled = [*own, *sorted(self._in_repository(), key=lambda item: (item[1].created, item[1].digest))]
        # One of the operator's own that cannot be read now keeps the name that it had.
        with self._changing:
            kept = {path: name for path, name in self._known.items() if path in self._packages}
            self._known = kept | {path: label.name for path, label in labelled}
        return labelled

    def _in_repository(self) -> Iterator[tuple[Path, Label]]:
        if self._repository is None:
            return
        try:
            entries = sorted(self._repository.iterdir())
        except OSError as error:
            remedy = "put the folder back, or start the server with another one"
            raise ServeError(f"repository {self._repository}", f"cannot be read: {error.strerror}", remedy) from error
        for path in entries:
            if path.name.startswith("."):
                continue
            try:
                yield path, read_label(path)
            except PackageError as error:
                # A file may be there that is still being copied. What is asked for by name is then not found.
                _LOG.warning("passed over in the repository: %s", error)
