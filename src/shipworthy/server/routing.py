"""What other rooms put into a server: where models come from beside files, which version answers, what becomes of
labels, and who watches. A server without them asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from ..errors import ShipworthyError

if TYPE_CHECKING:
    from ..contract import Arrays
    from ..predict import Predictor
    from ..predict.answers import Naming
    from .catalog import Catalog
    from .lane import Lane


@dataclass(frozen=True, slots=True)
class Offered:
    """A version of a model that is to be served."""

    version: str
    path: Path
    """Its package."""
    spare: bool = False
    """Whether the model is served without it too, where it is refused."""


class Upstream(Protocol):
    """Models whose packages come from a registry. Called from threads; may wait for a network."""

    @property
    def names(self) -> Sequence[str]:
        """The models that are served from it."""

    def offered(self, name: str) -> Sequence[Offered]:
        """The versions of a model that are to be served, the current one last. Raises what keeps them from coming."""

    def trying(self, name: str, version: str) -> AbstractContextManager[None]:
        """A spare is opened in it, whose native code may end the process."""

    def refused(self, name: str, version: str, error: ShipworthyError) -> None:
        """A package was refused by this server; what is served stays."""


class Assigned(Protocol):
    """A request's part in an experiment."""

    @property
    def lane(self) -> Lane:
        """The version that answers it."""

    @property
    def ids(self) -> Naming | None:
        """Gives the id of its answer where it asks for one instance; None where `naming` does that too."""

    def naming(self, instances: Sequence[object]) -> Naming:
        """Gives the ids of its answers. `instances` are what it asked, as the codec takes them; from any thread."""

    @property
    def answered(self) -> Callable[[float], object]:
        """To be told once the model's answer was written, with the seconds since the request came."""

    def unserved(self, status: int, total_s: float, *, unanswered: bool = False) -> None:
        """It was refused, with this status of HTTP, `total_s` after it came; or its client left, with 499.

        `unanswered`: the input is valid, and the model has no answer to it."""


class Experiment(Protocol):
    """Several versions that share the requests of a model."""

    @property
    def header(self) -> bytes:
        """In lower case, of the key of a caller."""

    @property
    def draw(self) -> Callable[[], Assigned]:
        """What `assign` gives to a request that has no such header, whose answers will have ids."""

    def assign(self, headers: Mapping[bytes, bytes], *, named: bool = True) -> Assigned:
        """The version for a request, from its headers by name in lower case. Must return at once.

        `named`: its answers will have ids."""


class Router(Protocol):
    """Knows which version of a model answers, and how its predictions are named. Used on the event loop."""

    def naming(self, model: str, version: str) -> Naming | None:
        """Gives the ids of a version's answers where no experiment is on; None for random ones."""

    def experiment(self, model: str, lanes: Mapping[str, Lane]) -> Experiment | None:
        """What is to be tried with these versions, the current one last; None where that answers everything.

        Asked whenever other versions are served, and with none where the model was taken out."""


Outcome: TypeAlias = Literal["accepted", "duplicate", "contradictory", "late", "forged", "unknown-model", "unusable"]
"""What becomes of a label: kept; known already; other than the one that came first; kept, but too late for a rollout;
about an id that no server made, or one of another model; of no meaning for its model."""
Told: TypeAlias = tuple[str, object, float | None]
"""The id of a prediction, its label, or else its loss in [0, 1]."""


class Taken(Protocol):
    """What became of one label."""

    @property
    def outcome(self) -> Outcome: ...

    @property
    def reason(self) -> str:
        """Of a refusal; empty for others."""


class Feedback(Protocol):
    """Takes labels. Called from threads."""

    def take(self, model: str, told: Sequence[Told]) -> Sequence[Taken]:
        """What becomes of each. Raises ShipworthyError where they cannot be kept; of many some may be by then, and are
        duplicates when they are sent again."""


class Watch(Protocol):
    """Sees what one version answers. Called from the event loop and from threads."""

    @property
    def ran(self) -> Callable[[int], Sequence[int] | None]:
        """To be told of each batch that has run, with its number of rows: gives the places of those that are wanted,
        in their order, and None where none is. What the rows hold has no part in that. Costs next to nothing."""

    def take(self, feeds: Arrays, outputs: Arrays, row: int, seconds: float) -> None:
        """A wanted row: its place in inputs [n, ...] and outputs [n, ...] by name, which are views of memory that will
        be used again, and how long it waited and ran. Must return at once."""

    def close(self) -> None:
        """The version is served no more."""


class Observer(Protocol):
    """Watches what versions answer, beside the serving of requests."""

    def watch(self, model: str, predictor: Predictor) -> Watch | None:
        """None where there is nothing that it could be compared with. On the event loop."""

    def exposition(self, *, openmetrics: bool) -> bytes:
        """Its metrics in Prometheus' text format, or for a page of OpenMetrics, for the end of the server's own. From
        any thread."""

    def view(self, model: str) -> Sequence[Mapping[str, object]]:
        """What there is to see of each version of a model, as JSON. From any thread."""

    def acknowledge(self, model: str, alarm: str, who: str, why: str, new_baseline: int = 0) -> bool:
        """False where there is no such alarm; so many of the next rows are the reference from then on, where that is
        not 0. From any thread. Raises MonitorError where that cannot be told."""


class Parts(Protocol):
    """All of these, as one process has them. `observer` is asked from the first moment, before `begin`."""

    @property
    def upstream(self) -> Upstream | None:
        """None where all packages are files."""

    @property
    def router(self) -> Router | None:
        """None where each model has one version at a time."""

    @property
    def feedback(self) -> Feedback | None:
        """None where nobody wants labels."""

    @property
    def observer(self) -> Observer | None:
        """None where nobody watches."""

    def begin(self, catalog: Catalog) -> None:
        """The models are served from now on. On the event loop."""

    def drain(self) -> None:
        """The process was told to end: it answers what is in flight, and may be ended at any moment."""

    async def end(self) -> None:
        """Nothing is answered any more; what was seen is to be kept now."""
