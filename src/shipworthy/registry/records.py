"""What a registry answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..contract import Array
    from ..contract.spec import TaskKind


@dataclass(frozen=True, slots=True)
class Version:
    """One registered package. Nothing of it changes later but `deleted` and `aliases`."""

    model: str
    number: int
    """1, 2, 3 ... in the order of registration, without gaps."""
    digest: str
    """sha256 of the package's manifest."""
    created: datetime
    """UTC."""
    who: str
    git_commit: str | None
    """HEAD where the package was registered, with a `+` where tracked files differed from it; None outside of git."""
    parent: int | None
    """The version that this one was made from, if that was said."""
    contract_digest: str
    parameters: int | None
    """Of the chosen variant, where its evidence counts them."""
    metrics: Mapping[str, float]
    """Figures of the chosen variant: see `figures.figures_of`."""
    tags: Mapping[str, str]
    why: str
    deleted: datetime | None = None
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.model}:{self.number}"


@dataclass(frozen=True, slots=True)
class Model:
    """A name that has versions."""

    name: str
    versions: int
    """How many are not deleted."""
    newest: int | None
    """The highest number that is not deleted."""
    aliases: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. Events are never changed or removed."""

    number: int
    """1, 2, 3 ... in the order in which they were committed, without gaps."""
    at: datetime
    """UTC; never before the event with the number below."""
    model: str
    kind: str
    """`registered`, `alias-moved`, `deleted`, or what another room notes, such as `load-failed`."""
    version: int | None = None
    """For a moved alias what it names now; None where it was taken away."""
    alias: str | None = None
    previous: int | None = None
    """What the alias named before."""
    why: str = ""
    who: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Live:
    """What an alias named at some time."""

    model: str
    alias: str
    version: int
    since: datetime
    why: str
    who: str
    event: int
    """Number of the event that made it so."""

    @property
    def name(self) -> str:
        return f"{self.model}:{self.version}"


@dataclass(frozen=True, slots=True)
class Freed:
    """What `gc` removed, or would remove."""

    packages: tuple[str, ...]
    """Digests."""
    blobs: tuple[str, ...]
    """sha256 of each."""
    size: int
    """Bytes of the blobs, with those of leftover parts."""
    dry_run: bool


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """How wrong a version's answers were, from all labels that ever came, by the time of the answer."""

    kind: TaskKind
    """The model's task: what a loss is."""
    error_scale: float | None
    """Regression: the absolute error that is a whole loss; None where nothing says how large errors are."""
    since: float
    """When the version was registered, seconds since 1970."""
    begins: Array
    """int64 [spans], rising: when each span of time begins, in seconds since 1970. The last days are cut into hours,
    those before into days; 0 stands for all before them."""
    counts: Array
    """int64 [spans, 101]: labels with a loss of 0, of ((k - 1)/99, k/99] for each k from 1 to 99, and of 1."""
    unknown: int
    """Labels of which no loss can be said."""
