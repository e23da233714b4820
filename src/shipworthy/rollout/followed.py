"""The models of a registry that a server was told to serve, and what keeps a version from being served."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import RegistryError, ServeError, ShipworthyError
from ..registry import Reference, parse
from ..registry.names import CHAMPION
from ..registry.words import one_line
from ..server.routing import Offered

if TYPE_CHECKING:
    from ..registry import Registry
    from .deaths import Trying
    from .live import Router
    from .record import Rollout
    from .store import Rollouts

SAID = 2000
"""Characters of an error that the history keeps."""
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"

_LOG = logging.getLogger("shipworthy.rollout")


class Followed:
    """The models that were named, each with the version that its name means now. Called from threads."""

    def __init__(
        self, registry: Registry, rollouts: Rollouts, router: Router, trying: Trying, names: Sequence[str]
    ) -> None:
        """RegistryError where a name is none, ServeError where two name the same model."""
        self._registry, self._rollouts, self._router, self._trying = registry, rollouts, router, trying
        self._serves = False
        self._references: dict[str, Reference] = {}
        self._told: set[tuple[str, str, str]] = set()
        self._missing: dict[tuple[str, int], ShipworthyError] = {}
        """What kept a version of a model from coming when it was fetched; 0 for all of the model."""
        for name in names:
            reference = parse(name)
            if reference.model in self._references:
                both = f"{self._references[reference.model]} and {reference}"
                raise ServeError(f"model {reference.model!r}", f"is named twice: {both}", "serve one of them")
            self._references[reference.model] = reference

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._references)

    def begin(self) -> None:
        """What was offered is served: from now on also what a process has died of is."""
        self._serves = True

    def fetch(self, name: str) -> None:
        """Bring what is to be served of a model into the cache. What keeps it from coming is raised by `offered`, which
        asks for nothing again that was asked for just now: it is called where other models wait."""
        # Other models are fetched, and offered, by other threads at the same time.
        for one in [*self._missing]:
            if one[0] == name:
                self._missing.pop(one, None)
        try:
            champion, rollout = self._wanted(name)
            for number in _served(champion, rollout):
                try:
                    self._registry.pull(Reference(name, number=number))
                except ShipworthyError as error:
                    self._missing[name, number] = error
        except ShipworthyError as error:
            self._missing[name, 0] = error

    def offered(self, name: str) -> Sequence[Offered]:
        missing = self._missing.pop((name, 0), None)
        if missing is not None:
            raise missing
        champion, rollout = self._wanted(name)
        offered = [self._pulled(name, champion)]
        if rollout is None:
            self._router.running.pop(name, None)
            return offered
        self._router.running[name] = rollout
        if not self._serves and self._trying.is_deadly(rollout):
            _LOG.warning("model %r: version %d is tried once the server is ready", name, rollout.challenger)
            return offered
        for number in _served(champion, rollout)[1:]:
            try:
                offered.insert(0, self._pulled(name, number, spare=True))
            except ShipworthyError as error:
                _LOG.error("model %r: version %d is not tried here: %s", name, number, error)
        return offered

    def _wanted(self, name: str) -> tuple[int, Rollout | None]:
        """The version that the model's name means, and its rollout."""
        reference = self._references[name]
        version = self._registry.version(reference)
        return version.number, self._rollouts.active(name) if reference.alias == CHAMPION else None

    def _pulled(self, name: str, number: int, *, spare: bool = False) -> Offered:
        """A version, as it is served here. Raises what keeps it from coming, which is recorded."""
        missing = self._missing.pop((name, number), None)
        try:
            if missing is not None:
                raise missing
            return Offered(str(number), self._registry.pull(Reference(name, number=number)), spare=spare)
        except ShipworthyError as error:
            self.refused(name, str(number), error)
            raise

    @contextmanager
    def trying(self, name: str, version: str) -> Iterator[None]:
        rollout = self._router.running[name]
        self._trying.opens(rollout)
        try:
            yield
        except BaseException:
            self._trying.gives_up(rollout)
            raise

    def refused(self, name: str, version: str, error: ShipworthyError) -> None:
        """Recorded once for each kind of failure; a challenger that cannot be served has lost, but not one whose files
        are only out of reach."""
        # Not by its words: they may tell of measurements, which are others each time.
        said = name, version, f"{type(error).__name__} {getattr(error, 'culprit', '')}"
        why = storable(str(error))
        if said not in self._told:
            details = {"node": socket.gethostname(), "process": os.getpid()}
            with self._careful(name, version):
                self._registry.note(name, "load-failed", version=int(version), why=why, details=details)
                # Else it is told when it is refused again.
                self._told.add(said)
        rollout = self._router.running.get(name) if not isinstance(error, RegistryError) else None
        if rollout is not None and str(rollout.challenger) == version:
            with self._careful(name, version):
                self._rollouts.fail(rollout.id, f"a server refuses {name}:{version}: {why}")

    @contextmanager
    def _careful(self, name: str, version: str) -> Iterator[None]:
        try:
            yield
        except RegistryError as lost:
            _LOG.error("the registry was not told that %s:%s is refused: %s", name, version, lost)


def storable(text: str) -> str:
    """The words of an error as the registry takes them: on one line, not too long, with nothing that no text has."""
    plain = one_line("".join(_UNKNOWN if "\ud800" <= one <= "\udfff" else one for one in text))
    return plain if len(plain) <= SAID else plain[: SAID - 1] + "…"


def _served(champion: int, rollout: Rollout | None) -> Sequence[int]:
    """The champion, then what is tried beside it."""
    return (champion,) if rollout is None or rollout.champion != champion else (champion, rollout.challenger)
