"""The models that a server has, their versions, and whether it may be asked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from ..errors import ServeError, ShipworthyError
from ..runtime.host import this_host
from .dispatch import Dispatcher
from .lane import Lane
from .observe.metrics import Metrics
from .problems import NOT_FOUND, NOT_READY, RETRY_AFTER, ProblemError
from .settings import Settings

if TYPE_CHECKING:
    from ..predict import Predictor
    from .observe.protocol import Recorder
    from .routing import Experiment, Feedback, Observer, Parts, Router
    from .sources import Found, Sources

T = TypeVar("T")
State: TypeAlias = Literal["starting", "healthy", "draining"]
ModelState: TypeAlias = Literal["READY", "LOADING", "UNAVAILABLE"]


@dataclass(slots=True, eq=False)
class Model:
    """A name that is served."""

    name: str
    versions: dict[str, Lane] = field(default_factory=dict)
    """In the order in which they were taken up."""

    @property
    def current(self) -> Lane:
        """The version that answers where none is named: the one that was taken up last."""
        return next(reversed(self.versions.values()))


@dataclass(frozen=True, slots=True)
class Entry:
    """A version of a model that the server knows of."""

    name: str
    version: str
    state: ModelState
    reason: str = ""


class Catalog:
    """Models by name. Used on one event loop; packages are read and proven in threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        metrics: Recorder | None = None,
        sources: Sources | None = None,
        parts: Parts | None = None,
        cores: float | None = None,
    ) -> None:
        """`cores` are those that this process may use; by default all of the host."""
        self.settings = settings
        self.metrics: Recorder = metrics or Metrics()
        self.sources = sources
        """Where packages are looked for; None where the predictors were handed over."""
        self.feedback: Feedback | None = parts.feedback if parts is not None else None
        """Takes labels; None where nobody wants them."""
        self.observer: Observer | None = parts.observer if parts is not None else None
        """Watches what is answered; None where nobody does."""
        self._router: Router | None = parts.router if parts is not None else None
        self._experiments: dict[str, Experiment] = {}
        self.state: State = "starting"
        self.parting = False
        self.models: dict[str, Model] = {}
        self.command: Callable[[Literal["load", "unload"], str], Awaitable[None]] = self._carry_out
        """What management routes call; a supervisor puts its own here, which reaches every worker."""
        self._dispatcher = Dispatcher(this_host().cores if cores is None else cores)
        self._decoders = ThreadPoolExecutor(settings.decoders, thread_name_prefix="shipworthy-decode")
        self.metrics.ready = lambda: self.ready
        self.metrics.models_loaded = lambda: len(self.models)
        self.changed: Callable[[], None] = lambda: None
        """Called when other lanes are served; whoever keeps them by path forgets them."""
        self._failed: set[str] = set()
        self._lock = asyncio.Lock()
        self._loading: str | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        """Packages that are being loaded, and lanes that end."""

    @property
    def ready(self) -> bool:
        return self.state == "healthy"

    @property
    def lanes(self) -> dict[str, Lane]:
        """The current version of each model."""
        return {name: model.current for name, model in self.models.items()}

    def open(self, predictors: Iterable[tuple[str, Predictor]]) -> None:
        """Serve these by name from now on; of several with one name the last is the current version.

        ServeError where there is none, and where two are the same version of a model."""
        for name, predictor in predictors:
            version = predictor.version
            versions = self.models.setdefault(name, Model(name)).versions
            if version in versions:
                raise ServeError(f"model {name!r}", f"has version {version} twice", "name each package once")
            versions[version] = self._lane(name, predictor)
        for name in self.models:
            self.reroute(name)
        if not self.models:
            raise ServeError("server", "has no model", "name at least one package")
        self.state = "healthy"

    def lane(self, name: str | None, version: str | None = None) -> Lane:
        """The lane of a model, of the only one where no name is given; its current version where none is."""
        model = self.models.get(name) if name is not None else None
        if model is None:
            model = self._found(name)
        if version is None:
            return model.current
        if version not in model.versions:
            known = ", ".join(map(repr, model.versions))
            raise ProblemError(NOT_FOUND, f"{model.name!r} has no version {version[:80]!a}; there is {known}")
        return model.versions[version]

    def experiment(self, name: str) -> Experiment | None:
        """What is tried with the versions of a model; None where its current version answers everything."""
        return self._experiments.get(name)

    def reroute(self, name: str) -> None:
        """Other versions of a model are served, or the same ones in another way."""
        self._experiments.pop(name, None)
        model = self.models.get(name)
        if self._router is not None:
            experiment = self._router.experiment(name, {} if model is None else model.versions)
            if experiment is not None:
                self._experiments[name] = experiment
        self.changed()

    async def load(self, name: str) -> Lane:
        """Read the packages of this name anew, beside what is served; they take over when they are proven.

        A version that is served already stays as it is. Raises ProblemError where no package has the name, and what
        refuses a package; then all stays as it was."""
        if self.sources is None:
            raise ProblemError(NOT_FOUND, "this server was given its models, and knows of no packages")
        # What was opened has to be served or closed, also where the one who asked for it has left.
        return await asyncio.shield(self._begin(self._load(name, self.sources)))

    async def unload(self, name: str) -> None:
        """Take the model out, finish what it was asked, and free it. ProblemError where there is none."""
        async with self._lock:
            if name not in self.models:
                self._found(name)
            model = self.models.pop(name)
            self.reroute(name)
            retiring = [self._begin(self._retire(lane)) for lane in model.versions.values()]
        for retired in retiring:
            await asyncio.shield(retired)

    def index(self) -> list[Entry]:
        """Every version that is served, and every model that could not be loaded or was taken out."""
        entries = [Entry(name, version, "READY") for name, model in self.models.items() for version in model.versions]
        for name in self.sources.names() if self.sources is not None else ():
            if name == self._loading:
                entries.append(Entry(name, "", "LOADING"))
            elif name in self._failed:
                # The reason is in the server's log: it may name files of the host.
                entries.append(Entry(name, "", "UNAVAILABLE", "failed to load"))
            elif name not in self.models:
                entries.append(Entry(name, "", "UNAVAILABLE", "unloaded"))
        return entries

    def drain(self) -> None:
        """Say that no more requests should come; those that do are still answered."""
        self.state = "draining"

    def part(self) -> None:
        """From now on, ask every client to leave its connection."""
        self.parting = True

    async def close(self, within_s: float = math.inf) -> list[str]:
        """Give up what waits, finish what runs, and take no more. The predictors stay open.

        The models whose engine, or the registry that was asked for them, has not come back `within_s` seconds, in
        which nothing can be freed."""
        self.state = "draining"
        while self._tasks:
            _, hung_tasks = await asyncio.wait(self._tasks, timeout=None if math.isinf(within_s) else within_s)
            if hung_tasks:
                return [self._loading or "versions that were replaced"]
        lanes = [lane for model in self.models.values() for lane in model.versions.values()]
        ended = await asyncio.gather(*(lane.close(within_s) for lane in lanes))
        hung = [lane.model for lane, has in zip(lanes, ended, strict=True) if not has]
        if not hung:
            await asyncio.to_thread(self._decoders.shutdown)
        return hung

    async def _carry_out(self, verb: Literal["load", "unload"], name: str) -> None:
        if verb == "load":
            await self.load(name)
        else:
            await self.unload(name)

    async def _load(self, name: str, sources: Sources) -> Lane:
        async with self._lock:
            self._loading = name
            served = self.models[name].versions if name in self.models else {}
            try:
                found = await asyncio.to_thread(sources.open, name, served=served)
            except ShipworthyError:
                self._failed.add(name)
                raise
            finally:
                self._loading = None
            self._failed.discard(name)
            if self.state == "draining":
                for predictor in found.opened:
                    await asyncio.to_thread(predictor.close)
                raise ProblemError(NOT_READY, "the server is stopping", headers=RETRY_AFTER)
            return self._replace(name, found)

    def _replace(self, name: str, found: Found) -> Lane:
        """Let the versions that were found be those that are served, between two batches."""
        before = self.models.get(name, Model(name))
        opened = {predictor.version: predictor for predictor in found.opened}
        after = Model(name)
        for version in found.versions:
            kept = before.versions.get(version)
            after.versions[version] = kept if kept is not None else self._lane(name, opened[version])
        self.models[name] = after
        self.reroute(name)
        for version, lane in before.versions.items():
            if version not in after.versions:
                self._begin(self._retire(lane))
        return after.current

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _lane(self, name: str, predictor: Predictor) -> Lane:
        metrics = self.metrics.lane(name, predictor.version)
        naming = None if self._router is None else self._router.naming(name, predictor.version)
        watch = None if self.observer is None else self.observer.watch(name, predictor)
        return Lane(name, predictor, self._dispatcher, self._decoders, self.settings, metrics, naming, watch)

    async def _retire(self, lane: Lane) -> None:
        await lane.drain()
        await lane.close()
        await asyncio.to_thread(lane.predictor.close)

    def _found(self, name: str | None) -> Model:
        if self.state == "starting":
            raise ProblemError(NOT_READY, "the models are being loaded", headers=RETRY_AFTER)
        known = ", ".join(map(repr, self.models))
        if name is not None or not self.models:
            named = f"no model {name[:80]!a}" if name is not None else "no model"
            raise ProblemError(NOT_FOUND, f"there is {named}" + (f"; there is {known}" if known else ""))
        if len(self.models) != 1:
            raise ProblemError(NOT_FOUND, f"several models are served; use /models/{{model}}/predict: {known}")
        return next(iter(self.models.values()))
