"""A router of fixed ways, and servers whose models have two versions behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
from connection_cases import listening
from server_cases import PRICES, predictor

from shipworthy.contract import Array, Arrays
from shipworthy.errors import ShipworthyError
from shipworthy.predict import Predictor
from shipworthy.predict.answers import Answers, Naming
from shipworthy.server import Settings
from shipworthy.server.access import Access
from shipworthy.server.app import assemble
from shipworthy.server.catalog import Catalog
from shipworthy.server.connections.protocol import Connection
from shipworthy.server.lane import Lane
from shipworthy.server.routing import Offered, Told

ARM = b"x-arm"


def total(feeds: Arrays) -> dict[str, Array]:
    return {"price": feeds["row"].sum(axis=1, keepdims=True)}


def version(
    number: str, run: Callable[[Arrays], dict[str, Array]] = total, *, quick: bool = True, given: Any = PRICES
) -> Predictor:
    """Answers with the sum of its row; a `quick` one does so on the event loop."""
    made = predictor(given, run)
    made.version = number
    made._answers = Answers(made.contract, version=number, variant=made.variant.id)
    if quick:
        case = SimpleNamespace(inputs={"row": np.zeros((1, 2), np.float32)})
        made.package.golden = SimpleNamespace(cases=[case])  # type: ignore[misc,assignment]
        made.costs = dict.fromkeys(made.batch_sizes, 1e-5)
    return made


class Part:
    """Notes what it is told."""

    ids = None

    def __init__(self, lane: Lane, trial: Trial) -> None:
        self.lane, self._trial = lane, trial

    def naming(self, instances: Sequence[object]) -> Naming:
        self._trial.named.append(list(instances))
        return lambda rows: [f"{self.lane.version}-{place}".encode() for place in range(len(rows))]

    def answered(self, total_s: float) -> None:
        self.unserved(200, total_s)

    def unserved(self, status: int, total_s: float, *, unanswered: bool = False) -> None:
        assert 0 <= total_s < 60
        self._trial.done.append((self.lane.version, status))
        self._trial.unanswered += unanswered


@dataclass
class Trial:
    """Sends a request to the version that its header names, and to the current one without."""

    lanes: Mapping[str, Lane]
    assigned: list[str] = field(default_factory=list)
    named: list[list[object]] = field(default_factory=list)
    done: list[tuple[str, int]] = field(default_factory=list)
    with_ids: list[bool] = field(default_factory=list)
    """Of each request that was assigned, whether its answers will have ids."""
    unanswered: int = 0
    """Requests to whose valid input the model had no answer."""

    @property
    def header(self) -> bytes:
        return ARM

    def draw(self) -> Part:
        return self.assign({})

    def assign(self, headers: Mapping[bytes, bytes], *, named: bool = True) -> Part:
        self.with_ids.append(named)
        wanted = headers.get(ARM, [*self.lanes][-1].encode()).decode()
        self.assigned.append(wanted)
        return Part(self.lanes[wanted], self)

    def forget(self) -> None:
        for seen in (self.assigned, self.named, self.done, self.with_ids):
            seen.clear()


class Ways:
    """A router whose models with several versions are on trial."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.trials: dict[str, Trial] = {}

    def naming(self, model: str, version: str) -> Naming | None:
        return lambda rows: [f"{model}:{version}".encode()] * len(rows)

    def experiment(self, model: str, lanes: Mapping[str, Lane]) -> Trial | None:
        self.asked.append((model, tuple(lanes)))
        self.trials.pop(model, None)
        if len(lanes) > 1:
            self.trials[model] = Trial(dict(lanes))
        return self.trials.get(model)


@dataclass
class Kept:
    """What becomes of a label: an outcome that it is told beforehand."""

    outcome: Any = "accepted"
    reason: str = ""


class Keeper:
    """Takes labels as it is told to."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[Told]]] = []
        self.outcomes: list[Kept] = []
        self.fails: Exception | None = None
        self.wait: Callable[[], object] = lambda: None

    def take(self, model: str, told: Sequence[Told]) -> Sequence[Kept]:
        self.wait()
        if self.fails is not None:
            raise self.fails
        self.told.append((model, list(told)))
        return self.outcomes[: len(told)] or [Kept()] * len(told)


class Nothing:
    """An upstream that has no models."""

    names: Sequence[str] = ()

    def offered(self, name: str) -> Sequence[Offered]:
        raise AssertionError(name)

    def refused(self, name: str, version: str, error: ShipworthyError) -> None:
        raise AssertionError(name)


class Seeing:
    """A watch that wants the rows it is told, and notes what it is shown."""

    def __init__(self, wants: Callable[[int], Sequence[int] | None] = range) -> None:
        self.ran = wants
        self.rows: list[tuple[Arrays, Arrays]] = []
        self.seconds: list[float] = []
        self.closed = False

    def take(self, feeds: Arrays, outputs: Arrays, row: int, seconds: float) -> None:
        self.rows.append(tuple({name: array[row].copy() for name, array in one.items()} for one in (feeds, outputs)))  # type: ignore[arg-type]
        self.seconds.append(seconds)

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class Seer:
    """An observer that sees everything, and shows what it is told to."""

    def __init__(self) -> None:
        self.watches: dict[tuple[str, str], Seeing] = {}
        self.unwatched: set[str] = set()
        self.views: list[dict[str, object]] = []
        self.acknowledged: list[tuple[str, str, str, str, int]] = []
        self.alarms: set[str] = set()
        self.fails: Exception | None = None

    def watch(self, model: str, predictor: Predictor) -> Seeing | None:
        if model in self.unwatched:
            return None
        return self.watches.setdefault((model, predictor.version), Seeing())

    def exposition(self, *, openmetrics: bool) -> bytes:
        return b"# TYPE watched gauge\nwatched 1.0\n" if openmetrics else b"watched 2.0\n"

    def view(self, model: str) -> Sequence[Mapping[str, object]]:
        return self.views

    def acknowledge(self, model: str, alarm: str, who: str, why: str, new_baseline: int = 0) -> bool:
        if self.fails is not None:
            raise self.fails
        self.acknowledged.append((model, alarm, who, why, new_baseline))
        return alarm in self.alarms


class Extras:
    """All of these, for one process."""

    def __init__(self, observer: Seer | None = None) -> None:
        self.upstream, self.router, self.feedback = Nothing(), Ways(), Keeper()
        self.observer = observer

    def begin(self, catalog: Catalog) -> None:
        """Nothing has to be followed."""

    def drain(self) -> None:
        """Nothing is tried."""

    async def end(self) -> None:
        """Nothing has to be told."""


def catalog_of(extras: Extras, *served: Predictor, **settings: Any) -> Catalog:
    catalog = Catalog(Settings(**settings), parts=extras)
    catalog.open([(one.contract.name, one) for one in served])
    return catalog


@dataclass
class Routed:
    """A server that runs, and its trial."""

    http: httpx.Client
    port: int
    trial: Trial
    catalog: Catalog
    tasks: list[str]
    """One entry for each task that a request needed."""

    def post(self, path: str, value: object, arm: str | None = None, **options: Any) -> httpx.Response:
        """What was seen of the requests before it is forgotten."""
        self.trial.forget()
        self.tasks.clear()
        headers = {**({} if arm is None else {ARM.decode(): arm}), **options.pop("headers", {})}
        return self.http.post(path, json=value, headers=headers, **options)


@contextmanager
def routed(monkeypatch: Any, *served: Predictor, token: str | None = None, **settings: Any) -> Iterator[Routed]:
    tasks: list[str] = []
    spawn = Connection.spawn

    def counted(connection: Connection, work: Any) -> None:
        tasks.append(work.__qualname__)
        spawn(connection, work)

    monkeypatch.setattr(Connection, "spawn", counted)
    extras = Extras()
    catalog = catalog_of(extras, *served, **settings)
    app = assemble(catalog, Access(token, loopback=False))
    with listening(app) as server, httpx.Client(base_url=server.url, timeout=20) as http:
        name = served[0].contract.name
        trial = extras.router.trials.get(name) or Trial({})
        given = {} if token is None else {"authorization": f"Bearer {token}"}
        http.post("/predict", json={"row": [1.0, 2.0]}, headers=given)
        trial.forget()
        yield Routed(http, server.port, trial, catalog, tasks)
